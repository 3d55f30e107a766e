"""Runs as a table for people: one line a run, and below it what there is to say about it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from . import runs
from .columns import aligned
from .runs import Run, Turn

HEADER = ("claimed (UTC)", "state", "workflow", "exit", "took", "attempt", "run")
_TO_THE_RIGHT = ("exit", "took", "attempt")


def table(found: Sequence[Run], turns: Mapping[str, Turn], now: datetime) -> list[str]:
    """The lines, runs in the order given. ``turns``: by workflow, of those that have runs that wait."""
    if not found:
        return ["no runs"]
    rows = [_row(run, now) for run in found]
    notes = {number: list(_notes(run, turns.get(run["workflow"], {}))) for number, run in enumerate(found)}
    return aligned(HEADER, rows, to_the_right=_TO_THE_RIGHT, notes=notes)


def duration(seconds: float) -> str:
    """Seconds as a person reads them, such as ``4.6 s``, ``12 min`` or ``3.2 h``."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def waiting(run: Run, turn: Turn) -> str:
    """For what a run waits, that is QUEUED; ``turn`` is that of its workflow."""
    if turn.get("holder") == run["run_id"]:
        return "to be started, its turn has come"
    queue = turn.get("queue", [])
    ahead = queue.index(run["run_id"]) if run["run_id"] in queue else len(queue)
    others = f" and {ahead} more before it" if ahead else ""
    return f"for run {turn.get('holder', 'that has just ended')}{others}"


def _row(run: Run, now: datetime) -> tuple[str, ...]:
    return (
        run["claimed_at"][:19].replace("T", " "),
        run["state"],
        run["workflow"],
        str(run.get("exit_code", "-")),
        _took(run, now),
        str(run["epoch"]),
        run["run_id"],
    )


def _took(run: Run, now: datetime) -> str:
    if run["state"] == runs.RUNNING:  # by the clock of its twin, which may be ahead of ours
        return f"{duration(max(0.0, (now - runs.parse(run['started_at'])).total_seconds()))} so far"
    return duration(run["duration_s"]) if "duration_s" in run else "-"


def _notes(run: Run, turn: Turn) -> Iterator[tuple[str, str]]:
    if run["state"] == runs.QUEUED:
        yield "waits", waiting(run, turn)
    if run["state"] != runs.SUCCEEDED and "reason" in run:
        yield "why", run["reason"]
    elif run["state"] == runs.RUNNING and "cancelled_by" in run:
        yield "cancel", f"{run['cancelled_by']} asked it to end"
    if "rerun_of" in run:
        yield "repeats", f"run {run['rerun_of']}"
    if "log_stream" in run:
        yield "log", f"{run['log_group']} {run['log_stream']}"
    if "report_key" in run:
        yield "report", f"s3://{run['report_bucket']}/{run['report_key']}"


def sentence(run: Run, turn: Turn) -> str:
    """How a run is, in one line; ``turn`` is that of its workflow."""
    state, reason = run["state"], run.get("reason", "")
    if state == runs.QUEUED:
        return f"QUEUED: it waits {waiting(run, turn)}"
    if state == runs.CLAIMED:
        return "CLAIMED: its twin has not answered yet"
    if state == runs.RUNNING:
        asked = f"; {run['cancelled_by']} asked it to end" if "cancelled_by" in run else ""
        return f"RUNNING since {run['started_at'][:19].replace('T', ' ')} UTC, attempt {run['epoch']}{asked}"
    code = f"exit code {run['exit_code']}" if "exit_code" in run else ""
    took = duration(run["duration_s"]) if "duration_s" in run else ""
    return ", ".join(filter(None, (state, code, took))) + (f": {reason}" if reason and state != runs.SUCCEEDED else "")
