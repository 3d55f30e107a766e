"""The drift report: which reading held when a device decided, who drifts, what is kept, and what people are told."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from drift_report import fleet_drift, fleet_drift_page
from drift_report.fleet_drift import FleetDrift
from toolbox import drift, policy, report, summaries
from toolbox.context import Context
from toolbox.readings import as_seen
from toolbox.registry import Version

NOON = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
NAMES = ["f1", "f2", "f3"]
LIMITS = policy.load(drift.Policy, drift.POLICY_FILE)
GROUPS = {"levels": ["f1", "f2"], "differences": ["f3"]}
DEVICES = ["device-001", "device-002", "device-003"]
RECORDS = 800


def values(seed: int, count: int = RECORDS) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {name: random.normal(10 * number, 2, count).round(3) for number, name in enumerate(NAMES)}


REFERENCE = pa.table(values(0, 2000))


def decisions(device: str, *, start: datetime = NOON, first: int = 0, count: int = RECORDS) -> pd.DataFrame:
    moments = [start + timedelta(seconds=number / 50) for number in range(count)]
    ids = [f"r{first + number}" for number in range(count)]
    return pd.DataFrame({"device": device, "record_id": ids, "recorded_at": moments, "release": "v2"})


def readings(seed: int = 1, device: str = "*", since: str = "", **changed: Any) -> pd.DataFrame:
    """The historian's rows of all records; ``changed``: what a feature reads instead."""
    return pd.DataFrame(
        {"device": device, "record_id": [f"r{n}" for n in range(RECORDS)], "since": since, **values(seed), **changed}
    )


def seen(*others: pd.DataFrame, devices: list[str] = DEVICES) -> pd.DataFrame:
    made = pd.concat([decisions(device) for device in devices], ignore_index=True)
    return as_seen(made, pd.concat([readings(), *others], ignore_index=True), NAMES)


def judged(*others: pd.DataFrame, gaps: Any = None) -> FleetDrift:
    return fleet_drift.judge(seen(*others), REFERENCE, gaps or {}, LIMITS, n_decisions=3 * RECORDS)


EARLY = "2026-11-23T11:00:00.000000Z"
FAHRENHEIT = readings(device="device-002", since=EARLY, f2=values(1)["f2"] * 1.8 + 32)
STUCK = readings(device="device-003", since=EARLY, f1=4.0)


# -- which reading held --------------------------------------------------------------------------------------------


def test_the_reading_that_held_when_the_device_decided() -> None:
    made = decisions("device-001", count=3)
    rows = [
        ("*", "r0", "", 1.0),
        ("*", "r1", "", 2.0),
        ("device-001", "r0", "2026-11-23T11:59:00Z", 10.0),
        ("device-001", "r0", "2026-11-23T11:59:30Z", 11.0),
        ("device-001", "r0", "2026-11-23T12:30:00Z", 12.0),
        ("device-002", "r1", "2026-11-23T11:00:00Z", 99.0),
    ]
    known = pd.DataFrame(rows, columns=["device", "record_id", "since", "f1"])
    found = as_seen(made, known, ["f1"])
    assert found[["record_id", "f1", "is_known"]].to_numpy().tolist()[:2] == [["r0", 11.0, True], ["r1", 2.0, True]]
    assert found["is_known"].tolist() == [True, True, False], "of r2 the historian knows nothing"


def test_a_missing_reading_of_the_device_is_not_replaced_by_that_of_the_others() -> None:
    known = pd.DataFrame(
        {"device": ["*", "device-001"], "record_id": "r0", "since": ["", EARLY], "f1": [1.0, None], "f2": [2.0, 3.0]}
    )
    found = as_seen(decisions("device-001", count=1), known, ["f1", "f2"])
    assert found["f1"].isna().all()
    assert found["f2"].tolist() == [3.0]


def test_a_record_counts_once_for_a_device_unless_its_sensor_changed_in_between() -> None:
    later = decisions("device-001", start=NOON + timedelta(hours=1))
    made = pd.concat([decisions("device-001"), decisions("device-001", start=NOON + timedelta(minutes=10)), later])
    assert len(as_seen(made, readings(), NAMES)) == RECORDS
    broken = readings(device="device-001", since="2026-11-23T12:30:00Z", f1=500.0)
    found = as_seen(made, pd.concat([readings(), broken]), NAMES)
    assert len(found) == 2 * RECORDS
    assert (found["f1"] == 500).sum() == RECORDS


