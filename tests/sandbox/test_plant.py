# ruff: noqa: S608 (the names are ours)
"""The plant: which records are the field, how sensors are fed, and that the labels arrive."""

from __future__ import annotations

import csv
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from sandbox.devices import Device
from sandbox.plant import field_records, fill, is_field, order, write_feeds
from sandbox.plant_tables import FEATURES, Tables
from tests.sandbox.support import DEVICES, OwnSandbox
from tests.sandbox.test_redshift_data import Database

RECORDS = 49_097


def test_two_fifths_of_the_rows_are_the_field() -> None:
    assert [row for row in range(10) if is_field(row)] == [3, 4, 8, 9]


def test_the_field_is_the_shuttle_data_as_river_reads_it() -> None:
    from river import datasets

    records = list(field_records())
    assert len(records) == sum(is_field(row) for row in range(RECORDS))
    assert len({record.record_id for record in records}) == len(records)
    for row, (features, label) in islice(enumerate(datasets.Shuttle()), 20):
        if is_field(row):
            record = next(one for one in records if one.record_id == f"shuttle-{row}")
            assert dict(zip(FEATURES, record.features, strict=True)) == features
            assert record.label == label


def test_each_device_reads_everything_in_an_order_of_its_own() -> None:
    orders = [order(1000, number) for number in (1, 2)]
    assert all(sorted(one) == list(range(1000)) for one in orders)
    assert orders[0] != orders[1]
    assert order(1000, 1) == orders[0], "the same each time"


@pytest.mark.sandbox
def test_sensors_are_fed(own_sandbox: OwnSandbox) -> None:
    records = list(field_records())
    for number in range(1, DEVICES + 1):
        path = Device(own_sandbox.settings, number).root / "sensor/records.csv"
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == len(records)
        first = records[order(len(records), number)[0]]
        assert rows[0] == {"record_id": first.record_id, **dict(zip(FEATURES, map(str, first.features), strict=True))}


@pytest.mark.sandbox
def test_labels_are_in_redshift(aws: Callable[[str], Any], own_sandbox: OwnSandbox) -> None:
    expected = {record.record_id: record.label for record in field_records()}
    found = Database(aws("redshift-data")).rows("select record_id, label from labels")
    assert dict(found) == expected


@pytest.mark.sandbox
def test_labels_that_a_killed_plant_has_loaded_meanwhile_are_fine(own_sandbox: OwnSandbox) -> None:
    labels = [(record.record_id, record.label) for record in field_records()]
    tables = Tables(own_sandbox.settings)
    fill(lambda: tables.load_labels(labels), tables.count_labels, len(labels))
    assert tables.count_labels() == len(labels)
    with pytest.raises(RuntimeError, match=r"[Dd]uplicate key"):
        fill(lambda: tables.load_labels(labels[:100]), tables.count_labels, 100)


@pytest.mark.sandbox
def test_the_historian_has_what_sensors_read_of_each_record(aws: Callable[[str], Any], own_sandbox: OwnSandbox) -> None:
    found = Database(aws("redshift-data")).rows(
        f"select record_id, {','.join(FEATURES)} from readings where device = '*'"
    )
    assert {row[0]: tuple(row[1:]) for row in found} == {one.record_id: one.features for one in field_records()}


def test_a_feed_is_written_in_the_devices_order(tmp_path: Path) -> None:
    records = list(islice(field_records(), 20))
    write_feeds([(2, tmp_path / "feed.csv")], records)
    lines = (tmp_path / "feed.csv").read_text().splitlines()
    assert lines[0] == f"record_id,{','.join(FEATURES)}"
    assert [line.split(",")[0] for line in lines[1:]] == [records[at].record_id for at in order(20, 2)]
