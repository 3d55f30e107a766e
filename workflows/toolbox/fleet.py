"""The devices as the cloud knows them: what they report of themselves, and the releases that they run.

For workflows that look after devices. What a device reports is text from a stranger (docs/interfaces.md, "Facts").
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from twinops import diagnosis
from twinops import release as releases
from twinops.aws.ledger import Ledger, LedgerError
from twinops.diagnosis import QUANTILES, Facts, Finding, Heard
from twinops.errors import TwinopsError

from toolbox import published
from toolbox.context import Context
from toolbox.published import PublishedError

__all__ = [
    "QUANTILES",
    "Facts",
    "Finding",
    "FleetError",
    "Heard",
    "LedgerError",
    "Release",
    "diagnosis",
    "history",
    "latest",
    "ledger",
    "release",
]

FACTS = "facts/"
LARGEST_FACTS_BYTES = 1 << 20
_DOWNLOADS_AT_ONCE = 16


class FleetError(TwinopsError):
    """What devices report, or a release, could not be read: says from where and what was expected."""


@dataclass(frozen=True)
class Release:
    """The model of a release, and the records with known answers that came with it."""

    version: str
    digest: str
    model: bytes
    golden: Mapping[str, Any]


def ledger(run: Context) -> Ledger:
    """The ledger of runs, rollouts, and what ran on which device."""
    return Ledger(run.twin["ledger_table"], run.client("dynamodb"))


def latest(s3: Any, bucket: str) -> dict[str, Heard]:
    """Device -> its latest facts, of all devices that reported within the last month.

    :raises FleetError: the bucket cannot be read
    """
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=FACTS, Delimiter="/")
    try:
        prefixes = [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", [])]
        heard = _heard(s3, bucket, [f"{prefix}latest.json" for prefix in prefixes])
    except (BotoCoreError, ClientError) as error:
        raise FleetError(f"s3://{bucket}/{FACTS}: expected to read what devices report: {error}") from error
    return {key.split("/")[1]: one for key, one in heard if one is not None}


def history(s3: Any, bucket: str, device: str, *, since: datetime) -> list[Heard]:
    """What a device reported in each hour since a moment, oldest first.

    :raises FleetError: the bucket cannot be read
    """
    prefix = f"{FACTS}{device}/history/"
    start = f"{prefix}{since:%Y-%m-%d/%H}"
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, StartAfter=start)
    try:
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        return [one for _, one in _heard(s3, bucket, keys) if one is not None]
    except (BotoCoreError, ClientError) as error:
        raise FleetError(f"s3://{bucket}/{prefix}: expected to read what {device} reported: {error}") from error


def _heard(s3: Any, bucket: str, keys: Sequence[str]) -> Iterable[tuple[str, Heard | None]]:
    def one(key: str) -> Heard | None:
        try:
            answer = s3.get_object(Bucket=bucket, Key=key)
        except s3.exceptions.NoSuchKey:
            return None  # a device that stopped reporting a month ago, and has history of yesterday left
        try:
            facts = json.loads(answer["Body"].read(LARGEST_FACTS_BYTES))
        except (ValueError, RecursionError):
            facts = None
        return Heard(facts if isinstance(facts, Mapping) else {}, answer["LastModified"])

    with ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool:
        return list(zip(keys, pool.map(one, keys)))


def release(s3: Any, bucket: str, *, env: str, version: str, digest: str) -> Release:
    """A published release, by the digest of its manifest; what was read is what the digests say.

    :raises FleetError: there is no such release, or its bytes are others
    """
    try:
        content = published.read(s3, bucket, releases.manifest_target(env, version), digest)
        files = {file.path: file.sha256 for file in releases.parse_manifest(content, version).files}
        model, golden = (
            published.read(s3, bucket, releases.file_target(env, files[name]), files[name])
            for name in ("model.onnx", "golden.json")
        )
        return Release(version, digest, model, json.loads(golden))
    except (PublishedError, KeyError, ValueError) as error:
        raise FleetError(f"release {version} ({digest[:12]}…): expected a published one: {error!r}") from error
