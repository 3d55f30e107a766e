"""Runs as people see them."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from twinops.run_table import duration, sentence, table
from twinops.runs import Run, Turn

NOW = datetime(2026, 11, 22, 5, 10, tzinfo=timezone.utc)
TURN = Turn(workflow="drift_report", holder="ab", queue=["cd", "ef"])


def run(state: str, **more: Any) -> Run:
    fields = {
        "run_id": "ab", "workflow": "drift_report", "state": state, "epoch": 1, "idempotent": True,
        "claimed_at": "2026-11-22T05:00:01.000000Z", "log_group": "/twinops/staging/workflows/drift_report",
    }  # fmt: skip
    return Run(**{**fields, **more})  # type: ignore[typeddict-item]


def test_columns_are_aligned_and_say_what_there_is_to_say() -> None:
    started = "2026-11-22T05:01:00.000000Z"
    ended = {"exit_code": 3, "duration_s": 4.6, "reason": "it broke", "log_stream": "gh/2"}
    found = [
        run("QUEUED", run_id="ef"),
        run("RUNNING", started_at=started, cancelled_by="Ada", rerun_of="99", log_stream="ab/1"),
        run("FAILED", run_id="gh", epoch=2, workflow="w", **ended, report_bucket="b", report_key="w/gh/r.html"),
        run("CANCELLED", run_id="ij", workflow="w", reason="cancelled by Ada"),
        run("SUCCEEDED", run_id="kl", workflow="w", exit_code=0, duration_s=7300.0, reason="never shown"),
    ]
    assert table(found, {"drift_report": TURN}, NOW) == [
        "claimed (UTC)        state      workflow      exit          took  attempt  run",
        "2026-11-22 05:00:01  QUEUED     drift_report     -             -        1  ef",
        "    waits:   for run ab and 1 more before it",
        "2026-11-22 05:00:01  RUNNING    drift_report     -  9 min so far        1  ab",
        "    cancel:  Ada asked it to end",
        "    repeats: run 99",
        "    log:     /twinops/staging/workflows/drift_report ab/1",
        "2026-11-22 05:00:01  FAILED     w                3         4.6 s        2  gh",
        "    why:     it broke",
        "    log:     /twinops/staging/workflows/drift_report gh/2",
        "    report:  s3://b/w/gh/r.html",
        "2026-11-22 05:00:01  CANCELLED  w                -             -        1  ij",
        "    why:     cancelled by Ada",
        "2026-11-22 05:00:01  SUCCEEDED  w                0         2.0 h        1  kl",
    ]


def test_without_runs() -> None:
    assert table([], {}, NOW) == ["no runs"]


def test_a_twin_whose_clock_is_ahead() -> None:
    assert "0.0 s so far" in table([run("RUNNING", started_at="2026-11-22T05:15:00.000000Z")], {}, NOW)[1]


@pytest.mark.parametrize(
    ("seconds", "read"), [(0.04, "0.0 s"), (119.9, "119.9 s"), (120, "2 min"), (7199, "120 min"), (7200, "2.0 h")]
)
def test_durations(seconds: float, read: str) -> None:
    assert duration(seconds) == read


@pytest.mark.parametrize(
    ("shown", "turn", "says"),
    [
        (run("CLAIMED"), {}, "CLAIMED: its twin has not answered yet"),
        (run("QUEUED", run_id="cd"), TURN, "QUEUED: it waits for run ab"),
        (run("QUEUED", run_id="ab"), TURN, "QUEUED: it waits to be started, its turn has come"),
        (run("RUNNING", started_at="2026-11-22T05:01:00.000000Z", epoch=2), {},
         "RUNNING since 2026-11-22 05:01:00 UTC, attempt 2"),
        (run("RUNNING", started_at="2026-11-22T05:01:00.000000Z", cancelled_by="Ada"), {},
         "RUNNING since 2026-11-22 05:01:00 UTC, attempt 1; Ada asked it to end"),
        (run("SUCCEEDED", exit_code=0, duration_s=4.6), {}, "SUCCEEDED, exit code 0, 4.6 s"),
        (run("FAILED", exit_code=3, duration_s=150, reason="it broke"), {}, "FAILED, exit code 3, 2 min: it broke"),
        (run("LOST", reason="gone"), {}, "LOST: gone"),
    ],
)  # fmt: skip
def test_in_one_line(shown: Run, turn: Turn, says: str) -> None:
    assert sentence(shown, turn) == says
