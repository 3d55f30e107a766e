"""What the three functions share: their environment, their errors, and the lines that they log."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError
from twinops.aws.clients import client
from twinops.errors import TwinopsError
from twinops.names import Names


class DispatchError(TwinopsError):
    """A run could not be started: says what happened and what to do next."""


class Context(Protocol):
    """What we use of the context object that Lambda hands to a handler."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int: ...


@dataclass(frozen=True)
class Settings:
    """The functions' environment (docs/interfaces.md, "Event -> dispatcher")."""

    env: str
    ledger_table: str
    twin: str
    topic_arn: str

    @classmethod
    def from_environment(cls) -> Settings:
        names = ("TWINOPS_ENV", "LEDGER_TABLE", "TWIN", "TOPIC_ARN")
        missing = [name for name in names if not os.environ.get(name)]
        if missing:
            raise DispatchError(f"function environment: {', '.join(missing)}: expected a value, it is missing")
        return cls(*(os.environ[name] for name in names))


def publish(settings: Settings, data: list[dict[str, Any]]) -> None:
    """Metrics, for alarms; that they are away must not keep a run from starting."""
    try:
        namespace = Names(settings.env).metric_namespace
        client("cloudwatch").put_metric_data(Namespace=namespace, MetricData=data)
    except (BotoCoreError, ClientError) as error:
        say(step="metrics", error=str(error))


def report(run_id: str, outcome: str, **more: Any) -> dict[str, Any]:
    """What a function answers about a run; also logged."""
    answer = {"run_id": run_id, "outcome": outcome, **more}
    say(**answer)
    return answer


def say(**fields: Any) -> None:
    """One JSON line into the function's log."""
    print(json.dumps(fields), flush=True)  # noqa: T201