# -- who drifts ----------------------------------------------------------------------------------------------------


def test_nothing_is_found_where_nothing_changed() -> None:
    result = judged()
    assert (result.verdict, result.n_known, result.n_seen) == ("none", 3 * RECORDS, 3 * RECORDS)
    assert [one.verdict for one in result.devices] == ["none"] * 3
    assert result.fleet is not None
    assert result.fleet.n_current == RECORDS, "each record once for the fleet"


def test_the_device_with_another_unit_and_the_one_with_a_stuck_sensor_are_named() -> None:
    result = judged(FAHRENHEIT, STUCK)
    assert {one.device: one.verdict for one in result.devices} == {
        "device-001": "none",
        "device-002": "drift",
        "device-003": "warn",
    }
    (drifting,) = result.having("drift")
    assert drifting.suspects == ["f2"]
    assert drifting.found is not None
    assert "°C → °F" in str(drifting.found.features[1].unit)
    assert result.having("warn")[0].suspects == ["f1"]


def test_a_share_of_missing_readings_that_the_device_reports_is_a_warning() -> None:
    gaps = {"device-001": {"f1": (0, 1000), "f2": (150, 1000)}, "device-002": {"f1": (1, 1000)}}
    result = judged(gaps=gaps)
    assert {one.device: dict(one.gaps) for one in result.devices} == {
        "device-001": {"f2": 0.15},
        "device-002": {},
        "device-003": {},
    }
    assert result.devices[0].verdict == result.verdict == "warn"


def test_a_device_with_few_records_is_shown_and_not_judged() -> None:
    made = pd.concat([decisions("device-001"), decisions("device-002", count=fleet_drift.LEAST_RECORDS - 1)])
    broken = readings(device="device-002", since=EARLY, f2=1000.0)
    found = as_seen(made, pd.concat([readings(), broken]), NAMES)
    result = fleet_drift.judge(found, REFERENCE, {}, LIMITS, n_decisions=len(made))
    assert [(one.device, one.found is None, one.verdict) for one in result.devices] == [
        ("device-001", False, "none"),
        ("device-002", True, "none"),
    ]


def test_more_devices_make_no_more_false_alarms() -> None:
    """A device has its share of the significance: what is just significant alone is not among many."""
    alone = judged()
    assert alone.devices[0].found is not None
    assert alone.devices[0].found.policy.significance == pytest.approx(LIMITS.significance / 4)


def test_without_decisions_there_is_nothing_to_judge() -> None:
    result = fleet_drift.judge(seen(devices=["device-001"]).iloc[:0], REFERENCE, {}, LIMITS, n_decisions=0)
    assert (result.devices, result.fleet, result.verdict) == ((), None, "none")


# -- what is kept --------------------------------------------------------------------------------------------------


def rows(result: FleetDrift) -> pd.DataFrame:
    return fleet_drift.summary(result, GROUPS, data_version="d1")


def test_the_summary_has_a_row_for_each_device_and_group_and_for_the_fleet() -> None:
    found = rows(judged(FAHRENHEIT, STUCK))
    assert list(found.columns) == list(fleet_drift.SUMMARY_COLUMNS)
    assert found.groupby("device")["feature_group"].apply(list).to_dict() == {
        device: ["levels", "differences"] for device in ["*", *DEVICES]
    }
    of = found.set_index(["device", "feature_group"])
    assert of.loc[("device-002", "levels"), "verdict"] == "drift"
    assert of.loc[("device-002", "levels"), "drifted"] == "f2"
    assert of.loc[("device-003", "levels"), "verdict"] == "warn"
    assert of.loc[("device-002", "differences"), "verdict"] == "none"


def test_a_first_summary_without_a_row_makes_the_table_as_any_other() -> None:
    nobody = fleet_drift.judge(seen().iloc[:0], REFERENCE, {}, LIMITS, n_decisions=0)
    assert rows(nobody).empty
    made = [summaries.statements("drift_summary", {"day": "2026-11-23"}, rows(it))[0][0] for it in (nobody, judged())]
    assert made[0] == made[1]
    assert "distance double precision, missing_share double precision, records bigint" in made[0]


def test_the_same_data_makes_the_same_rows() -> None:
    pd.testing.assert_frame_equal(rows(judged(FAHRENHEIT)), rows(judged(FAHRENHEIT)))


