"""Runs of workflows: their identity, their states, and which step may follow which.

    CLAIMED -> RUNNING -> SUCCEEDED | FAILED | TIMED_OUT | CANCELLED | LOST
    CLAIMED -> QUEUED -> CLAIMED       it waits for a run of the same workflow
    CLAIMED -> SKIPPED                 it may not run beside that one
    CLAIMED -> FAILED                  nobody could start it
    LOST -> CLAIMED (epoch + 1)        its workflow says it is idempotent

A **claim** is what makes an event start one run only; its **epoch** is a fencing number: whoever acts for an older
epoch has been given up on and is refused. See docs/interfaces.md, "Ledger".
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, TypedDict

CLAIMED = "CLAIMED"
QUEUED = "QUEUED"
SKIPPED = "SKIPPED"
RUNNING = "RUNNING"
SUCCEEDED = "SUCCEEDED"
FAILED = "FAILED"
TIMED_OUT = "TIMED_OUT"
CANCELLED = "CANCELLED"
LOST = "LOST"

FINISHED = frozenset({SUCCEEDED, FAILED, TIMED_OUT, CANCELLED, SKIPPED})
ACKNOWLEDGED = FINISHED | {RUNNING}

TRANSITIONS: Mapping[str, frozenset[str]] = {
    CLAIMED: frozenset({RUNNING, QUEUED, SKIPPED, CANCELLED, FAILED}),
    QUEUED: frozenset({CLAIMED, CANCELLED}),
    RUNNING: frozenset({SUCCEEDED, FAILED, TIMED_OUT, CANCELLED, LOST}),
    LOST: frozenset({CLAIMED}),
    **{state: frozenset() for state in FINISHED},
}

ALLOW = "allow"
QUEUE = "queue"
FORBID = "forbid"
CONCURRENCY = (FORBID, QUEUE, ALLOW)
"""What happens to a run while another one of its workflow is at work: it is skipped, it waits, it starts as well."""

ADMITTED = "ADMITTED"
"""Not a state: the answer to whether a claimed run may start now."""

SCHEDULED_EVENT = "Scheduled Event"
"""``detail-type`` of what EventBridge sends for a schedule."""


class _Claim(TypedDict):
    run_id: str
    workflow: str
    git_sha: str
    event_id: str
    parameters: str
    """JSON text: only what the event overrides; defaults belong to the commit."""
    timeout_s: int
    idempotent: bool
    concurrency: str
    """What happens while another run of the workflow is at work, of :data:`CONCURRENCY`."""
    log_group: str


class Claim(_Claim, total=False):
    """What identifies a run and is known before it starts."""

    rerun_of: str
    """Id of the run that it repeats, with the same commit and parameters."""


class Run(Claim, total=False):
    """A run as the ledger has it. Times are ISO 8601 UTC; what has not happened yet is absent."""

    state: str
    epoch: int
    dispatcher: str
    """Request id of the Lambda that is ringing for this claim; absent once it gave up, so that a retry may go on."""
    runner: str
    """Random id of the run-once that took the run; tells a repeated write from a second runner."""
    unmailed: bool
    """There from the end of the run until somebody was mailed how it ended."""
    cancelled_by: str
    """Who asked for its end."""
    claimed_at: str
    called_at: str
    """When its turn came, after it had waited for another run."""
    started_at: str
    ended_at: str
    heartbeat_at: str
    exit_code: int
    duration_s: float
    log_stream: str
    """Of the latest attempt; absent if none has started."""
    report_bucket: str
    report_key: str
    reason: str


class Turn(TypedDict, total=False):
    """Whose turn it is, of a workflow that does not allow runs beside each other."""

    workflow: str
    holder: str
    """Id of the run at work; absent when there is none."""
    queue: list[str]
    """Ids of the runs that wait, the first to come first."""


def run_id(*, workflow: str, occasion: str, parameters: Mapping[str, Any], git_sha: str) -> str:
    """The identity of a run, 24 hex digits: the same occasion always names the same run.

    ``occasion`` is the logical time of a schedule or the id of an event, see :func:`occasion`.
    """
    identity = json.dumps([workflow, occasion, dict(parameters), git_sha], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(identity.encode()).hexdigest()[:24]


def occasion(event: Mapping[str, Any]) -> str:
    """Why the run exists: EventBridge may deliver one tick of a schedule twice, with two ids but one time."""
    return str(event["time"] if event.get("detail-type") == SCHEDULED_EVENT else event["event_id"])


def may_follow(state: str, following: str) -> bool:
    """Whether a run in ``state`` may become ``following``."""
    return following in TRANSITIONS[state]


def end_state(*, exit_code: int | None, timed_out: bool) -> str:
    """The state of a run whose script has ended; ``exit_code`` is ``None`` when it was never started."""
    if timed_out:
        return TIMED_OUT
    return SUCCEEDED if exit_code == 0 else FAILED


def log_stream(run_id: str, epoch: int) -> str:
    """Name of the log stream of one attempt at a run."""
    return f"{run_id}/{epoch}"


def timestamp(moment: datetime) -> str:
    """ISO 8601 UTC with microseconds and ``Z``: sorts as text in order of time."""
    if moment.tzinfo is None:
        raise ValueError(f"expected a moment with a time zone, got {moment!r}")
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse(text: str) -> datetime:
    """The moment that :func:`timestamp` wrote."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)


def now() -> str:
    """The current time as the ledger writes it."""
    return timestamp(datetime.now(timezone.utc))
