"""What a watchdog makes of a run that does not get on. Pure: no I/O; the time is an argument.

Nobody but the ledger knows that something is wrong when a claim is never answered, a heartbeat stops, a run goes on for
ever, whoever ended it died before the mail, or before the next one had its turn. Clocks of a twin and of a Lambda may
differ by ten minutes; every limit here leaves room for that, since a run that lives must never be taken for lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from . import runs
from .runs import Run

CLAIM_ANSWERED_WITHIN_S = 15 * 60
"""Two attempts of the dispatcher and two of the backup, a minute each, with Lambda's pauses between them."""
RELEASED_FOR_S = 5 * 60
"""After which a claim that its dispatcher gave up is not Lambda's any more: the twin is starting, say."""
STARTED_WITHIN_S = 3600
"""After which a run that nobody could start is given up: who waits for it has to know."""
HEARTBEAT_SILENCE_S = 15 * 60
"""Thirty heartbeats."""
BEYOND_TIMEOUT_S = 3600
"""What a run may take besides its script: the environment (30 minutes), its outputs, a ledger that is away."""
MAILED_WITHIN_S = 15 * 60
"""How long whoever ended a run may take to mail it."""
MOST_EPOCHS = 3
"""A run that is lost again and again is repeated up to this attempt: it may be what breaks the twin."""
LOOK_BACK_S = 24 * 3600
"""How old a claim may be to be looked at: the longest timeout (12 hours), and as much again."""

LEAVE = "leave"
LOSE = "lose"
HAND_OVER = "hand over"
GIVE_UP = "give up"
MAIL = "mail"
END_TURN = "end turn"


@dataclass(frozen=True)
class Verdict:
    """``action``: LEAVE it; mark it lost (LOSE) and then judge it again; have the backup start it (HAND_OVER); say that
    nobody could start it (GIVE_UP); MAIL how it ended; let the next run have its turn (END_TURN).

    ``reason`` says what happened to the run.
    """

    action: str
    reason: str = ""


def judge(run: Run, now: datetime) -> Verdict:
    """What is to be done about a run at this time."""
    state = run["state"]
    if state == runs.CLAIMED:
        return _judge_claim(run, now)
    if state == runs.RUNNING:
        reason = _stopped(run, now)
        return Verdict(LOSE, reason) if reason else Verdict(LEAVE)
    if state == runs.LOST and is_repeated(run):
        return Verdict(HAND_OVER, run.get("reason", "it was lost"))
    if run.get("unmailed") and (state == runs.LOST or _age_s(run["ended_at"], now) >= MAILED_WITHIN_S):
        return Verdict(MAIL, "it ended and nobody was told")
    return Verdict(LEAVE)


def judge_turn(holder: Run | None) -> Verdict:
    """What is to be done about a turn that this run has; ``None``: the ledger does not know it."""
    if holder is None or is_over(holder):
        return Verdict(END_TURN, "its turn is over")
    if holder["state"] == runs.QUEUED:
        return Verdict(HAND_OVER, "its turn has come, and nobody has started it")
    return Verdict(LEAVE)


def is_over(run: Run) -> bool:
    """Whether a run has ended and is not started again."""
    return run["state"] in runs.FINISHED or (run["state"] == runs.LOST and not is_repeated(run))


def is_repeated(run: Run) -> bool:
    """Whether a run that is lost may be, and is, started again."""
    return run["idempotent"] and run["epoch"] < MOST_EPOCHS


def _judge_claim(run: Run, now: datetime) -> Verdict:
    age_s = _age_s(run.get("called_at", run["claimed_at"]), now)
    if age_s >= STARTED_WITHIN_S:
        return Verdict(GIVE_UP, f"nobody could start it within {STARTED_WITHIN_S // 60} minutes")
    if "dispatcher" not in run and age_s >= RELEASED_FOR_S:
        return Verdict(HAND_OVER, "whoever tried to start it gave up, because the twin was not in service")
    if age_s >= CLAIM_ANSWERED_WITHIN_S:
        return Verdict(HAND_OVER, f"nobody started it within {CLAIM_ANSWERED_WITHIN_S // 60} minutes of its claim")
    return Verdict(LEAVE)


def _stopped(run: Run, now: datetime) -> str:
    """Why a run that says RUNNING does not run any more; empty if it does."""
    silence_s = _age_s(run["heartbeat_at"], now)
    if silence_s >= HEARTBEAT_SILENCE_S:
        return f"its twin has not been heard of since {run['heartbeat_at']}"
    limit_s = run["timeout_s"] + BEYOND_TIMEOUT_S
    if _age_s(run["started_at"], now) >= limit_s:
        return f"it was to end within {run['timeout_s']} s and is still there an hour after that"
    return ""


def _age_s(moment: str, now: datetime) -> float:
    return (now - runs.parse(moment)).total_seconds()
