"""The dispatch and the backup Lambda: an event becomes one run on the deployment twin.

``dispatch`` claims the run in the ledger, rings at the twin's terminal, and succeeds only when the ledger shows that
the run has started. Whatever goes wrong is raised: Lambda retries once, then calls ``backup``, which fences the first
attempt off (epoch + 1), waits for the twin if that has to start, and rings again. What ``backup`` cannot start is
mailed once and ends in the dead-letter queue. Neither ever logs the presigned URL.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from twinops import runs
from twinops.aws.ledger import Ledger
from twinops.aws.session import client
from twinops.errors import TwinopsError
from twinops.runs import Claim, Run

from . import terminal
from .transport import Transport

RESERVE_S = 4
"""Kept of the Lambda's time to release the claim and to report, after waiting for the twin has come to nothing."""

RING_S = 20
"""What is left of the backup's time, at least, for ringing once the twin is in service."""

_ALERT = """\
The workflow {workflow} did not start.

What happened: {reason}
Run: {run_id} (commit {git_sha}, event {event_id})

What to do: nothing yet, Lambda tries a few more times. If no report follows within ten minutes, the run has stayed
CLAIMED in the ledger and its event is in the dead-letter queue. Mend the cause, then start it again:
  ansible-playbook playbooks/invoke.yml -l <environment> -e workflow={workflow} -e via=backup
"""

RUN_ONCE = '"$HOME/SageMaker/twinops/bin/run-once"'


class DispatchError(TwinopsError):
    """A run could not be started: says what happened and what to do next."""


class TwinNotReady(DispatchError):
    """The twin is not in service (yet)."""


class Context(Protocol):
    """What we use of the context object that Lambda hands to a handler."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int: ...


@dataclass(frozen=True)
class Settings:
    """The functions' environment (docs/interfaces.md, "Event -> dispatcher")."""

    ledger_table: str
    twin: str
    topic_arn: str

    @classmethod
    def from_environment(cls) -> Settings:
        missing = [name for name in ("LEDGER_TABLE", "TWIN", "TOPIC_ARN") if not os.environ.get(name)]
        if missing:
            raise DispatchError(f"function environment: {', '.join(missing)}: expected a value, it is missing")
        return cls(os.environ["LEDGER_TABLE"], os.environ["TWIN"], os.environ["TOPIC_ARN"])


