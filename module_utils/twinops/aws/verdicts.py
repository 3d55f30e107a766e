"""What ``model_evaluation`` said about a model, where the gate of its next rollout finds it.

``s3://<data>/summaries/verdicts/<SHA-256 of the model>.json``; a newer evaluation of a model replaces the one before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ..errors import TwinopsError

PREFIX = "summaries/verdicts/"
FIELDS = ("verdict", "reasons", "release", "champion", "n", "run_id", "at")


def write(s3: Any, bucket: str, model_sha256: str, said: Mapping[str, Any]) -> None:
    """Keep what was said, an object with :data:`FIELDS`.

    :raises TwinopsError: the bucket cannot be written
    """
    body = json.dumps({name: said[name] for name in FIELDS}, indent=1).encode() + b"\n"
    try:
        s3.put_object(Bucket=bucket, Key=_key(model_sha256), Body=body, ContentType="application/json")
    except (BotoCoreError, ClientError) as error:
        raise TwinopsError(f"s3://{bucket}/{_key(model_sha256)}: expected to write the verdict: {error}") from error


def read(s3: Any, bucket: str, model_sha256: str) -> dict[str, Any] | None:
    """What was said last about a model; None where no evaluation has seen it.

    :raises TwinopsError: the bucket cannot be read, or has something else there
    """
    where = f"s3://{bucket}/{_key(model_sha256)}"
    try:
        said: Any = json.loads(s3.get_object(Bucket=bucket, Key=_key(model_sha256))["Body"].read())
    except ClientError as error:
        if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
            return None
        raise TwinopsError(f"{where}: expected to read the verdict of model_evaluation: {error}") from error
    except (BotoCoreError, ValueError) as error:
        raise TwinopsError(f"{where}: expected to read the verdict of model_evaluation: {error}") from error
    if not isinstance(said, dict) or any(name not in said for name in FIELDS):
        raise TwinopsError(f"{where}: expected {', '.join(FIELDS)}, got {said!r:.200}")
    return said


def _key(model_sha256: str) -> str:
    return f"{PREFIX}{model_sha256}.json"
