"""The monthly report as a run: from the buckets and the ledger to files, and what a rerun makes."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from monthly_report import run
from toolbox import pdf
from twinops.aws.clients import client
from twinops.aws.ledger import Ledger

from tests.unit.workflows.conftest import World
from tests.unit.workflows.months import at, decisions, labels_of

ON_TIME, LATER = "2026-11-05T06:00:03.000000Z", "2026-12-24T18:00:00.000000Z"
ASKED: dict[str, Any] = {"customer": "orbital", "feature": "anomaly-detection", "month": "", "revision": 1}


@pytest.fixture
def october(world: World) -> World:
    """Two customers' devices, one of them off for three days, a rollout that was stopped, and a few labels."""
    frames = {
        "device-001": decisions("device-001", wrong=0.005, off=(16, 18)).iloc[::4],
        "device-002": decisions("device-002", wrong=0.005).iloc[::4],
    }
    for frame in frames.values():
        world.upload(frame)
    world.label(labels_of(pd.concat(frames.values())))
    for device in frames:
        deployment = {
            "device": device,
            "state": "committed",
            "rollout_id": "r1",
            "valid_from": at(1, 0),
            "release": "v1",
        }
        world.ledger.record_deployment(deployment, at=at(1, 0))  # type: ignore[arg-type]
    world.ledger.record_rollout(
        {
            "rollout_id": "r3", "release": "v3", "state": "blocked", "reason": "alarm rate 0 %", "started_at": at(20),
            "devices": json.dumps({"device-001": "rolled_back", "device-002": "pending"}),
        }
    )  # fmt: skip
    return world


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_rerun_makes_the_same_bytes_whatever_came_later(october: World) -> None:
    first, done = october.start("monthly_report", ASKED, at=ON_TIME)
    made = files(first)
    assert set(made) == {"report.html", "report.pdf", "summary.txt", "usage.csv", "month.json"}
    headline = "Anomaly detection did its job in October 2026, but one device was silent once"
    assert done.stdout == f"orbital: {headline}\n"
    assert made["summary.txt"].decode().startswith(f"{headline}\n")
    month = json.loads(made["month.json"])
    sent = len(decisions("device-001", off=(16, 18)).iloc[::4])
    assert sum(day["decisions"] for day in month["days"]) == sent
    assert [(one["kind"], one["what"]) for one in month["incidents"]] == [("rollout", "Release v3 on device-001")]

    late = decisions("device-001").iloc[15 * 150 + 1 : 15 * 150 + 40]  # of the days on which it was off
    october.upload(late)
    october.label(labels_of(decisions("device-001"), share=1))
    again, _ = october.start("monthly_report", {**ASKED, "month": "2026-10"}, at=LATER)
    assert files(again) == made

    revised, _ = october.start("monthly_report", {**ASKED, "month": "2026-10", "revision": 2}, at=LATER)
    month = json.loads(files(revised)["month.json"])
    assert sum(day["decisions"] for day in month["days"]) == sent + len(late)
    assert "revision 2" in files(revised)["report.html"].decode()


def test_every_customer_gets_a_report(october: World) -> None:
    made, done = october.start("monthly_report", {**ASKED, "customer": ""}, at=ON_TIME)
    assert set(files(made)) >= {"report.html", "summary.txt", "orbital/report.pdf", "meridian/report.pdf"}
    assert "device-002" not in files(made)["orbital/report.html"].decode(), "another customer's"
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == ["orbital", "meridian"]


def test_what_is_known_of_all_is_read_once_for_all_customers_and_not_for_frozen_months(
    october: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []
    happened = Ledger.happened
    monkeypatch.setattr(
        Ledger, "happened", lambda self, kind, **times: asked.append(kind) or happened(self, kind, **times)
    )
    monkeypatch.setattr(pdf, "pdf", lambda made: b"")
    told = {"run_id": "1" * 24, "git_sha": "a" * 40, "started_at": ON_TIME, "parameters": {**ASKED, "customer": ""}}
    (tmp_path / "run.json").write_text(json.dumps({**told, "twin": october.twin}))
    monkeypatch.setenv("TWINOPS_RUN", str(tmp_path / "run.json"))
    monkeypatch.setenv("TWINOPS_OUTPUT", str(tmp_path))
    for _ in range(2):
        assert run.main() == 0
    assert sorted(asked) == ["deployment", "deployment", "rollout", "run"]


def test_a_month_that_goes_on_is_not_frozen(world: World) -> None:
    now = datetime.now(timezone.utc)
    frame = decisions("device-001").iloc[:100].assign(recorded_at=now.replace(day=1, hour=0))
    world.upload(frame)
    world.label(labels_of(frame))
    this_month = {**ASKED, "month": f"{now:%Y-%m}"}
    made, _ = world.start("monthly_report", this_month, at=now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
    month = json.loads(files(made)["month.json"])
    assert (month["is_over"], sum(day["decisions"] for day in month["days"])) == (False, 100)
    frozen = client("s3").list_objects_v2(Bucket=world.bucket, Prefix="monthly_report/")
    assert "Contents" not in frozen


def test_a_wrong_parameter(world: World) -> None:
    _, done = world.start("monthly_report", {**ASKED, "customer": "nobody"}, at=ON_TIME, ok=False)
    assert done.returncode == 2
    assert "expected one who has anomaly-detection (meridian, orbital), got 'nobody'" in done.stderr
