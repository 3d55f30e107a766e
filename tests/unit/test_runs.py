"""Runs: identity and transitions."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import pytest
from twinops import runs

SHA = "a" * 40


def test_same_occasion_same_run() -> None:
    first = runs.run_id(workflow="w", occasion="e", parameters={"a": 1, "b": 2}, git_sha=SHA)
    again = runs.run_id(workflow="w", occasion="e", parameters={"b": 2, "a": 1}, git_sha=SHA)
    assert first == again
    assert re.fullmatch("[0-9a-f]{24}", first)


@pytest.mark.parametrize(
    "other",
    [{"workflow": "x"}, {"occasion": "f"}, {"parameters": {"a": "1"}}, {"parameters": {}}, {"git_sha": "b" * 40}],
    ids=str,
)
def test_anything_else_is_another_run(other: dict) -> None:
    same = {"workflow": "w", "occasion": "e", "parameters": {"a": 1}, "git_sha": SHA}
    assert runs.run_id(**same) != runs.run_id(**{**same, **other})


def test_occasion_of_a_schedule_is_its_time() -> None:
    tick = {"detail-type": "Scheduled Event", "time": "2026-11-22T05:00:00Z", "event_id": "1"}
    assert runs.occasion(tick) == runs.occasion({**tick, "event_id": "2"}) == "2026-11-22T05:00:00Z"
    assert runs.occasion({**tick, "detail-type": "Rollout finished"}) == "1"


@pytest.mark.parametrize(
    ("state", "following"),
    [
        ("CLAIMED", {"RUNNING", "QUEUED", "SKIPPED", "CANCELLED", "FAILED"}),
        ("QUEUED", {"CLAIMED", "CANCELLED"}),
        ("SKIPPED", set()),
        ("RUNNING", {"SUCCEEDED", "FAILED", "TIMED_OUT", "CANCELLED", "LOST"}),
        ("CANCELLED", set()),
        ("SUCCEEDED", set()),
        ("FAILED", set()),
        ("TIMED_OUT", set()),
        ("LOST", {"CLAIMED"}),
    ],
)
def test_transitions(state: str, following: set[str]) -> None:
    assert {other for other in runs.TRANSITIONS if runs.may_follow(state, other)} == following


@pytest.mark.parametrize(
    ("exit_code", "timed_out", "state"),
    [(0, False, "SUCCEEDED"), (3, False, "FAILED"), (None, False, "FAILED"), (None, True, "TIMED_OUT")],
)
def test_end_state(exit_code: int | None, timed_out: bool, state: str) -> None:
    assert runs.end_state(exit_code=exit_code, timed_out=timed_out) == state


def test_timestamps_sort_as_text() -> None:
    east = datetime(2026, 11, 22, 7, 0, tzinfo=timezone(timedelta(hours=2)))
    assert runs.timestamp(east) == "2026-11-22T05:00:00.000000Z"
    assert runs.timestamp(east) < runs.timestamp(east + timedelta(microseconds=1))
    with pytest.raises(ValueError, match="time zone"):
        runs.timestamp(datetime(2026, 11, 22))
