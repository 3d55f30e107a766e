"""Sensors that fail: a unit that changed, a sensor that is stuck, a mean that wandered, readings that are missing.

A fault changes what a device's sensor reads from now on (its feed, which the device notices at its next read) and what
the historian writes about it (``readings``). Faults of one device add up until :func:`repair`.
"""

from __future__ import annotations

import csv
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal

from sandbox.devices import Device
from sandbox.plant import feed_of, field_records, order
from sandbox.plant_tables import FEATURES, Tables
from sandbox.processes import write_atomically

Kind = Literal["shift", "unit", "stuck", "missing"]
Rows = dict[str, list[float | None]]
"""What a device reads of each record, in the order of its feed."""


class FaultError(Exception):
    """A sensor cannot be made to fail like this: says why, and what was expected."""


@dataclass(frozen=True)
class Fault:
    """One sensor's fault.

    ``shift``: ``amount`` standard deviations more. ``unit``: ``amount`` times the value, plus ``offset``. ``stuck``:
    the median for ever. ``missing``: the share ``amount`` of readings is not there.
    """

    feature: str
    kind: Kind
    amount: float = 0.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if self.feature not in FEATURES:
            raise FaultError(f"feature: expected one of {', '.join(FEATURES)}, got {self.feature!r}")
        if self.kind == "missing" and not 0 < self.amount <= 1:
            raise FaultError(f"missing: expected a share above 0, at most 1, got {self.amount:g}")

    def apply(self, values: Sequence[float | None]) -> list[float | None]:
        """What the sensor reads instead of ``values``; what is missing stays missing."""
        there = [value for value in values if value is not None]
        if not there:
            return list(values)
        if self.kind == "missing":
            chance = random.Random(self.feature)  # noqa: S311 (reproducible, not secret)
            return [None if chance.random() < self.amount else value for value in values]
        if self.kind == "stuck":
            factor, offset = 0.0, statistics.median(there)
        elif self.kind == "shift":
            factor, offset = 1.0, self.amount * statistics.pstdev(there)
        else:
            factor, offset = self.amount, self.offset
        return [None if value is None else round(factor * value + offset, 4) for value in values]

    def __str__(self) -> str:
        if self.kind == "unit":
            return f"{self.feature} is read times {self.amount:g} plus {self.offset:g}"
        if self.kind == "stuck":
            return f"{self.feature} is stuck"
        if self.kind == "shift":
            return f"{self.feature} is {self.amount:+g} standard deviations off"
        return f"{self.amount:.0%} of the readings of {self.feature} are missing"


def break_sensor(tables: Tables, device: Device, fault: Fault) -> int:
    """Make a sensor of ``device`` fail from now on; returns how many of its records read differently.

    :raises FaultError: the device has no feed (``up`` writes it)
    """
    before = _read_feed(device)
    column = FEATURES.index(fault.feature)
    read = fault.apply([values[column] for values in before.values()])
    after = {
        record_id: [*values[:column], value, *values[column + 1 :]]
        for (record_id, values), value in zip(before.items(), read)
    }
    return _change(tables, device, before, after)


def repair(tables: Tables, device: Device) -> int:
    """Let all sensors of ``device`` read what is there; returns how many of its records read differently.

    :raises FaultError: the device has no feed
    """
    records = list(field_records())
    in_order = (records[position] for position in order(len(records), device.number))
    return _change(tables, device, _read_feed(device), {one.record_id: list(one.features) for one in in_order})


def _read_feed(device: Device) -> Rows:
    try:
        with feed_of(device).open(newline="") as file:
            rows = csv.reader(file)
            next(rows)
            return {row[0]: [float(value) if value else None for value in row[1:]] for row in rows}
    except OSError as error:
        raise FaultError(f"{feed_of(device)}: {error.strerror}; expected the feed of {device.name}: make up") from error


def _change(tables: Tables, device: Device, before: Rows, after: Rows) -> int:
    """The historian first: who dies in between has written what nobody reads yet, and writes it again."""
    changed = [(record_id, values) for record_id, values in after.items() if values != before[record_id]]
    if changed:
        now = datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
        tables.load_readings(changed, device=device.name, since=now)
        lines = (f"{record_id},{','.join(map(_text, values))}\n" for record_id, values in after.items())
        write_atomically(feed_of(device), f"record_id,{','.join(FEATURES)}\n" + "".join(lines))
    return len(changed)


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.9g}"
