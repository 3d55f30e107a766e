"""Reading decisions from a real S3 API, and what happens when a source is not there."""

from __future__ import annotations

import gzip
import json
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from botocore.exceptions import ClientError
from toolbox.context import Context
from toolbox.data import S3, DataError, Redshift, Source, decisions, devices, labels, source
from twinops.aws.clients import client

from sandbox.ports import free_port

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=timezone.utc)


@pytest.fixture
def bucket(endpoint: str) -> str:
    name = f"data-{uuid.uuid4().hex[:8]}"
    client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    return name


def put(bucket: str, device: str, first: int, moments: list[datetime], day: str | None = None) -> None:
    """A batch as a device uploads it."""
    lines = [
        {
            "device": device,
            "seq": first + n,
            "record_id": f"shuttle-{first + n}",
            "recorded_at": moment.isoformat().replace("+00:00", "Z"),
            "release": "v1",
            "model_sha256": "m",
            "label": 1,
            "score": 0.9,
        }
        for n, moment in enumerate(moments)
    ]
    body = gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode())
    day = day or moments[0].date().isoformat()
    key = f"decisions/device={device}/{day}/{first}-{first + len(lines) - 1}.jsonl.gz"
    client("s3").put_object(Bucket=bucket, Key=key, Body=body)


def test_decisions_since_a_moment_in_order(bucket: str) -> None:
    put(bucket, "device-002", 1, [NOON])
    put(bucket, "device-001", 3, [NOON + timedelta(seconds=1)])
    put(bucket, "device-001", 1, [NOON - timedelta(hours=2), NOON])
    put(bucket, "device-001", 0, [NOON - timedelta(days=3)])
    client("s3").put_object(Bucket=bucket, Key="decisions/README", Body=b"not a batch")
    found = decisions(client("s3"), bucket, since=NOON - timedelta(hours=1))
    assert list(zip(found["device"], found["seq"], strict=True)) == [
        ("device-001", 2),
        ("device-001", 3),
        ("device-002", 1),
    ]
    assert found["recorded_at"].dt.tz is not None


def test_decisions_of_one_device_in_a_span(bucket: str) -> None:
    """A batch of the day before counts, as far as it reaches into the span."""
    midnight = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    noon = midnight + timedelta(hours=12)
    put(bucket, "device-001", 0, [midnight - timedelta(seconds=1), midnight])
    put(bucket, "device-001", 2, [noon, noon + timedelta(hours=12)])
    put(bucket, "device-001", 4, [noon + timedelta(days=2)])
    put(bucket, "device-0011", 0, [noon])
    span = {"since": midnight, "until": midnight + timedelta(days=1)}
    found = decisions(client("s3"), bucket, **span, device="device-001")
    assert list(zip(found["device"], found["seq"], strict=True)) == [("device-001", 1), ("device-001", 2)]
    assert devices(client("s3"), bucket) == ["device-001", "device-0011"]


def test_no_decisions_is_an_empty_frame(bucket: str) -> None:
    found = decisions(client("s3"), bucket, since=NOON)
    assert found.empty
    assert labels(Redshift(None, cluster="c", database="d", db_user="u"), found["record_id"]).empty


