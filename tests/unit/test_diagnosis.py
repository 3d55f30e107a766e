"""What is wrong with a device. The cases are in tests/plans/triage, in words that need no Python."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from twinops import diagnosis
from twinops.conversions import CONVERSIONS
from twinops.diagnosis import Heard

PLANS = Path(__file__).parents[1] / "plans/triage"
DEVICE, SENSOR = (yaml.safe_load((PLANS / name).read_text("utf-8")) for name in ("device.yml", "sensor.yml"))
DAY = "2026-11-23T"
DIGESTS = frozenset({"digest of v2"})
USUAL = {"f1": (20, 22, 25), "f2": (-4, 0, 4), "f3": (100, 150, 200)}
TIMES_OF_HEALTH = ("last_upload_at", "started_at")


def at(time: str) -> datetime:
    return datetime.fromisoformat(f"{DAY}{time}+00:00")


def dated(time: Any) -> Any:
    """A time of the day in a case as facts have it; what is no time stays as it is."""
    return f"{DAY}{time}.000000Z" if isinstance(time, str) and len(time) == len("12:00:00") else time


def feature(usual: tuple[float, ...], said: Mapping[str, Any], nudge: float) -> dict[str, Any]:
    """The summary of a feature; ``nudge`` is what a device differs by from others, in shares of the range."""
    low, middle, high = said.get("below", [value + nudge * (usual[-1] - usual[0]) for value in usual])
    missing = said.get("missing", 0)
    there = said.get("count", 1000) - missing
    distinct = said.get("distinct", 80)
    quantiles = {"p05": low, "p25": (low + middle) / 2, "p50": middle, "p75": (middle + high) / 2, "p95": high}
    numbers = {**quantiles, "min": low, "max": high, "mean": middle, "std": 1.0}
    return {
        "count": there, "missing": missing, "distinct": distinct if there else 0,
        **(numbers if there else dict.fromkeys(numbers)),
        "most_common_share": said.get("common", 1.0 if distinct == 1 else 0.3),
        "unchanged_records": said.get("unchanged", 1), "changed_at": dated("11:40:00"),
    }  # fmt: skip


def facts(device: Mapping[str, Any], sensor: Mapping[str, Any], alarms: int = 70, nudge: float = 0) -> dict[str, Any]:
    """Facts of a device that is well, but for what a case says."""
    health = {
        "status": "ok", "reason": "", "release": "v2", "model_sha256": "2" * 64, "spool_depth": 40, "spool_dropped": 0,
        "last_upload_at": "11:59:12", "started_at": "11:00:00", "upload_error": None, "clock_offset_s": 0.3,
    }  # fmt: skip
    found: dict[str, Any] = {
        "device": "device-003", "interval_s": 600, "reported_at": "11:59:19", "release": "v2", "phase": "committed",
        "release_digest": "digest of v2", "model_sha256": "2" * 64, "model_file_sha256": "2" * 64, "target": None,
        "waiting": None, "starts": ["11:00:00"], "history": [], "problems": [], "log": [],
        "disk": {"total_bytes": 8_000_000_000, "free_bytes": 3_000_000_000},
        "memory": {"total_bytes": 1_000_000_000, "available_bytes": 600_000_000, "service_bytes": 90_000_000},
        "readings": {
            "records": 1000, "alarms": alarms,
            "features": {name: feature(usual, sensor.get(name, {}), nudge) for name, usual in USUAL.items()},
        },
        **device,
    }  # fmt: skip
    if isinstance(device.get("health", {}), dict):
        found["health"] = {**health, **device.get("health", {})}
        found["health"].update({key: dated(found["health"][key]) for key in TIMES_OF_HEALTH})
    found["reported_at"] = dated(found["reported_at"])
    if isinstance(found["starts"], list):
        found["starts"] = [dated(start) for start in found["starts"]]
    if isinstance(found["history"], list):
        found["history"] = [{**entry, "at": dated(entry["at"])} for entry in found["history"]]
    return found


def others(case: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Three devices that are well; one of them is broken where the case says so."""
    if case.get("alone"):
        return []
    well = case.get("others", {})
    said = [facts({}, well), facts({}, case.get("broken_other", well), nudge=0.02), facts({}, well, nudge=-0.02)]
    return said[: case.get("others_count", 3)]


def assert_finds(case: Mapping[str, Any], found: list[diagnosis.Finding]) -> None:
    assert [f"{f'{one.kind} {one.subject}'.strip()}: {one.title}" for one in found] == case["finds"]
    said = "\n".join("\n".join((*one.evidence, one.action)) for one in found)
    assert all(words in said for words in case.get("says", [])), said
    assert all(one.evidence and one.action for one in found)


@pytest.mark.parametrize("case", DEVICE, ids=[case["name"] for case in DEVICE])
def test_devices(case: dict[str, Any]) -> None:
    heard_at = case.get("heard", "11:59:20")
    heard = Heard(facts({"reported_at": heard_at, **case.get("device", {})}, {}), at(heard_at))
    assert_finds(case, diagnosis.diagnose(heard, at("12:00:00"), others({}), digests=DIGESTS))


@pytest.mark.parametrize("case", SENSOR, ids=[case["name"] for case in SENSOR])
def test_sensors(case: dict[str, Any]) -> None:
    said = facts({}, case["sensor"], case.get("alarms", 70), nudge=0.01)
    said["readings"]["records"] = case.get("records", 1000)
    heard = Heard(said, at("11:59:20"))
    assert_finds(case, diagnosis.diagnose(heard, at("12:00:00"), others(case), digests=DIGESTS))


@pytest.mark.parametrize("conversion", CONVERSIONS, ids=[name for name, _, _ in CONVERSIONS])
def test_every_conversion_is_recognised_and_can_be_undone(conversion: tuple[str, float, float]) -> None:
    name, factor, offset = conversion
    below = sorted(factor * value + offset for value in USUAL["f3"])
    heard = Heard(facts({}, {"f3": {"below": below}}), at("11:59:20"))
    (found,) = diagnosis.diagnose(heard, at("12:00:00"), others({}))
    assert any(name in evidence for evidence in found.evidence)
    assert found.title.isascii(), "it becomes the subject of a mail"
    assert found.conversion is not None
    back = sorted(found.conversion[0] * value + found.conversion[1] for value in below)
    assert back == pytest.approx(USUAL["f3"])


def test_a_device_may_be_compared_with_its_own_past() -> None:
    now = facts({}, {"f1": {"below": [68, 71.6, 77]}})
    (found,) = diagnosis.diagnose(Heard(now, at("11:59:20")), at("12:00:00"), [facts({}, {})])
    assert (found.kind, found.subject) == (diagnosis.UNIT, "f1")


def test_where_nothing_is_known_of_releases_none_is_wrong() -> None:
    heard = Heard(facts({"release_digest": "another"}, {}), at("11:59:20"))
    assert diagnosis.diagnose(heard, at("12:00:00"), []) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_a_device_says_is_taken(data: st.DataObject) -> None:
    """Any part of the facts replaced by any JSON: no exception, and what is found can be written down."""
    said = facts({}, {})
    holder: Any = said
    while True:
        key = data.draw(st.sampled_from(sorted(holder)))
        if not isinstance(holder[key], dict) or data.draw(st.booleans()):
            holder[key] = data.draw(JSON)
            break
        holder = holder[key]
    for one, references in ((said, others({})), (facts({}, {}), [said])):
        found = diagnosis.diagnose(Heard(one, at("11:59:20")), at("12:00:00"), references, digests=DIGESTS)
        json.dumps([[finding.title, *finding.evidence] for finding in found])
