"""A published file is what its digest says, or an error that says where it was looked for."""

from __future__ import annotations

import hashlib
import uuid

import pytest
from toolbox import published
from toolbox.published import PublishedError
from twinops import release
from twinops.aws.clients import client

CONTENT = b"a model"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
TARGET = release.file_target("sandbox", DIGEST)


@pytest.fixture
def bucket(endpoint: str) -> str:
    name = f"models-{uuid.uuid4().hex[:8]}"
    client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    return name


def put(bucket: str, content: bytes) -> str:
    key = f"tuf/targets/{release.stored_path(TARGET, DIGEST)}"
    client("s3").put_object(Bucket=bucket, Key=key, Body=content)
    return f"s3://{bucket}/{key}"


def test_a_file_is_read_by_its_digest(bucket: str) -> None:
    put(bucket, CONTENT)
    assert published.read(client("s3"), bucket, TARGET, DIGEST) == CONTENT


def test_other_bytes_are_refused(bucket: str) -> None:
    where = put(bucket, b"another model")
    with pytest.raises(PublishedError, match=f"{where}: expected the bytes that its digest names, got others"):
        published.read(client("s3"), bucket, TARGET, DIGEST)


def test_a_file_that_is_not_there_is_named(bucket: str) -> None:
    with pytest.raises(PublishedError, match=rf"s3://{bucket}/tuf/targets/.*: expected a published file: .*NoSuchKey"):
        published.read(client("s3"), bucket, TARGET, DIGEST)
