"""Objects in S3 that are written once."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

_THERE = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")


def put_once(s3: Any, bucket: str, key: str, body: bytes, content_type: str = "application/json") -> bool:
    """Write an object, never over one; False where it is there already, or somebody else is writing it right now.

    Raises botocore's errors for anything else.
    """
    try:
        s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType=content_type, IfNoneMatch="*")
    except ClientError as error:
        if error.response["Error"]["Code"] in _THERE:
            return False
        raise
    return True
