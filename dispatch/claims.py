"""What an event asks for, as the claim of a run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from twinops import runs
from twinops.names import Names
from twinops.runs import Claim

from .settings import DispatchError


def claim_of(event: Mapping[str, Any], env: str) -> Claim:
    """The claim that an event makes in an environment.

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
        "concurrency": event.get("concurrency") in runs.CONCURRENCY,
        "rerun_of": bool(re.fullmatch(r"[0-9a-f]{24}", str(event.get("rerun_of", "0" * 24)))),
    }
    wrong = [name for name, right in expected.items() if not right]
    if wrong or not isinstance(parameters, Mapping):
        raise DispatchError(f"event: {', '.join(wrong)}: missing or wrong, see docs/interfaces.md; nothing was started")
    claim = Claim(
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
        concurrency=event["concurrency"],
        log_group=Names(env).workflow_log_group(event["workflow"]),
    )
    if "rerun_of" in event:
        claim["rerun_of"] = event["rerun_of"]
    return claim
