"""What a run leaves behind: objects in the reports bucket, and CloudWatch metrics."""

from __future__ import annotations

import json
import math
import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from botocore.config import Config
from twinops.aws.clients import CONFIG, session
from twinops.aws.objects import put_once
from twinops.errors import TwinopsError
from twinops.metrics import of_run

REPORT = "report.html"
SUMMARY = "summary.txt"
METRICS = "metrics.json"
MOST_METRICS = 100
LINK_VALID_S = 6 * 3600
"""It ends earlier if the credentials of the twin, by which it is signed, do."""


class ResultError(TwinopsError):
    """What a script wrote for twinops is not what was expected."""


def store(folder: Path, client: Any, *, bucket: str, prefix: str) -> list[str]:
    """Put every file of a folder under ``prefix``, never over an object that is there; the keys, sorted.

    An object that an earlier attempt at the same run has put stays as it is: reports are written once.
    """
    keys = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        key = f"{prefix}/{file.relative_to(folder).as_posix()}"
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        if kind.startswith("text/"):
            kind += "; charset=utf-8"
        put_once(client, bucket, key, file.read_bytes(), kind)
        keys.append(key)
    return keys


def link(*, bucket: str, key: str) -> str:
    """A URL that opens an object for whoever has it, for a few hours. It is a secret: it belongs in no log."""
    # Without a word about it, links are signed by version 2, which S3 refuses for objects that KMS has encrypted.
    client = session().create_client("s3", config=CONFIG.merge(Config(signature_version="s3v4")))
    target = {"Bucket": bucket, "Key": key}
    return str(client.generate_presigned_url("get_object", Params=target, ExpiresIn=LINK_VALID_S))


def read_metrics(folder: Path) -> dict[str, float]:
    """The numbers of ``metrics.json``, if there is one.

    :raises ResultError: it is not a JSON object of finite numbers
    """
    file = folder / METRICS
    if not file.exists():
        return {}
    try:
        metrics = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise ResultError(f"{METRICS}: expected JSON, {error}") from error
    if not isinstance(metrics, dict) or len(metrics) > MOST_METRICS:
        raise ResultError(f"{METRICS}: expected an object of at most {MOST_METRICS} numbers")
    for name, value in metrics.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ResultError(f"{METRICS}: {name}: expected a finite number, got {value!r}")
    return {name: float(value) for name, value in metrics.items()}


def put_metrics(client: Any, *, namespace: str, workflow: str, metrics: Mapping[str, float]) -> None:
    """Publish numbers under the workflow's name; whether it failed also for all workflows together."""
    client.put_metric_data(Namespace=namespace, MetricData=of_run(workflow, metrics))
