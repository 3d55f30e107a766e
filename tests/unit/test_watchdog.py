"""What the watchdog decides: cases in tests/plans/watchdog.yml."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from twinops.runs import Run, parse, timestamp
from twinops.watchdog import judge, judge_turn

PLANS = yaml.safe_load((Path(__file__).parents[1] / "plans/watchdog.yml").read_text())
CASES, TURNS = PLANS["runs"], PLANS["turns"]
NOW = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
MOMENTS = ("claimed_at", "called_at", "started_at", "heartbeat_at", "ended_at")


def run_of(different: dict[str, Any]) -> Run:
    """Minutes before now become moments."""
    run = {
        "run_id": "r",
        "dispatcher": "d",
        "state": "CLAIMED",
        "epoch": 1,
        "timeout_s": 600,
        "idempotent": True,
        **different,
    }
    moments = {name: timestamp(NOW - timedelta(minutes=run[name])) for name in MOMENTS if name in run}
    return cast(Run, {name: value for name, value in {**run, **moments}.items() if value is not None})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_verdict(case: dict[str, Any]) -> None:
    verdict = judge(run_of(case["run"]), NOW)
    assert verdict.action == case["verdict"]
    assert verdict.reason.startswith(case.get("reason", "")), verdict.reason
    assert bool(verdict.reason) == (case["verdict"] != "leave")


@pytest.mark.parametrize("case", TURNS, ids=lambda case: case["case"])
def test_verdict_on_a_turn(case: dict[str, Any]) -> None:
    assert judge_turn(run_of(case["holder"]) if case["holder"] else None).action == case["verdict"]


def test_moments_are_read_as_they_were_written() -> None:
    assert parse(timestamp(NOW)) == NOW
