"""The plant: the physical world around the devices. ``python -m sandbox.plant [--json]``; ``up`` runs it.

The records are NASA's Shuttle sensor readings as ``river`` ships them. Rows with ``row % 5 in (3, 4)`` are the *field*:
what the devices' sensors read, each device in an order of its own. The rest is the training data. What an inspector
later finds out about the field's records is the table ``labels`` in Redshift.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import importlib.util
import json
import random
import secrets
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sandbox.account import session
from sandbox.lifecycle import all_devices
from sandbox.processes import write_atomically
from sandbox.settings import REDSHIFT_CLUSTER, REDSHIFT_DATABASE, Settings, SettingsError, load

FEATURES = tuple(f"f{number}" for number in range(1, 10))
DATABASE_USER = "plant"
# The Data API takes 100 KB a statement and 40 statements a batch; a row is at most 22 bytes long.
ROWS_A_STATEMENT = 4000
STATEMENT_TIMEOUT_S = 60
CONFLICT = "write-write conflict"  # as DuckDB names it
CONFLICTS_MAX = 20


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


def write_feeds(missing: list[tuple[int, Path]], records: list[Record]) -> None:
    """Write ``records.csv`` of each device in ``missing`` (number, path), in one step each."""
    lines = [f"{record.record_id},{','.join(map(str, record.features))}\n" for record in records]
    header = f"record_id,{','.join(FEATURES)}\n"
    for number, path in missing:
        write_atomically(path, header + "".join(lines[at] for at in order(len(lines), number)))


class Labels:
    """The table ``labels`` in Redshift, through the Data API."""

    def __init__(self, settings: Settings) -> None:
        aws = session(settings)
        self._redshift, self._data = aws.client("redshift"), aws.client("redshift-data")

    def ensure_cluster(self) -> None:
        """The plant's cluster exists before twinops does; it is not twinops' to create."""
        try:
            self._redshift.create_cluster(
                ClusterIdentifier=REDSHIFT_CLUSTER,
                DBName=REDSHIFT_DATABASE,
                NodeType="ra3.large",
                MasterUsername=DATABASE_USER,
                MasterUserPassword=f"A1{secrets.token_hex(16)}",
                ClusterType="single-node",
            )
        except self._redshift.exceptions.ClusterAlreadyExistsFault:
            return

    def count(self) -> int:
        self._run(["create table if not exists labels(record_id varchar primary key, label integer)"])
        statement = self._run(["select count(*) from labels"])
        result = self._data.get_statement_result(Id=statement)
        return int(result["Records"][0][0]["longValue"])

    def load(self, records: list[Record]) -> None:
        """Fill the empty table, in one transaction."""
        rows = (f"('{record.record_id}',{record.label})" for record in records)
        statements = []
        while batch := list(islice(rows, ROWS_A_STATEMENT)):
            statements.append(f"insert into labels values {','.join(batch)}")  # noqa: S608 (our own values)
        self._run(statements)

    def _run(self, statements: list[str]) -> str:
        """Run statements (several: as one transaction) and wait; returns the id of the execution.

        What another plant does at the same moment, one whose ``up`` was killed, is waited for.
        """
        for _ in range(CONFLICTS_MAX):
            try:
                return self._run_once(statements)
            except RuntimeError as error:
                if CONFLICT not in str(error):
                    raise
                time.sleep(0.5)
        return self._run_once(statements)

    def _run_once(self, statements: list[str]) -> str:
        target = {"ClusterIdentifier": REDSHIFT_CLUSTER, "Database": REDSHIFT_DATABASE, "DbUser": DATABASE_USER}
        if len(statements) == 1:
            identifier = self._data.execute_statement(Sql=statements[0], **target)["Id"]
        else:
            identifier = self._data.batch_execute_statement(Sqls=statements, **target)["Id"]
        deadline = time.monotonic() + STATEMENT_TIMEOUT_S
        while (state := self._data.describe_statement(Id=identifier))["Status"] not in ("FINISHED", "FAILED"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"Redshift: expected an answer within {STATEMENT_TIMEOUT_S} s: {statements[0][:80]}")
            time.sleep(0.02)
        if state["Status"] == "FAILED":
            raise RuntimeError(f"Redshift: {state['Error']}: {statements[0][:80]}")
        return str(identifier)


def fill(labels: Labels, records: list[Record]) -> None:
    try:
        labels.load(records)
    except RuntimeError:
        # A plant that was killed leaves its statement running: it has filled the table meanwhile.
        if labels.count() != len(records):
            raise


def set_up(settings: Settings) -> dict[str, Any]:
    """Write the missing feeds and load the labels where they are not complete. Run again it changes nothing."""
    devices = all_devices(settings)
    feeds = [(device.number, device.root / "sensor/records.csv") for device in devices]
    missing = [(number, path) for number, path in feeds if not path.exists()]
    labels = Labels(settings)
    labels.ensure_cluster()
    loaded = labels.count()
    records = list(field_records())
    if not missing and loaded == len(records):
        return {"changed": False, "records": len(records), "labels": loaded}
    write_feeds(missing, records)
    if loaded != len(records):
        fill(labels, records)
    return {"changed": True, "records": len(records), "labels": len(records)}


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
