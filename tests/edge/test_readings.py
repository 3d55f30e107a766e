"""What the service says about its sensor: gaps, values that do not change, quantiles, and the last records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from model import Decisions
from readings import RECENT_RECORDS, WINDOW_RECORDS, Readings
from sensor import FEATURES, Records, open_sensor


def add(readings: Readings, first: Sequence[float], labels: Sequence[int] = (), start: int = 0) -> None:
    """Records whose first feature is ``first``; the others stand still at 7."""
    features = np.full((len(first), FEATURES), 7, dtype=np.float32)
    features[:, 0] = first
    ids = [f"r{start + at}" for at in range(len(first))]
    decided = Decisions(np.array(labels or [0] * len(first)), np.full(len(first), 0.25, dtype=np.float32))
    readings.add(Records(ids, [f"at {name}" for name in ids], features, "", 0), decided)


def test_nothing_yet_is_said_as_such() -> None:
    found = Readings().as_dict()
    assert (found["records"], found["recent"], found["until"]) == (0, [], None)
    assert found["features"]["f1"]["count"] == 0
    assert found["features"]["f1"]["mean"] is None
    json.dumps(found, allow_nan=False)


def test_numbers_are_those_of_numpy() -> None:
    readings, values = Readings(), [float(value) for value in (5, 1, 4, 4, 2, 8)]
    add(readings, values[:4], [0, 1, 0, 0])
    add(readings, values[4:], [1, 0], start=4)
    found = readings.as_dict()
    first = found["features"]["f1"]
    assert (found["records"], found["alarms"], found["until"]) == (6, 2, "at r5")
    assert (first["count"], first["missing"], first["distinct"]) == (6, 0, 5)
    assert (first["min"], first["max"], first["mean"]) == (1, 8, 4)
    assert first["std"] == pytest.approx(np.std(values), rel=1e-6)
    assert first["p95"] == pytest.approx(np.quantile(values, 0.95), rel=1e-6)
    assert first["most_common_share"] == pytest.approx(2 / 6, rel=1e-6)


def test_how_long_a_value_stands_still_is_counted_across_reads() -> None:
    readings = Readings()
    add(readings, [1, 2, 2])
    add(readings, [2, 2], start=3)
    found = readings.as_dict()["features"]
    assert (found["f1"]["unchanged_records"], found["f1"]["changed_at"]) == (4, "at r1")
    assert (found["f2"]["unchanged_records"], found["f2"]["changed_at"]) == (5, "at r0")
    add(readings, [3], start=5)
    assert readings.as_dict()["features"]["f1"]["unchanged_records"] == 1


def test_memory_stays_the_same_however_much_comes() -> None:
    readings = Readings()
    for start in range(0, 3 * WINDOW_RECORDS, 250):
        add(readings, list(range(start, start + 250)), start=start)
    found = readings.as_dict()
    assert found["records"] == WINDOW_RECORDS
    assert found["features"]["f1"]["min"] == 2 * WINDOW_RECORDS
    assert found["recent"][0]["record_id"] == f"r{3 * WINDOW_RECORDS - RECENT_RECORDS}"
    assert found["recent"][-1] == {
        "record_id": "r2999", "recorded_at": "at r2999", "features": [2999, *[7] * 8], "label": 0, "score": 0.25,
    }  # fmt: skip


def test_gaps_are_counted_by_feature_and_decided_by_nobody(tmp_path: Path) -> None:
    path = tmp_path / "records.csv"
    rows = ["a,1,2,3,4,5,6,7,8,9", "b,1,,3,4,5,6,7,8,9", "c,1,nan,3,4,inf,6,7,8,9", "d,1,2", "e,1,2,3,4,5,6,7,8,8"]
    path.write_text("record_id\n" + "".join(f"{row}\n" for row in rows))
    sensor = open_sensor({"kind": "csv_replay", "path": str(path), "rate_hz": 0}, None)
    records = sensor.read(5)
    sensor.close()
    assert records is not None
    assert (records.ids, records.unreadable, len(records.incomplete)) == (["a", "e"], 3, 2)
    readings = Readings()
    readings.add(records, Decisions(np.array([0, 1]), np.array([0.1, 0.9])))
    found = readings.as_dict()
    assert (found["records"], found["incomplete"], found["alarms"]) == (4, 2, 1)
    assert {name: one["missing"] for name, one in found["features"].items() if one["missing"]} == {"f2": 2, "f5": 1}
    assert found["features"]["f9"]["count"] == 4


def test_a_read_of_gaps_only_is_taken_in() -> None:
    readings = Readings()
    gaps = np.full((3, FEATURES), np.nan)
    readings.add(Records([], [], np.empty((0, FEATURES), dtype=np.float32), "", 3, gaps), None)
    found = readings.as_dict()
    assert (found["records"], found["incomplete"], found["features"]["f1"]["missing"]) == (3, 3, 3)
