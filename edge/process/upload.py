"""Store and forward: what is in the spool goes to S3, however long S3 is away."""

from __future__ import annotations

import gzip
import json
import random
import threading
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import clock
from health import Status
from settings import Device
from spool import Batch, Spool

FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 1.0, 60.0


def object_key(prefix: str, device: str, batch: Batch) -> str:
    """Follows from the decisions alone, so that a retry overwrites; the date is that of the first record."""
    day = json.loads(batch.lines.partition(b"\n")[0])["recorded_at"][:10]
    return f"{prefix}device={device}/{day}/{batch.first_seq}-{batch.last_seq}.jsonl.gz"


def backoff_s(attempt: int) -> float:
    """Before retry ``attempt`` (from 1): doubles up to a minute; jitter keeps a fleet from coming back all at once."""
    return min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(attempt - 1, 10)) * random.uniform(0.5, 1.0)  # noqa: S311


def clock_offset_s(answer: Mapping[str, Any]) -> float | None:
    """How far this device's clock is ahead of that of S3, which says whole seconds; None where it said no time."""
    date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    try:
        return round(time.time() - parsedate_to_datetime(date).timestamp() - 0.5, 1)
    except (TypeError, ValueError, OverflowError):
        # What was stored must be confirmed, whatever a proxy makes of the header.
        return None


def s3_put(bucket: str, status: Status) -> Callable[[str, bytes], None]:
    """Stores an object in ``bucket`` with the credentials that botocore's chain finds; returns once S3 confirmed it.

    Notes the clock's offset also where S3 refused, which it does when the clock is a quarter of an hour off.
    """
    import botocore.config  # noqa: PLC0415 – 25 MB that a device needs only once it has something to send
    import botocore.exceptions  # noqa: PLC0415
    import botocore.session  # noqa: PLC0415

    config = botocore.config.Config(connect_timeout=5, read_timeout=30, retries={"total_max_attempts": 1})
    client = botocore.session.get_session().create_client("s3", config=config)

    def put(key: str, body: bytes) -> None:
        try:
            answer = client.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/gzip")
        except botocore.exceptions.ClientError as error:
            status.clock_offset_s = clock_offset_s(error.response)
            raise
        status.clock_offset_s = clock_offset_s(answer)

    return put


class Uploader(threading.Thread):
    """Sends a batch every ``interval_s``, and at once while more than a batch is waiting."""

    def __init__(self, spool: Spool, device: Device, status: Status, stop: threading.Event) -> None:
        super().__init__(name="upload", daemon=True)
        self._spool, self._device, self._status, self._stopping = spool, device, status, stop
        self._put: Callable[[str, bytes], None] | None = None

    def run(self) -> None:
        failures, wait_s = 0, self._device.upload.interval_s
        while not self._stopping.wait(wait_s):
            try:
                self._send()
            except Exception as error:  # whatever the network, S3 or botocore does, the decisions stay where they are
                failures += 1
                wait_s = backoff_s(failures)
                self._status.upload_error = f"{type(error).__name__}: {error}"
                continue
            failures, self._status.upload_error = 0, None
            waiting = self._spool.depth >= self._device.upload.batch_records
            wait_s = 0 if waiting else self._device.upload.interval_s

    def _send(self) -> None:
        batch = self._spool.offer(self._device.upload.batch_records)
        if batch is None:
            return
        if self._put is None:
            self._put = s3_put(self._device.upload.bucket, self._status)
        key = object_key(self._device.upload.prefix, self._device.device, batch)
        self._put(key, gzip.compress(batch.lines, compresslevel=6, mtime=0))
        self._spool.confirm(batch)
        self._status.last_upload_at = clock.now()
