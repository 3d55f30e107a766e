"""Versions of data sets, and their register in a real S3 API."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timezone

import pyarrow as pa
import pytest
from botocore.stub import Stubber
from toolbox.datasets import DatasetError, register, version
from twinops.aws import objects
from twinops.aws.clients import client

NOON = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
TABLE = pa.table({"record_id": ["a", "b", None], "f1": [0.1, None, 3.0], "at": [NOON, NOON.replace(hour=9), NOON]})


def test_a_version_says_what_is_in_it() -> None:
    found = version("field", TABLE, time_column="at")
    assert (found.rows, found.columns) == (3, ("record_id", "f1", "at"))
    assert (found.first_at, found.last_at) == ("2026-11-22T09:00:00+00:00", "2026-11-22T12:00:00+00:00")


def test_the_same_values_are_the_same_version_however_they_lie_in_memory() -> None:
    pieces = pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1)])
    assert version("field", pieces) == version("field", TABLE.combine_chunks())


@pytest.mark.parametrize(
    "other",
    [
        TABLE.slice(0, 2),
        TABLE.take([1, 0, 2]),
        TABLE.rename_columns(["record_id", "f2", "at"]),
        TABLE.set_column(1, "f1", pa.array([0.1, 0.0, 3.0])),
        TABLE.set_column(1, "f1", pa.array([0.1, None, 3.0000000000000004])),
    ],
    ids=["fewer rows", "another order", "another name", "a value where none was", "the last bit"],
)
def test_anything_else_is_another_version(other: pa.Table) -> None:
    assert version("field", other).sha256 != version("field", TABLE).sha256


def test_a_version_is_registered_once(endpoint: str) -> None:
    s3, bucket = client("s3"), f"data-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    found = version("field", TABLE)
    assert register(s3, bucket, found)
    assert not register(s3, bucket, found)
    stored = s3.get_object(Bucket=bucket, Key=f"datasets/field/{found.sha256}.json")["Body"].read()
    assert json.loads(stored)["rows"] == 3


@pytest.mark.parametrize("comes_to_nothing", [False, True])
def test_while_another_run_writes_the_version_it_is_tried_again(
    endpoint: str, monkeypatch: pytest.MonkeyPatch, comes_to_nothing: bool
) -> None:
    """What S3 answers then no emulator answers."""
    monkeypatch.setattr(objects, "PAUSES_S", (0, 0))
    s3 = client("s3")
    with Stubber(s3) as answers:
        answers.add_client_error("put_object", "ConditionalRequestConflict", http_status_code=409)
        if comes_to_nothing:
            answers.add_response("put_object", {})
        else:
            answers.add_client_error("put_object", "PreconditionFailed", http_status_code=412)
        assert register(s3, "data", version("field", TABLE)) is comes_to_nothing
        answers.assert_no_pending_responses()


def test_who_writes_a_version_for_ever_is_not_waited_for(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "PAUSES_S", (0, 0))
    s3 = client("s3")
    with Stubber(s3) as answers, pytest.raises(DatasetError, match="ConditionalRequestConflict"):
        for _ in range(3):
            answers.add_client_error("put_object", "ConditionalRequestConflict", http_status_code=409)
        register(s3, "data", version("field", TABLE))


def test_mistakes_are_named(endpoint: str) -> None:
    with pytest.raises(DatasetError, match="data set field: expected a column when, got record_id, f1, at"):
        version("field", TABLE, time_column="when")
    with pytest.raises(DatasetError, match=r"s3://nowhere/datasets/field/.*: expected to write the version"):
        register(client("s3"), "nowhere", version("field", TABLE))
