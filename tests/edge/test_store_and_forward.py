"""Nothing is lost and nothing is doubled: endpoint away, process killed, both."""

from __future__ import annotations

import gzip
import json
import random
import re
import signal
import time
from datetime import datetime, timezone
from email.utils import format_datetime
from typing import Any

import pytest
from spool import Batch
from upload import LONGEST_BACKOFF_S, backoff_s, clock_offset_s, object_key

from tests.edge.conftest import S3, Device, wait_until

KEY = re.compile(r"decisions/device=device-test/\d{4}-\d\d-\d\d/(\d+)-(\d+)\.jsonl\.gz")


def uploaded(objects: dict[str, bytes]) -> list[dict[str, Any]]:
    """All decisions in the bucket in order of their keys; every object holds exactly what its key says."""
    ranges = {}
    for key, body in objects.items():
        match = KEY.fullmatch(key)
        assert match, key
        first, last = map(int, match.groups())
        decisions = [json.loads(line) for line in gzip.decompress(body).splitlines()]
        assert [decision["seq"] for decision in decisions] == list(range(first, last + 1))
        ranges[first] = decisions
    return [decision for first in sorted(ranges) for decision in ranges[first]]


def assert_each_record_decided_once(decisions: list[dict[str, Any]], rows: int) -> None:
    assert [decision["seq"] for decision in decisions] == list(range(1, len(decisions) + 1))
    assert [decision["record_id"] for decision in decisions] == [f"r-{n % rows}" for n in range(len(decisions))]


def drain(device: Device, s3: S3) -> list[dict[str, Any]]:
    """Stop deciding, wait until everything is uploaded, and return what the bucket has."""
    device.configure(sensor={"rate_hz": 1e-9})
    device.start(AWS_ENDPOINT_URL=s3.url)
    wait_until(
        lambda: (h := device.health()).get("status") == "ok" and not h["upload_error"], 20, "a service that is ok"
    )
    wait_until(lambda: empty(device), 60, "an empty spool")
    device.kill()
    return uploaded(s3.objects())


def empty(device: Device) -> bool:
    import sqlite3

    database = sqlite3.connect(device.root / "spool/decisions.db", timeout=5)
    (left,) = database.execute("SELECT COUNT(*) FROM chunk").fetchone()
    database.close()
    return bool(left == 0)


def test_decisions_reach_the_bucket(device: Device, s3: S3) -> None:
    s3.start()
    device.start(AWS_ENDPOINT_URL=s3.url)
    health = wait_until(lambda: (h := device.health()).get("last_upload_at") and h["records"] > 500 and h)
    assert health["upload_error"] is None
    device.process.send_signal(signal.SIGTERM)
    device.process.wait(10)
    decisions = drain(device, s3)
    assert len(decisions) >= health["records"]
    assert_each_record_decided_once(decisions, 1000)


@pytest.mark.fault("S3 away for 10,000 records", "none is lost")
def test_an_endpoint_away_for_10_000_records_loses_none(device: Device, s3: S3) -> None:
    device.configure(sensor={"rate_hz": 5000})
    device.start(AWS_ENDPOINT_URL=s3.url)
    away = wait_until(lambda: (h := device.health()).get("records", 0) > 10_000 and h["upload_error"] and h)
    assert away["status"] == "ok"  # a device without network decides all the same
    assert "Could not connect" in away["upload_error"]
    assert away["spool_depth"] == away["records"]
    s3.start()
    wait_until(lambda: device.health()["last_upload_at"], 90, "an upload after the outage")
    device.kill()
    decisions = drain(device, s3)
    assert len(decisions) >= 10_000
    assert_each_record_decided_once(decisions, 1000)


@pytest.mark.fault("SIGKILL of the service, again and again", "no decision is lost or doubled")
def test_killed_again_and_again_nothing_is_lost_or_doubled(device: Device, s3: S3) -> None:
    seed = random.randrange(10**6)  # noqa: S311
    print(f"seed {seed}")  # noqa: T201 – shown when the test fails
    generator = random.Random(seed)  # noqa: S311
    s3.start()
    device.configure(sensor={"rate_hz": 2000}, upload={"interval_s": 0.05, "batch_records": 100})
    for _ in range(8):
        device.start(AWS_ENDPOINT_URL=s3.url)
        device.wait_for("ok")
        time.sleep(generator.uniform(0, 1.5))
        device.kill()
    decisions = drain(device, s3)
    assert len(decisions) > 2000
    assert_each_record_decided_once(decisions, 1000)


@pytest.mark.parametrize("attempt", [1, 2, 5, 7, 1000])
def test_backoff_doubles_up_to_a_minute_with_jitter(attempt: int) -> None:
    longest_s = min(LONGEST_BACKOFF_S, 2.0 ** (attempt - 1))
    waits_s = [backoff_s(attempt) for _ in range(200)]
    assert longest_s / 2 <= min(waits_s) < max(waits_s) <= longest_s


def test_the_key_follows_from_the_decisions_alone() -> None:
    lines = b'{"recorded_at": "2026-03-01T23:59:59.999999Z"}\n{"recorded_at": "2026-03-02T00:00:00.000000Z"}\n'
    key = object_key("decisions/", "device-007", Batch(11, 12, lines))
    assert key == "decisions/device=device-007/2026-03-01/11-12.jsonl.gz"


@pytest.mark.parametrize(
    "date", ["yesterday", "Mon, 99 Nov 2026 08:00:00 GMT", "Mon, 01 Jan 99999999999 00:00:00 GMT", "", None]
)
def test_a_time_that_nobody_can_read_is_no_time_and_no_error(date: str | None) -> None:
    """An error here would come between the upload and its confirmation: the same batch would be sent for ever."""
    assert clock_offset_s({"ResponseMetadata": {"HTTPHeaders": {"date": date}}}) is None
    assert clock_offset_s({}) is None
    said = clock_offset_s({"ResponseMetadata": {"HTTPHeaders": {"date": format_datetime(datetime.now(timezone.utc))}}})
    assert said is not None
    assert abs(said) <= 1
