"""Summaries: written again they are the same rows, in each kind of store; SQL is run by the sandbox's own Data API."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
from botocore.validate import validate_parameters
from toolbox import summaries
from toolbox.data import S3, DataError, DynamoDb, Source
from toolbox.summaries import SummaryError
from twinops.aws.clients import client

MONDAY, TUESDAY = {"day": "2026-11-23"}, {"day": "2026-11-24"}


def rows(*devices: str, verdict: str = "none") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "device": list(devices),
            "verdict": verdict,
            "distance": [0.25 * number if number else np.nan for number in range(len(devices))],
            "records": range(len(devices)),
        }
    )


@pytest.fixture
def s3_store(endpoint: str) -> S3:
    name = f"data-{uuid.uuid4().hex[:8]}"
    client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    return S3(client("s3"), bucket=name, prefix="summaries/")


@pytest.fixture
def table(endpoint: str) -> DynamoDb:
    name = f"summaries-{uuid.uuid4().hex[:8]}"
    keys = [("part", "HASH"), ("number", "RANGE")]
    client("dynamodb").create_table(
        TableName=name,
        KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in keys],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key, _ in keys],
        BillingMode="PAY_PER_REQUEST",
    )
    return DynamoDb(client("dynamodb"), table=name)


@pytest.fixture(params=["s3_store", "table"])
def store(request: pytest.FixtureRequest) -> Source:
    found: Source = request.getfixturevalue(request.param)
    return found


COLUMNS = ["day", "device", "verdict", "distance", "records"]


def read(store: Source) -> list[list[Any]]:
    found = store.read("drift_summary", COLUMNS).astype(object)
    return sorted([None if pd.isna(value) else value for value in row] for row in found.to_numpy().tolist())


def test_a_summary_written_again_leaves_the_same_rows(store: Source) -> None:
    for _ in range(2):
        store.replace("drift_summary", MONDAY, rows("a", "b", "c"))
    store.replace("drift_summary", TUESDAY, rows("a"))
    assert read(store) == [
        ["2026-11-23", "a", "none", None, 0],
        ["2026-11-23", "b", "none", 0.25, 1],
        ["2026-11-23", "c", "none", 0.5, 2],
        ["2026-11-24", "a", "none", None, 0],
    ]


def test_rows_that_are_gone_are_gone_and_other_days_stay(store: Source) -> None:
    store.replace("drift_summary", MONDAY, rows("a", "b", "c"))
    store.replace("drift_summary", TUESDAY, rows("a"))
    store.replace("drift_summary", MONDAY, rows("b", verdict="drift"))
    assert read(store) == [["2026-11-23", "b", "drift", None, 0], ["2026-11-24", "a", "none", None, 0]]


def test_of_a_folder_only_the_days_that_are_asked_for_are_read(s3_store: S3) -> None:
    for day in (MONDAY, TUESDAY):
        s3_store.replace("drift_summary", day, rows("a"))
    client("s3").put_object(
        Bucket=s3_store._bucket, Key="summaries/drift_summary/day=2020-01-01/rows.parquet", Body=b"not read"
    )
    found = s3_store.read("drift_summary", COLUMNS, within=("day", "2026-11-23", "2026-11-23"))
    assert found["day"].tolist() == ["2026-11-23"]
    none = s3_store.read("drift_summary", COLUMNS, within=("day", "2025-01-01", "2025-12-31"))
    assert (none.empty, list(none.columns)) == (True, COLUMNS)


def test_more_rows_than_one_transaction_of_dynamodb_takes(table: DynamoDb) -> None:
    table.replace("drift_summary", MONDAY, rows(*(f"d{number:03}" for number in range(250))))
    assert len(read(table)) == 250
    table.replace("drift_summary", MONDAY, rows("d000"))
    assert len(read(table)) == 1


def test_a_table_without_a_sort_key_is_named(endpoint: str) -> None:
    name = f"flat-{uuid.uuid4().hex[:8]}"
    client("dynamodb").create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "part", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "part", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    with pytest.raises(DataError, match=f"dynamodb {name}: expected a table with partition and sort key"):
        DynamoDb(client("dynamodb"), table=name).replace("drift_summary", MONDAY, rows("a"))


def run(database: duckdb.DuckDBPyConnection, key: dict[str, str], summary: pd.DataFrame) -> list[Any]:
    """What the Data API does with the statements: one transaction, values bound."""
    said, values = summaries.statements("drift_summary", key, summary)
    for sql in said:
        parts = sql.split(":")
        used = {part.split(")")[0].split(",")[0].split(" ")[0] for part in parts[1:]}
        database.execute(sql.replace(":v", "$v"), {name: values[name] for name in used} or None)
    return database.execute("select day, device, verdict, distance, records from drift_summary order by all").fetchall()


def test_sql_replaces_the_rows_of_the_key_and_binds_every_value(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "db")) as database:
        nasty = rows("a'); drop table drift_summary; --", "b")
        expected = [
            ("2026-11-23", "a'); drop table drift_summary; --", "none", None, 0),
            ("2026-11-23", "b", "none", 0.25, 1),
        ]
        assert run(database, MONDAY, nasty) == expected
        assert run(database, MONDAY, nasty) == expected
        assert run(database, TUESDAY, rows("a")) == [*expected, ("2026-11-24", "a", "none", None, 0)]
        assert run(database, MONDAY, rows()) == [("2026-11-24", "a", "none", None, 0)]


def test_equal_values_are_sent_once_and_none_is_in_the_text() -> None:
    said, values = summaries.statements("t", {"day": "2026-11-23"}, rows("x", "x", "x"))
    assert sorted(values.values()) == ["0", "0.25", "0.5", "1", "2", "2026-11-23", "none", "x"]
    assert not any("2026" in sql or "none" in sql for sql in said)


def test_statements_are_as_long_as_the_data_api_takes() -> None:
    said, _ = summaries.statements("t", MONDAY, rows(*(f"device-{number}" for number in range(20_000))))
    assert 2 < len(said) <= summaries.BATCH_STATEMENTS_MAX
    assert max(len(sql.encode()) for sql in said) <= summaries.STATEMENT_BYTES_MAX
    with pytest.raises(SummaryError, match="one transaction must take them"):
        summaries.statements("t", MONDAY, rows(*(f"device-{number}" for number in range(200_000))))


@pytest.mark.parametrize(
    ("relation", "key", "columns"),
    [
        ("drift-summary", MONDAY, ["a"]),
        ("t", {"Day": "1"}, ["a"]),
        ("t", MONDAY, ["a b"]),
        ("t", MONDAY, ["day"]),
        ("t", {}, ["a"]),
    ],
)
def test_names_that_a_store_may_not_take_are_refused(relation: str, key: dict[str, str], columns: list[str]) -> None:
    with pytest.raises(SummaryError, match=f"summary {relation}: expected"):
        summaries.check(relation, key, pd.DataFrame({name: [1] for name in columns}))


def test_the_same_rows_are_the_same_bytes() -> None:
    assert summaries.parquet_bytes(MONDAY, rows("a", "b")) == summaries.parquet_bytes(MONDAY, rows("a", "b"))


def test_the_data_api_takes_every_value_that_is_sent(endpoint: str) -> None:
    """It refuses empty ones, although a text may be empty; boto3 knows its limits."""
    summary = pd.DataFrame({"device": ["a"], "drifted": [""], "share": [np.nan], "is_judged": [True]})
    said, values = summaries.statements("t", MONDAY, summary)
    parameters = [{"name": name, "value": value} for name, value in values.items()]
    model = client("redshift-data").meta.service_model
    shape = model.operation_model("BatchExecuteStatement").input_shape
    wrong = validate_parameters({"Database": "d", "Sqls": said, "Parameters": parameters}, shape)
    assert wrong is None
    assert "''" in said[-1]
