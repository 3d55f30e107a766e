"""The plant: the physical world around the devices. ``python -m sandbox.plant [--json]``; ``up`` runs it.

The records are NASA's Shuttle sensor readings as ``river`` ships them. Rows with ``row % 5 in (3, 4)`` are the *field*:
what the devices' sensors read, each device in an order of its own. The rest is the training data. What an inspector
later finds out about the field's records is the table ``labels`` in Redshift, what the sensors read is ``readings``
(:mod:`sandbox.plant_tables`). Sensors fail by :mod:`sandbox.plant_faults`.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import importlib.util
import json
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.devices import Device
from sandbox.lifecycle import all_devices
from sandbox.plant_tables import ALWAYS, EVERY_DEVICE, FEATURES, Tables
from sandbox.processes import write_atomically
from sandbox.settings import Settings, SettingsError, load


@dataclass(frozen=True)
class Record:
    """One sensor reading; ``label`` is 1 for an anomaly."""

    record_id: str
    features: tuple[int, ...]
    label: int


def is_field(row: int) -> bool:
    return row % 5 in (3, 4)


def field_records() -> Iterator[Record]:
    """The field's records in the data set's order."""
    with gzip.open(_data_set(), "rt", newline="") as file:
        for row, reading in enumerate(csv.DictReader(file)):
            if is_field(row):
                features = tuple(int(reading[name]) for name in FEATURES)
                yield Record(f"shuttle-{row}", features, int(reading["anomaly"]))


def _data_set() -> Path:
    """The file inside the installed river, found without importing river (its datasets take four seconds)."""
    river = importlib.util.find_spec("river")
    if river is None or river.origin is None:
        raise FileNotFoundError("river: expected to be installed in .venv; run: make setup")
    return Path(river.origin).parent / "datasets/shuttle.csv.gz"


def order(count: int, device_number: int) -> list[int]:
    """Positions 0..count-1 in the device's own order, always the same.

    The order of the data set carries no time, but it is not quite random either: anomalies per 555 rows vary with a
    standard deviation of 7.3 where independence gives 6.1. Gates assume independent records, so the plant shuffles.
    """
    positions = list(range(count))
    random.Random(device_number).shuffle(positions)  # noqa: S311 (reproducible, not secret)
    return positions


def feed_of(device: Device) -> Path:
    """The file that is the device's sensors: ``record_id,f1 ... f9``."""
    return device.root / "sensor/records.csv"


def write_feeds(missing: list[tuple[int, Path]], records: list[Record]) -> None:
    """Write ``records.csv`` of each device in ``missing`` (number, path), in one step each."""
    lines = [f"{record.record_id},{','.join(map(str, record.features))}\n" for record in records]
    header = f"record_id,{','.join(FEATURES)}\n"
    for number, path in missing:
        write_atomically(path, header + "".join(lines[at] for at in order(len(lines), number)))


def fill(load_rows: Callable[[], None], count: Callable[[], int], expected: int) -> None:
    """Load a table's rows, unless a plant that was killed has left a statement that does so meanwhile."""
    try:
        load_rows()
    except RuntimeError:
        if count() != expected:
            raise


def set_up(settings: Settings) -> dict[str, Any]:
    """Write the missing feeds and load the tables where they are not complete. Run again it changes nothing."""
    missing = [device for device in all_devices(settings) if not feed_of(device).exists()]
    tables = Tables(settings)
    tables.ensure_cluster()
    labels, readings = tables.count_labels(), tables.count_readings()
    records = list(field_records())
    everything = len(records)
    if not missing and labels == readings == everything:
        return {"changed": False, "records": everything, "labels": labels}
    if missing:
        tables.forget_readings([device.name for device in missing])
    write_feeds([(device.number, feed_of(device)) for device in missing], records)
    if labels != everything:
        found = [(record.record_id, record.label) for record in records]
        fill(lambda: tables.load_labels(found), tables.count_labels, everything)
    if readings != everything:
        read = [(record.record_id, record.features) for record in records]
        fill(
            lambda: tables.load_readings(read, device=EVERY_DEVICE, since=ALWAYS),
            tables.count_readings,
            everything,
        )
    return {"changed": True, "records": everything, "labels": everything}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sandbox.plant", description="Feeds sensors, loads labels.")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    as_json = parser.parse_args().json
    try:
        result = set_up(load())
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(result) if as_json else f"{result['records']} records for each device, {result['labels']} labels")
    return 0


if __name__ == "__main__":
    sys.exit(main())
