"""What a watchdog makes of a run that does not get on. Pure: no I/O; the time is an argument.

Three times in the life of a run nobody but the ledger knows that something is wrong: its claim is never answered, its
heartbeat stops, or it goes on for ever. Clocks of a twin and of a Lambda may differ by ten minutes; every limit here
leaves room for that, since a run that lives must never be taken for lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from . import runs
from .runs import Run

CLAIM_ANSWERED_WITHIN_S = 15 * 60
"""Two attempts of the dispatcher and two of the backup, a minute each, with Lambda's pauses between them."""
HEARTBEAT_SILENCE_S = 15 * 60
"""Thirty heartbeats."""
BEYOND_TIMEOUT_S = 3600
"""What a run may take besides its script: the environment (30 minutes), its outputs, a ledger that is away."""
MOST_EPOCHS = 3
"""A run that is lost again and again is repeated up to this attempt: it may be what breaks the twin."""
LOOK_BACK_S = 24 * 3600
"""How old a claim may be to be looked at: the longest timeout (12 hours), and as much again."""

LEAVE = "leave"
LOSE = "lose"
HAND_OVER = "hand over"


@dataclass(frozen=True)
class Verdict:
    """``action``: LEAVE it; mark it lost (LOSE) and then judge it again; have the backup start it (HAND_OVER).

    ``mail``: somebody has to be told of a lost run, and has not been. ``reason`` says what happened to the run.
    """

    action: str
    reason: str = ""
    mail: bool = False


def judge(run: Run, now: datetime) -> Verdict:
    """What is to be done about a run at this time."""
    state = run["state"]
    if state == runs.CLAIMED:
        return _judge_claim(run, now)
    if state == runs.RUNNING:
        reason = _stopped(run, now)
        return Verdict(LOSE, reason) if reason else Verdict(LEAVE)
    if state == runs.LOST:
        again = HAND_OVER if is_repeated(run) else LEAVE
        return Verdict(again, run.get("reason", "it was lost"), mail="alerted_at" not in run)
    return Verdict(LEAVE)


def is_repeated(run: Run) -> bool:
    """Whether a run that is lost may be, and is, started again."""
    return run["idempotent"] and run["epoch"] < MOST_EPOCHS


def _judge_claim(run: Run, now: datetime) -> Verdict:
    """Where somebody was mailed that the run does not start, it is that person's; else nobody knows of it."""
    age_s = _age_s(run["claimed_at"], now)
    if "alerted_at" in run or age_s < CLAIM_ANSWERED_WITHIN_S:
        return Verdict(LEAVE)
    return Verdict(HAND_OVER, f"nobody started it within {CLAIM_ANSWERED_WITHIN_S // 60} minutes of its claim")


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
