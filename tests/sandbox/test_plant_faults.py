# ruff: noqa: S608 (the names are ours)
"""Sensors that fail: what a fault makes of readings, that the feed and the historian say the same, and the repair."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Callable
from typing import Any

import pytest

from sandbox.devices import Device
from sandbox.plant import feed_of
from sandbox.plant_faults import Fault, FaultError
from sandbox.plant_tables import FEATURES
from tests.sandbox.support import OwnSandbox
from tests.sandbox.test_redshift_data import Database

NULL = True
"""As the Data API says it: isNull."""
READ = [0.0, 10.0, None, 20.0, 30.0]


def test_a_shift_adds_standard_deviations() -> None:
    step = 1.5 * statistics.pstdev([0, 10, 20, 30])
    found = Fault("f4", "shift", 1.5).apply(READ)
    assert found == [None if value is None else pytest.approx(value + step, abs=1e-4) for value in READ]


def test_another_unit_is_a_factor_and_an_offset() -> None:
    assert Fault("f4", "unit", 1.8, 32).apply(READ) == [32.0, 50.0, None, 68.0, 86.0]


def test_a_stuck_sensor_reads_one_value() -> None:
    assert Fault("f4", "stuck").apply(READ) == [15.0, 15.0, None, 15.0, 15.0]


def test_a_share_is_missing_and_always_the_same_one() -> None:
    values = [float(number) for number in range(2000)]
    found = Fault("f4", "missing", 0.2).apply(values)
    assert found.count(None) == pytest.approx(400, abs=60)
    assert {value for value in found if value is not None} < set(values)
    assert Fault("f4", "missing", 0.2).apply(values) == found


@pytest.mark.parametrize(
    ("feature", "kind", "amount"), [("f10", "stuck", 0), ("f4", "missing", 0), ("f4", "missing", 2)]
)
def test_a_fault_that_cannot_be_is_refused(feature: str, kind: Any, amount: float) -> None:
    with pytest.raises(FaultError, match="expected"):
        Fault(feature, kind, amount)


def _feed(device: Device) -> dict[str, list[float | None]]:
    with feed_of(device).open(newline="") as file:
        return {row[0]: [float(value) if value else None for value in row[1:]] for row in list(csv.reader(file))[1:]}


@pytest.mark.sandbox
def test_feed_and_historian_agree_until_the_repair_and_after_it(
    aws: Callable[[str], Any], own_sandbox: OwnSandbox
) -> None:
    device, other = Device(own_sandbox.settings, 1), Device(own_sandbox.settings, 2)
    healthy, of_other = _feed(device), feed_of(other).read_text()
    for fault in (["--feature", "f3", "--factor", "1.8", "--offset", "32"], ["--feature", "f7", "--missing", "0.1"]):
        done = own_sandbox.run("plant", "drift", device.name, *fault)
        assert done.returncode == 0, done.stderr
    broken = _feed(device)
    assert list(broken) == list(healthy), "the order of records is the device's own"
    assert all(broken[key][2] == pytest.approx((healthy[key][2] or 0) * 1.8 + 32) for key in healthy)
    share = sum(values[6] is None for values in broken.values()) / len(broken)
    assert share == pytest.approx(0.1, abs=0.02)

    newest = f"""select record_id, {",".join(FEATURES)} from readings where device = '{device.name}'
        qualify row_number() over (partition by record_id order by since desc) = 1"""
    rows = Database(aws("redshift-data")).rows(newest)
    assert {row[0]: row[1:] for row in rows} == {key: list(map(_known, values)) for key, values in broken.items()}

    done = own_sandbox.run("plant", "repair", device.name)
    assert done.returncode == 0, done.stderr
    assert _feed(device) == healthy
    rows = Database(aws("redshift-data")).rows(newest)
    assert {row[0]: row[1:] for row in rows} == healthy
    assert own_sandbox.run("plant", "repair", device.name).stdout.endswith(
        " 0 of its records read differently from now on\n"
    )
    assert feed_of(other).read_text() == of_other


def _known(value: float | None) -> Any:
    return NULL if value is None else pytest.approx(value, abs=1e-6)


@pytest.mark.sandbox
def test_a_device_that_is_not_there_and_a_missing_choice_are_named(own_sandbox: OwnSandbox) -> None:
    done = own_sandbox.run("plant", "drift", "device-900", "--feature", "f1", "--stuck")
    assert (done.returncode, done.stderr) == (
        2,
        "sandbox: device: expected one of device-001–device-002 (at most 100), got 'device-900'\n",
    )
    assert own_sandbox.run("plant", "drift", "device-001", "--feature", "f1").returncode == 2
