"""The dispatch, the backup and the watchdog Lambda: an event becomes one run on the deployment twin.

``dispatch`` claims the run in the ledger, rings at the twin's terminal, and succeeds only when the ledger shows that
the run has started (or that it waits for its turn). Whatever goes wrong is raised: Lambda retries once, then calls
``backup``, which fences the first attempt off (epoch + 1), waits for the twin if that has to start, and rings again.
What ``backup`` cannot start, Lambda hands to ``watchdog``, which says so in the ledger and mails it; it also looks
every few minutes after runs that do not get on. None of them ever logs the presigned URL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from functools import partial
from typing import Any, cast

from botocore.exceptions import BotoCoreError, ClientError
from twinops import metrics, runs
from twinops.aws.ledger import Ledger
from twinops.errors import TwinopsError
from twinops.runs import Claim, Run

from .claims import claim_of
from .doorbell import Doorbell, TwinNotReady
from .guard import WATCHDOG, Guard, cause_of
from .settings import Context, DispatchError, Settings, publish, report


def dispatch(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Start the run of an event; a duplicate of an event that has been claimed returns without doing anything.

    :raises DispatchError: nothing shows that the run has started; the claim is released for a retry
    """
    doorbell = Doorbell(Settings.from_environment(), context)
    claim, dispatcher = claim_of(event, doorbell.settings.env), context.aws_request_id
    epoch = doorbell.ledger.claim(claim, dispatcher=dispatcher)
    if epoch is None:
        return report(claim["run_id"], "duplicate")
    try:
        admission = doorbell.ledger.admit(claim, dispatcher=dispatcher)
        if admission != runs.ADMITTED:
            return report(claim["run_id"], admission.lower())
        return doorbell.ring(claim, epoch)
    except Exception:
        doorbell.ledger.release(claim["run_id"], dispatcher=dispatcher)
        raise


def backup(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Start a run that ``dispatch`` could not start, or one that a person or the watchdog asks for.

    ``event`` is Lambda's on-failure record (``requestPayload``), the payload itself, or ``{"run_id": ...}`` of a run
    that is in the ledger. A twin that is starting is left to start: the watchdog has the backup ring again.

    :raises DispatchError: nothing shows that the run has started
    """
    doorbell = Doorbell(Settings.from_environment(), context)
    if "requestPayload" in event:
        publish(doorbell.settings, [{"MetricName": metrics.BACKUP_TOOK_OVER, "Value": 1.0}])
    claim, dispatcher = _asked_for(event, doorbell.settings.env, doorbell.ledger), context.aws_request_id
    epoch = _next_epoch(doorbell.ledger, claim, dispatcher)
    if epoch is None:
        return report(claim["run_id"], "moved on")
    admission = doorbell.ledger.admit(claim, dispatcher=dispatcher)
    if admission != runs.ADMITTED:
        return report(claim["run_id"], admission.lower())
    try:
        doorbell.await_twin()
    except TwinNotReady as not_ready:
        if not not_ready.starting:
            raise
        doorbell.ledger.release(claim["run_id"], dispatcher=dispatcher)
        return report(claim["run_id"], "waits for the twin")
    return doorbell.ring(claim, epoch)


def watchdog(event: Mapping[str, Any], _context: Context) -> dict[str, Any]:
    """Look after all runs that do not get on; or give up the one that ``event`` (Lambda's on-failure record of the
    backup) is about.

    Each step is safe to repeat, so that one that was interrupted is done at the next tick.

    :raises DispatchError: some runs could not be looked after; all others were
    """
    guard = Guard(Settings.from_environment())
    if "requestPayload" in event:
        return _give_up(guard, event)
    now = datetime.now(timezone.utc)
    done, failures = [], []
    for name, act in _tasks(guard, now):
        try:
            done += act()
        except (TwinopsError, BotoCoreError, ClientError) as error:
            failures.append(f"{name}: {error}")
    if failures:
        raise DispatchError("\n".join(failures))
    return {"done": done}


def _tasks(guard: Guard, now: datetime) -> Iterator[tuple[str, Callable[[], Iterable[dict[str, Any]]]]]:
    for run in guard.unsettled(now):
        yield f"run {run['run_id']}", partial(guard.look_after, run, now)
    for turn in guard.ledger.turns.held():
        yield f"turn of {turn['workflow']}", partial(guard.look_after_turn, turn)


def _give_up(guard: Guard, record: Mapping[str, Any]) -> dict[str, Any]:
    claim = _asked_for(record, guard.settings.env, guard.ledger)
    run = guard.ledger.run(claim["run_id"])
    if run is None:
        guard.ledger.claim(claim, dispatcher=WATCHDOG)
        run = guard.ledger.run(claim["run_id"])
    return {"done": list(guard.give_up(run, cause_of(record))) if run else []}


def _asked_for(event: Mapping[str, Any], env: str, ledger: Ledger) -> Claim:
    """The claim that an event, or the record of an event that failed (and what that one was a record of), is about."""
    while "requestPayload" in event:
        event = event["requestPayload"]
    if "run_id" not in event:
        return claim_of(event, env)
    run = ledger.run(event["run_id"])
    if run is None:
        raise DispatchError(f"run {event['run_id']}: expected it in the ledger, it is missing; nothing was started")
    return cast(Claim, {name: run[name] for name in Claim.__annotations__ if name in run})  # type: ignore[literal-required]


def _next_epoch(ledger: Ledger, claim: Claim, dispatcher: str) -> int | None:
    """The epoch at which the backup rings; ``None`` when the run has started, has ended, waits for its turn, or must
    not be repeated."""
    run = ledger.run(claim["run_id"])
    if run is None:
        return ledger.claim(claim, dispatcher=dispatcher)
    if run["state"] == runs.CLAIMED and run.get("dispatcher") == dispatcher:  # Lambda retries the backup itself
        return run["epoch"]
    if run["state"] == runs.QUEUED and not _is_called(ledger, run):
        return None
    return (
        ledger.reclaim(run, dispatcher=dispatcher) if run["state"] in (runs.CLAIMED, runs.QUEUED, runs.LOST) else None
    )


def _is_called(ledger: Ledger, run: Run) -> bool:
    """Whether it is the turn of a run that waits, and whoever was to start it has not."""
    return ledger.turns.turn(run["workflow"]).get("holder") == run["run_id"]
