"""Objects in S3 that are written once."""

from __future__ import annotations

import time
from typing import Any

from botocore.exceptions import ClientError

_THERE, _AT_WORK = ("PreconditionFailed", "412"), ("ConditionalRequestConflict", "409")
PAUSES_S = (0.2, 1.0, 3.0)
"""Before it is asked again."""


def put_once(s3: Any, bucket: str, key: str, body: bytes, content_type: str = "application/json") -> bool:
    """Write an object, never over one; False where it is there already.

    While somebody else writes it, S3 wants to be asked again: that may come to nothing
    (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html).

    Raises botocore's errors for anything else.
    """
    pauses_s = iter(PAUSES_S)
    while True:
        try:
            s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType=content_type, IfNoneMatch="*")
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in _THERE:
                return False
            pause_s = next(pauses_s, None) if code in _AT_WORK else None
            if pause_s is None:
                raise
            time.sleep(pause_s)
        else:
            return True