def test_of_two_labels_of_a_record_equal_ones_are_one_and_others_none(
    bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["r1,1", "r1,1", "r2,0", "r2,1", "r3,0", "r4,", "r4,1", "r9,0", "r9,1"]
    body = "\n".join(["record_id,label", *rows]).encode()
    client("s3").put_object(Bucket=bucket, Key="plant/labels.csv", Body=body)
    store = S3(client("s3"), bucket=bucket, prefix="plant/")
    found = labels(store, pd.Series(["r1", "r2", "r3", "r4", "r9x"]))
    assert found.to_dict() == {"r1": 1, "r3": 0, "r4": 1}
    assert pd.Series(["r1", "r1", "r2"]).map(found).tolist()[:2] == [1, 1], "what a join needs"
    assert capsys.readouterr().out.strip().endswith("which count as not labelled: 1")


# Named, because pytest would name a case after its bytes, and gzip writes the time into them.
BAD = {
    "empty": b"",
    "not gzip": b"not gzip",
    "damaged": gzip.compress(b"")[:10] + b"not deflate",
    "not JSON": gzip.compress(b"not JSON\n"),
    "nested too deeply": gzip.compress(b"[" * 100_000),
    "a field is missing": gzip.compress(b'{"device": "d"}\n'),
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_a_bad_batch_is_named(bucket: str, body: bytes) -> None:
    key = "decisions/device=d/2026-11-22/1-1.jsonl.gz"
    client("s3").put_object(Bucket=bucket, Key=key, Body=body)
    with pytest.raises(DataError, match=f"s3://{bucket}/{key}: expected gzip of JSON lines"):
        decisions(client("s3"), bucket, since=NOON)


def test_a_missing_bucket_is_named(endpoint: str) -> None:
    with pytest.raises(DataError, match="s3://nowhere/decisions/: expected to read"):
        decisions(client("s3"), "nowhere", since=NOON)


def test_a_data_store_that_is_away_is_named(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3
    from botocore.config import Config

    nobody = boto3.client(
        "redshift-data",
        endpoint_url=f"http://127.0.0.1:{free_port()}",
        config=Config(retries={"total_max_attempts": 1}),
    )
    store = Redshift(nobody, cluster="c", database="d", db_user="u")
    with pytest.raises(DataError, match="redshift c/d: the data store cannot be reached"):
        store.query("select 1")


class FakeDataApi:
    """The Redshift Data API as its documentation has it: asynchronous, paged, typed fields."""

    def __init__(self, pages: list[list[list[dict[str, Any]]]], *, status: str = "FINISHED") -> None:
        self.pages = pages
        self.states = iter(["SUBMITTED", "STARTED", status])
        self.request: dict[str, Any] = {}

    def execute_statement(self, **request: Any) -> dict[str, str]:
        self.request = request
        return {"Id": "1"}

    def describe_statement(self, Id: str) -> dict[str, str]:
        return {"Status": next(self.states), "Error": 'relation "labels" does not exist'}

    def get_statement_result(self, Id: str, NextToken: str = "0") -> dict[str, Any]:
        page = int(NextToken)
        more = {"NextToken": str(page + 1)} if page + 1 < len(self.pages) else {}
        columns = [{"name": "record_id"}, {"name": "label"}]
        return {"ColumnMetadata": columns, "Records": self.pages[page], **more}


def row(record_id: str, label: int | None) -> list[dict[str, Any]]:
    return [{"stringValue": record_id}, {"isNull": True} if label is None else {"longValue": label}]


def test_pages_and_bound_parameters() -> None:
    api = FakeDataApi([[row("a", 0), row("b", 1)], [row("c", None)]])
    store = Redshift(api, cluster="c", database="d", db_user="u")
    found = store.query("select :x", {"x": "'; drop table labels"})
    assert found["record_id"].tolist() == ["a", "b", "c"]
    assert found["label"].isna().tolist() == [False, False, True]
    assert api.request["Parameters"] == [{"name": "x", "value": "'; drop table labels"}]
    assert api.request["Sql"] == "select :x"


def test_a_failed_query_says_why() -> None:
    store = Redshift(FakeDataApi([], status="FAILED"), cluster="c", database="d", db_user="u")
    with pytest.raises(DataError, match=r'redshift c/d: query failed: relation "labels" does not exist'):
        store.query("select 1")


def test_labels_of_these_records_only() -> None:
    api = FakeDataApi([[row("a", 0), row("b", 1), row("c", 1)]])
    found = labels(Redshift(api, cluster="c", database="d", db_user="u"), pd.Series(["c", "a", "a", "x"]))
    assert found.to_dict() == {"a": 0, "c": 1}
    assert {one["value"] for one in api.request["Parameters"]} == {"a", "x"}


def test_a_client_error_keeps_its_code(endpoint: str) -> None:
    class Refusing:
        def execute_statement(self, **_: Any) -> None:
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "ExecuteStatement")

    with pytest.raises(DataError, match="AccessDeniedException"):
        Redshift(Refusing(), cluster="c", database="d", db_user="u").query("select 1")


def run_with(**sources: dict[str, str]) -> Context:
    """A run on a twin that knows ``sources``."""
    twin = {"env": "staging", "data_sources": sources}
    return Context("r", "0" * 40, "2026-11-22T12:00:00Z", {}, twin, output=Path("/nowhere"))


KNOWN = [("a", 0), ("b", 1), ("c", None), ("d", 1)]


@pytest.fixture
def sources(endpoint: str) -> dict[str, Source]:
    """The same rows in each type of source that a test endpoint has."""
    name = f"labels-{uuid.uuid4().hex[:8]}"
    dynamodb = client("dynamodb")
    dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "record_id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "record_id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    for record_id, label in KNOWN:
        known = {} if label is None else {"label": {"N": str(label)}}
        dynamodb.put_item(TableName=name, Item={"record_id": {"S": record_id}, **known})
    rows = pd.DataFrame(KNOWN, columns=["record_id", "label"])
    client("s3").put_object(Bucket=name, Key="csv/labels.csv.gz", Body=gzip.compress(rows.to_csv().encode()))
    lines = "".join(json.dumps(dict(zip(("record_id", "label"), row))) + "\n" for row in KNOWN)
    client("s3").put_object(Bucket=name, Key="lines/labels.jsonl", Body=lines.encode())
    run = run_with(
        table={"type": "dynamodb", "table": name},
        csv={"type": "s3", "bucket": name, "prefix": "csv/"},
        lines={"type": "s3", "bucket": name, "prefix": "lines/"},
    )
    return {each: source(run, each) for each in ("table", "csv", "lines")}


@pytest.mark.parametrize("kind", ["table", "csv", "lines"])
def test_labels_are_the_same_from_any_source(kind: str, sources: dict[str, Source]) -> None:
    assert labels(sources[kind], pd.Series(["a", "b", "c", "x"])).to_dict() == {"a": 0, "b": 1}


@pytest.mark.parametrize("kind", ["table", "csv", "lines"])
def test_what_a_source_does_not_have_is_named(kind: str, sources: dict[str, Source]) -> None:
    with pytest.raises(DataError, match="temperature"):
        sources[kind].read("labels", ["record_id", "temperature"])


def test_a_relation_that_is_not_there_is_named(sources: dict[str, Source]) -> None:
    with pytest.raises(DataError, match=r"csv/sensors\.…: expected exactly one of csv, csv\.gz, .*found none"):
        sources["csv"].read("sensors", ["record_id"])


def test_a_table_that_is_not_there_is_named(endpoint: str) -> None:
    missing = source(run_with(it={"type": "dynamodb", "table": "nowhere", "index": "time"}), "it")
    with pytest.raises(DataError, match="dynamodb nowhere index time: the data store cannot be reached"):
        missing.read("labels", ["record_id"])


def test_a_source_that_the_twin_does_not_know_is_named() -> None:
    with pytest.raises(DataError, match=r"data source moon: expected one that the twin knows \(plant\)"):
        source(run_with(plant={"type": "s3", "bucket": "b"}), "moon")


def test_a_workgroup_is_asked_without_a_user() -> None:
    api = FakeDataApi([[row("a", 0)]])
    Redshift(api, database="d", workgroup="wg").read("labels", ["record_id", "label"])
    assert api.request == {"WorkgroupName": "wg", "Database": "d", "Sql": "select record_id, label from labels"}


def test_names_never_become_sql() -> None:
    store = Redshift(FakeDataApi([]), cluster="c", database="d", db_user="u")
    with pytest.raises(DataError, match="expected names like record_id, got labels; drop table labels"):
        store.read("labels; drop table labels", ["record_id"])