def test_there_is_a_number_for_each_group_of_features() -> None:
    result = judged(FAHRENHEIT, STUCK)
    numbers = fleet_drift.numbers(result, rows(result))
    assert {name: numbers[name] for name in numbers if "Devices" in name} == {
        "DriftingDevices": 1,
        "WarningDevices": 1,
        "DriftingDevices.levels": 1,
        "DriftingDevices.differences": 0,
    }
    assert numbers["DriftDistance.levels"] > 0.2 > numbers["DriftDistance.differences"]


# -- what people are told ------------------------------------------------------------------------------------------

RUN = Context("0" * 24, "a" * 40, "", {"lookback_h": 24, "model": "m"}, {"env": "sandbox"}, Path())
CHAMPION = Version("v2", "s" * 64, "d" * 64, "g" * 40, "e" * 64)


def page(result: FleetDrift, data: pd.DataFrame, earlier: int = 0, reference: pa.Table = REFERENCE) -> report.Report:
    today = rows(result)
    days = [today.assign(day=(NOON - timedelta(days=back)).date().isoformat()) for back in range(earlier, -1, -1)]
    window = fleet_drift_page.Window(NOON - timedelta(hours=24), NOON, CHAMPION, 5000, "f" * 64, data)
    return fleet_drift_page.page(result, reference, pd.concat(days), window, RUN)


def test_the_first_screen_names_device_and_sensor() -> None:
    data = seen(FAHRENHEIT, STUCK)
    said = page(fleet_drift.judge(data, REFERENCE, {}, LIMITS, n_decisions=1), data)
    assert (said.state, said.headline) == ("watch", "device-002 reads other data than the model was trained on")
    assert "`f2` of `device-002`" in said.action
    assert any(reason.startswith("device-002: f2: drifted") and "°F" in reason for reason in said.reasons)
    assert any(reason.startswith("device-003: f1: stands still at 4") for reason in said.reasons)


def test_a_day_without_findings_asks_for_nothing() -> None:
    said = page(judged(), seen())
    assert (said.state, said.headline, said.action) == ("ok", "3 devices: the data is as in training", "Nothing.")


def test_a_device_that_fell_silent_is_named() -> None:
    result = judged()
    trend = rows(result).assign(day="2026-11-22", device="device-009")
    window = fleet_drift_page.Window(NOON - timedelta(hours=24), NOON, CHAMPION, 5000, "f" * 64, seen())
    said = fleet_drift_page.page(result, REFERENCE, trend, window, RUN)
    assert list(said.reasons) == ["device-009: no decision in this time, but on an earlier day"]


def test_the_trend_is_drawn_from_the_second_day_on() -> None:
    titles = [[section.title for section in page(judged(), seen(), earlier=days).sections] for days in (0, 1)]
    assert ["By day" in some for some in titles] == [False, True]


def test_the_page_of_less_than_a_day_says_that_it_is_not_kept() -> None:
    notes = []
    for hours in (24, 23):
        window = fleet_drift_page.Window(NOON - timedelta(hours=hours), NOON, CHAMPION, 5000, "f" * 64, seen())
        made = fleet_drift_page.page(judged(), REFERENCE, rows(judged()).assign(day="2026-11-23"), window, RUN)
        notes.append([note for note in made.footer if "drift_summary" in note])
    assert notes == [[], ["Less than a day: not kept in drift_summary, nor beside other days."]]


def test_the_same_result_is_the_same_page() -> None:
    data = seen(FAHRENHEIT)
    result = fleet_drift.judge(data, REFERENCE, {}, LIMITS, n_decisions=1)
    assert report.html(page(result, data, earlier=3)) == report.html(page(result, data, earlier=3))


def test_the_page_of_128_features_is_below_a_megabyte() -> None:
    names = [f"x{number}" for number in range(128)]
    random = np.random.default_rng(3)
    reference = pa.table({name: random.normal(size=300) for name in names})
    count = 10 * 150
    data = pd.DataFrame(random.normal(size=(count, 128)), columns=names).assign(
        device=[f"device-{number // 150:03}" for number in range(count)],
        record_id=[f"r{number % 150}" for number in range(count)],
        recorded_at=pd.Timestamp("2026-11-23"),
        release="v2",
        is_known=True,
    )
    data.loc[data["device"] == "device-007", names[:20]] += 3
    result = fleet_drift.judge(data, reference, {}, LIMITS, n_decisions=count)
    said = page(result, data, earlier=30, reference=reference)
    assert said.headline.startswith("device-007 reads other data")
    assert len(report.html(said).encode()) < 1_000_000
