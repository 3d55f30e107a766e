"""What the watchdog decides: cases in tests/plans/watchdog.yml."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from twinops.runs import Run, parse, timestamp
from twinops.watchdog import judge

CASES = yaml.safe_load((Path(__file__).parents[1] / "plans/watchdog.yml").read_text())
NOW = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
MOMENTS = ("claimed_at", "started_at", "heartbeat_at", "alerted_at")


def run_of(different: dict[str, Any]) -> Run:
    """Minutes before now become moments."""
    run = {"state": "CLAIMED", "epoch": 1, "timeout_s": 600, "idempotent": True, **different}
    moments = {name: timestamp(NOW - timedelta(minutes=run[name])) for name in MOMENTS if name in run}
    return cast(Run, {**run, **moments})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_verdict(case: dict[str, Any]) -> None:
    verdict = judge(run_of(case["run"]), NOW)
    assert (verdict.action, verdict.mail) == (case["verdict"], case.get("mail", False))
    assert verdict.reason.startswith(case.get("reason", "")), verdict.reason
    assert bool(verdict.reason) == (case["verdict"] != "leave" or verdict.mail)


def test_moments_are_read_as_they_were_written() -> None:
    assert parse(timestamp(NOW)) == NOW