def dispatch(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Start the run of an event; a duplicate of an event that has been claimed returns without doing anything.

    :raises DispatchError: nothing shows that the run has started; the claim is released for a retry
    """
    doorbell = Doorbell(Settings.from_environment(), context)
    claim = claim_of(event)
    epoch = doorbell.ledger.claim(claim, dispatcher=context.aws_request_id)
    if epoch is None:
        return _report(claim["run_id"], "duplicate")
    try:
        doorbell.require_twin()
        return doorbell.ring(claim, epoch)
    except Exception:
        doorbell.ledger.release(claim["run_id"], dispatcher=context.aws_request_id)
        raise


def backup(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Start a run that ``dispatch`` could not start, or one that a person asks for.

    ``event`` is Lambda's on-failure record (``requestPayload``) or the payload itself.

    :raises DispatchError: nothing shows that the run has started; somebody has been mailed
    """
    doorbell = Doorbell(Settings.from_environment(), context)
    claim = claim_of(event.get("requestPayload", event))
    epoch = _next_epoch(doorbell.ledger, claim, context.aws_request_id)
    if epoch is None:
        return _report(claim["run_id"], "moved on")
    try:
        doorbell.await_twin()
        return doorbell.ring(claim, epoch)
    except Exception as error:
        doorbell.alert(claim, str(error))
        raise


def claim_of(event: Mapping[str, Any]) -> Claim:
    """The claim that an event makes.

    :raises DispatchError: a field is missing or wrong; the rule's input transformer makes these
    """
    detail = event.get("detail") or {}
    parameters = detail.get("parameters", {}) if isinstance(detail, Mapping) else None
    expected = {
        "workflow": bool(re.fullmatch(r"[a-z][a-z0-9_]{0,40}", str(event.get("workflow")))),
        "event_id": bool(event.get("event_id")),
        "time": bool(event.get("time")),
        "detail.parameters": isinstance(parameters, Mapping),
        "git_sha": bool(re.fullmatch(r"[0-9a-f]{40}", str(event.get("git_sha")))),
        "timeout_s": type(event.get("timeout_s")) is int,
        "idempotent": type(event.get("idempotent")) is bool,
    }
    wrong = [name for name, right in expected.items() if not right]
    if wrong or not isinstance(parameters, Mapping):
        raise DispatchError(f"event: {', '.join(wrong)}: missing or wrong, see docs/interfaces.md; nothing was started")
    return Claim(
        run_id=runs.run_id(
            workflow=event["workflow"],
            occasion=runs.occasion(event),
            parameters=parameters,
            git_sha=event["git_sha"],
        ),
        workflow=event["workflow"],
        git_sha=event["git_sha"],
        event_id=str(event["event_id"]),
        parameters=json.dumps(parameters, sort_keys=True),
        timeout_s=event["timeout_s"],
        idempotent=event["idempotent"],
    )


def _next_epoch(ledger: Ledger, claim: Claim, request_id: str) -> int | None:
    """The epoch at which the backup rings; ``None`` when the run has started, has ended or must not be repeated."""
    run = ledger.run(claim["run_id"])
    if run is None:
        return ledger.claim(claim, dispatcher=request_id)
    if run["state"] == runs.CLAIMED and run.get("dispatcher") == request_id:  # Lambda retries the backup itself
        return run["epoch"]
    return ledger.reclaim(run, dispatcher=request_id) if run["state"] in (runs.CLAIMED, runs.LOST) else None


class Doorbell:
    """Rings at the deployment twin and looks into the ledger for who answers, within the Lambda's time."""

    def __init__(self, settings: Settings, context: Context) -> None:
        self.settings = settings
        self.ledger = Ledger(settings.ledger_table, client("dynamodb"))
        self._context = context
        self._sagemaker = client("sagemaker")

    def require_twin(self) -> None:
        """Return if the twin is in service; start it if it is stopped, and raise, because that takes minutes."""
        status = self._wake_twin()
        if status != "InService":
            raise TwinNotReady(
                f"twin {self.settings.twin}: expected InService, it is {status}; it is being started and the backup "
                "function tries again when it is there"
            )

    def await_twin(self) -> None:
        """Wait for the twin to be in service, starting it if it is stopped, as long as the time allows."""
        while True:
            status = self._wake_twin()
            if status == "InService":
                return
            if self._remaining_s() < RING_S:
                raise TwinNotReady(
                    f"twin {self.settings.twin}: expected InService in time, it is {status}; look at its page in "
                    "SageMaker and at the log of its lifecycle configuration, then start the run by hand"
                )
            time.sleep(2)

    def ring(self, claim: Claim, epoch: int) -> dict[str, Any]:
        """Have the twin start the run and wait until the ledger says that it has."""
        transport = Transport()
        made = transport.run(terminal.create(self._presigned_url()))
        try:
            transport.run(terminal.ring(made, command(claim, epoch)))
            run = self._await_start(claim["run_id"], epoch)
        finally:
            _hang_up(transport, made)
        return _report(claim["run_id"], "started", epoch=run["epoch"], state=run["state"])

    def alert(self, claim: Claim, reason: str) -> None:
        """Mail that a run does not start: one mail a run, however often it is tried."""
        if not self.ledger.alert_once(claim["run_id"]):
            return
        client("sns").publish(
            TopicArn=self.settings.topic_arn,
            Subject=f"[twinops] {claim['workflow']} did not start"[:100],
            Message=_ALERT.format(reason=reason, **claim),
        )

    def _wake_twin(self) -> str:
        """The twin's status; a stopped or failed one is told to start first."""
        name = self.settings.twin
        status = str(self._sagemaker.describe_notebook_instance(NotebookInstanceName=name)["NotebookInstanceStatus"])
        if status in ("Stopped", "Failed"):
            self._sagemaker.start_notebook_instance(NotebookInstanceName=name)
        return status

    def _presigned_url(self) -> str:
        answer = self._sagemaker.create_presigned_notebook_instance_url(NotebookInstanceName=self.settings.twin)
        return str(answer["AuthorizedUrl"])

    def _await_start(self, run_id: str, epoch: int) -> Run:
        pause_s = 0.2
        while True:
            run = self.ledger.run(run_id)
            if run and (run["state"] in runs.ACKNOWLEDGED or run["epoch"] > epoch):
                return run
            if self._remaining_s() < RESERVE_S + pause_s:
                raise DispatchError(
                    f"run {run_id}: expected RUNNING in the ledger after ringing at twin {self.settings.twin}, "
                    f"it is {run['state'] if run else 'missing'}; look at SageMaker/twinops/log/ on the twin"
                )
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 2)

    def _remaining_s(self) -> float:
        return self._context.get_remaining_time_in_millis() / 1000


def command(claim: Claim, epoch: int) -> str:
    """The one line that is typed: in a session of its own, so that the run outlives its terminal."""
    return f"setsid {RUN_ONCE} {claim['run_id']} {epoch} {claim['git_sha']} </dev/null >/dev/null 2>&1 &"


def _hang_up(transport: Transport, made: terminal.Terminal) -> None:
    """Delete the terminal; one that stays behind is untidy, not a failure of the run."""
    try:
        transport.run(terminal.hang_up(made))
    except terminal.TerminalError as error:
        _say(step="hang up", error=str(error))


def _report(run_id: str, outcome: str, **more: Any) -> dict[str, Any]:
    report = {"run_id": run_id, "outcome": outcome, **more}
    _say(**report)
    return report


def _say(**fields: Any) -> None:
    """One JSON line into the function's log."""
    print(json.dumps(fields), flush=True)  # noqa: T201
