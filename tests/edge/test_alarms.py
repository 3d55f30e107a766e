"""When a device raises an alarm about itself; and how often it would without a reason."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model import Decisions
from readings import Readings
from sensor import Records
from twinops.edge import alarms, report

from tests.unit.test_diagnosis import facts

WINDOWS = 300


def names(found: list[Any]) -> list[str]:
    return [f"{one.kind} {one.subject}".strip() for one in found]


def at(time: str, **device: Any) -> dict[str, Any]:
    health = {"last_upload_at": time, "started_at": "00:00:00", **device.pop("health", {})}
    return facts({"reported_at": time, "starts": [], "health": health, **device}, device.pop("sensor", {}))


FAHRENHEIT = {"f1": {"below": [68, 71.6, 77]}}
FULL = {"total_bytes": 100, "free_bytes": 1}


def test_a_device_that_is_well_raises_none_and_learns_what_is_usual() -> None:
    _, news, memory = alarms.examine(at("08:00:00"), {})
    assert (news, memory["raised"]) == ([], {})
    assert "recent" not in memory["usual"]["readings"]
    json.dumps(memory)


def test_a_service_that_has_just_started_does_not_know_what_is_usual() -> None:
    young = at("08:00:00")
    young["readings"]["records"] = 100
    assert "usual" not in alarms.examine(young, {})[2]


def test_an_alarm_is_raised_once_and_again_when_it_comes_back() -> None:
    memory: dict[str, Any] = {}
    raised = []
    for time, disk in (("08:00:00", FULL), ("08:10:00", FULL), ("08:20:00", {}), ("08:30:00", FULL)):
        _, news, memory = alarms.examine(at(time, disk=disk), memory)
        raised.append(names(news))
    assert raised == [["disk"], [], [], ["disk"]]


def test_what_lasts_is_raised_again_after_a_day() -> None:
    *_, memory = alarms.examine(at("08:00:00", disk=FULL), {})
    memory["raised"]["disk"] = "2026-11-22T08:00:30+00:00"
    assert names(alarms.examine(at("08:00:00", disk=FULL), memory)[1]) == []
    assert names(alarms.examine(at("08:01:00", disk=FULL), memory)[1]) == ["disk"]


def test_a_sensor_is_compared_with_what_it_read_when_all_was_well() -> None:
    *_, memory = alarms.examine(at("08:00:00"), {})
    for time in ("08:10:00", "23:59:00"):
        _, news, after = alarms.examine(at(time, sensor=FAHRENHEIT), memory)
        assert names(news) == ["unit_change f1"]
        assert after["usual_at"] == memory["usual_at"]  # what is wrong never becomes what is usual


def test_what_is_usual_is_renewed_after_a_day() -> None:
    *_, memory = alarms.examine(at("08:00:00"), {})
    memory["usual_at"] = "2026-11-22T07:00:00+00:00"
    assert alarms.examine(at("08:00:00"), memory)[2]["usual_at"].startswith("2026-11-23T08:00:00")


@pytest.mark.parametrize(
    "memory",
    [
        {"raised": []},
        {"raised": {"disk": 7}},
        {"usual": 7},
        {"usual_at": "soon"},
        {"raised": {"disk": "2026-11-20T08:00:00"}},
        {"usual_at": "2026-11-20T08:00:00"},
    ],
)
def test_a_memory_that_was_damaged_is_made_anew(memory: dict[str, Any]) -> None:
    assert names(alarms.examine(at("08:00:00", disk=FULL), memory)[1]) == ["disk"]


def test_the_memory_is_written_only_where_it_changed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    memory: dict[str, Any] = {}
    written = []
    for time in ("08:00:00", "08:10:00", "08:20:00"):
        said = at(time)
        _, news, remembered = alarms.examine(said, memory)
        report.raise_alarms(tmp_path, said, news, memory, remembered)
        memory = json.loads((tmp_path / report.MEMORY).read_text())
        assert memory == remembered
        written.append((tmp_path / report.MEMORY).stat().st_mtime_ns)
    assert len(set(written)) == 1


def test_the_event_names_device_and_run_parameters() -> None:
    said = at("08:00:00", disk=FULL, env="sandbox")
    _, news, _ = alarms.examine(said, {})
    assert alarms.event(said, news) == {
        "device": "device-003", "env": "sandbox", "parameters": {"device": "device-003"},
        "alarms": [{"kind": "disk", "subject": "", "title": "Its disk is 99% full"}],
    }  # fmt: skip


def field() -> tuple[np.ndarray, np.ndarray]:
    """All readings of the Shuttle file, and their labels."""
    river = importlib.util.find_spec("river")
    assert river is not None
    assert river.origin is not None
    with gzip.open(Path(river.origin).parent / "datasets/shuttle.csv.gz", "rt", newline="") as file:
        rows = [
            (*(float(row[f"f{number}"]) for number in range(1, 10)), int(row["anomaly"]))
            for row in csv.DictReader(file)
        ]
    table = np.array(rows)
    return table[:, :9].astype(np.float32), table[:, 9].astype(int)


def test_a_healthy_sensor_raises_no_alarm_in_300_windows() -> None:
    """Real readings, each window compared with another one, as a device does from day to day."""
    features, labels = field()
    chance = random.Random(6)  # noqa: S311 (reproducible, not secret)
    found = []
    for _ in range(WINDOWS):
        said = []
        for _ in range(2):
            rows = chance.sample(range(len(features)), 1000)
            readings = Readings()
            ids = [""] * len(rows)
            readings.add(Records(ids, ids, features[rows], "", 0), Decisions(labels[rows], labels[rows].astype(float)))
            said.append({**at("08:00:00"), "readings": readings.as_dict()})
        memory = alarms.examine(said[0], {})[2]
        found += names(alarms.examine(said[1], memory)[1])
    assert found == []
