"""A published file of a release, by its digest: the bucket is not what is trusted."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from twinops import release
from twinops.errors import TwinopsError

REPOSITORY = "tuf/targets/"


class PublishedError(TwinopsError):
    """A published file cannot be had: says where it was looked for, and what was expected."""


def read(s3: Any, bucket: str, target: str, digest: str) -> bytes:
    """The bytes of a target (:func:`twinops.release.file_target`), which are what ``digest`` says.

    :raises PublishedError: it is not there, or has other bytes
    """
    key = REPOSITORY + release.stored_path(target, digest)
    try:
        content = bytes(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    except (BotoCoreError, ClientError) as error:
        raise PublishedError(f"s3://{bucket}/{key}: expected a published file: {error}") from error
    if release.sha256(content) != digest:
        raise PublishedError(f"s3://{bucket}/{key}: expected the bytes that its digest names, got others")
    return content
