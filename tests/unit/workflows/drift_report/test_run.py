"""The script as a run starts it, on real S3: registry, training data, decisions, readings, facts, and what is kept."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from drift_report import run as script
from drift_report.fleet_drift import SUMMARY_COLUMNS
from toolbox.context import Context
from toolbox.registry import Registry, Version
from twinops import release
from twinops.aws.clients import client

from sandbox.plant import field_records
from sandbox.plant_tables import FEATURES

CLONE = Path(__file__).parents[4]
WORKFLOW = CLONE / "workflows/drift_report"
NOW = datetime.now(timezone.utc)
RECORDS = 1200
DEVICES = ("device-001", "device-002")
MODEL = "shuttle-anomaly"


def text(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


@pytest.fixture
def bucket(endpoint: str) -> str:
    name = f"data-{uuid.uuid4().hex[:8]}"
    client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    return name


def put(bucket: str, key: str, body: bytes) -> None:
    client("s3").put_object(Bucket=bucket, Key=key, Body=body)


def promote(bucket: str, **changed: str) -> None:
    """A champion whose training data is what training says it was."""
    from river.datasets import Shuttle

    data = {
        "source": "river.datasets.Shuttle",
        "sha256": hashlib.sha256(Path(Shuttle().path).read_bytes()).hexdigest(),
        "split": "row % 5: (0, 1) fitted, (2,) held out, (3, 4) field (never trained on)",
        **changed,
    }
    training = release.as_json_bytes({"data": data, "features": list(FEATURES), "rows": {"fitted": 19640}})
    digest = hashlib.sha256(training).hexdigest()
    put(bucket, f"tuf/targets/{release.stored_path(release.file_target('sandbox', digest), digest)}", training)
    version = Version("v2", "s" * 64, hashlib.sha256(release.as_json_bytes(data)).hexdigest(), "g" * 40, digest)
    registry = Registry(client("s3"), bucket, MODEL, clock=lambda: NOW - timedelta(hours=2))
    registry.register(version, approver="Ada", reason="test")
    registry.promote("v2", approver="Ada", reason="test")


def decide(bucket: str, device: str) -> None:
    """Decisions on the first records of the field, 50 a second, half an hour ago."""
    lines = []
    for number, record in zip(range(RECORDS), field_records()):
        at = text(NOW - timedelta(minutes=30) + timedelta(seconds=number / 50))
        decision = {"device": device, "seq": number, "record_id": record.record_id, "recorded_at": at}
        lines.append({**decision, "release": "v2", "model_sha256": "s", "label": 0, "score": 0.1})
    body = gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode())
    day = lines[0]["recorded_at"][:10]
    put(bucket, f"decisions/device={device}/{day}/0-{RECORDS - 1}.jsonl.gz", body)


def historian(bucket: str) -> None:
    """``readings`` as a file in S3: those of every device, and those of device-002, whose f1 is in another unit."""
    lines = [f"device,record_id,since,{','.join(FEATURES)}"]
    since = text(NOW - timedelta(hours=1))
    for _, record in zip(range(RECORDS), field_records()):
        values = list(map(float, record.features))
        lines.append(f"*,{record.record_id},,{','.join(map(str, values))}")
        broken = [values[0] * 1.8 + 32, *values[1:]]
        lines.append(f"device-002,{record.record_id},{since},{','.join(map(str, broken))}")
    put(bucket, "plant/readings.csv.gz", gzip.compress("\n".join(lines).encode()))


def reports(bucket: str, device: str, missing: int) -> None:
    """Facts of a device: how many of its last thousand readings of f3 are missing."""
    features = {
        name: {"count": 1000 - missing * (name == "f3"), "missing": missing * (name == "f3")} for name in FEATURES
    }
    facts = {"readings": {"until": text(NOW), "features": features}}
    put(bucket, f"facts/{device}/latest.json", json.dumps(facts).encode())
    put(bucket, f"facts/{device}/history/2026-01-01/00.json", b"not looked at")


def run(bucket: str, output: Path, lookback_h: int = 24, **plant: str) -> subprocess.CompletedProcess[str]:
    """``plant``: the data source; without it files in the bucket."""
    output.mkdir(exist_ok=True)
    told = {
        "run_id": "0" * 24,
        "git_sha": "a" * 40,
        "started_at": text(NOW),
        "parameters": {"lookback_h": lookback_h, "model": MODEL, "summary_source": "", "trend_days": 30},
        "twin": {
            "env": "sandbox",
            "data_bucket": bucket,
            "models_bucket": bucket,
            "data_sources": {"plant": plant or {"type": "s3", "bucket": bucket, "prefix": "plant/"}},
        },
    }
    (output / "run.json").write_text(json.dumps(told))
    paths = f"{CLONE / 'workflows'}{os.pathsep}{CLONE / 'module_utils'}"
    environment = {"TWINOPS_RUN": str(output / "run.json"), "TWINOPS_OUTPUT": str(output), "PYTHONPATH": paths}
    return subprocess.run(
        [sys.executable, "run.py"],
        cwd=WORKFLOW,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def objects(bucket: str, prefix: str) -> dict[str, bytes]:
    listed = client("s3").list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
    return {item["Key"]: client("s3").get_object(Bucket=bucket, Key=item["Key"])["Body"].read() for item in listed}


def test_a_run_finds_the_device_and_a_rerun_leaves_the_same(bucket: str, tmp_path: Path) -> None:
    promote(bucket)
    historian(bucket)
    for device in DEVICES:
        decide(bucket, device)
    reports(bucket, "device-001", missing=120)
    done = run(bucket, tmp_path / "first")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((tmp_path / "first/drift.json").read_text())
    assert {name: one["verdict"] for name, one in found["devices"].items()} == {
        "device-001": "warn",
        "device-002": "drift",
    }
    assert found["devices"]["device-001"]["missing_reported"] == {"f3": 0.12}
    assert found["devices"]["device-002"]["drift"]["drifted"] == ["f1"]
    assert found["n_known"] == len(DEVICES) * RECORDS
    mail = (tmp_path / "first/summary.txt").read_text()
    assert mail.startswith("device-002 reads other data than the model was trained on\n")
    assert "f3: 12.0% of the readings are missing, by its own count" in mail
    assert json.loads((tmp_path / "first/metrics.json").read_text())["DriftingDevices.levels"] == 1
    (version,) = objects(bucket, "datasets/")
    assert found["field_data_version"] in version

    kept = objects(bucket, "summaries/")
    assert list(kept) == [f"summaries/drift_summary/day={NOW.date().isoformat()}/model={MODEL}/rows.parquet"]
    assert run(bucket, tmp_path / "second").returncode == 0
    assert objects(bucket, "summaries/") == kept
    assert list(objects(bucket, "datasets/")) == [version]
    for name in ("report.html", "summary.txt", "drift.json", "metrics.json"):
        assert (tmp_path / "second" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()


def test_before_the_first_rollout_there_is_nothing_to_compare_with(bucket: str, tmp_path: Path) -> None:
    done = run(bucket, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/summary.txt").read_text().startswith("shuttle-anomaly has no champion yet\n")


def test_without_decisions_a_database_is_not_asked_for_their_readings(bucket: str, tmp_path: Path) -> None:
    """Of no records there is no first and no last one, and boto3 refuses an empty value."""
    promote(bucket)
    done = run(bucket, tmp_path / "out", 1, type="redshift", cluster="c", database="d", db_user="u")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/summary.txt").read_text().startswith("No decisions in the last 1 h\n")
    assert not objects(bucket, "summaries/"), "an hour does not stand for the day"


def test_training_data_that_is_another_than_the_registered_one_is_refused(bucket: str, tmp_path: Path) -> None:
    promote(bucket, sha256="0" * 64)
    done = run(bucket, tmp_path / "out")
    assert done.returncode == 2
    assert "expected the file with SHA-256 000000000000, got another" in done.stderr


# ---- what devices say of themselves


def test_two_models_keep_rows_of_their_own(bucket: str) -> None:
    twin, kept = {"data_bucket": bucket}, {}
    for model, device in [("a", "device-001"), ("b", "device-002"), ("a", "device-003")]:
        asked = {"summary_source": "", "model": model, "trend_days": 30}
        rows = pd.DataFrame([["0"] * len(SUMMARY_COLUMNS)], columns=list(SUMMARY_COLUMNS)).assign(device=device)
        context = Context("0" * 24, "a" * 40, text(NOW), asked, twin, Path())
        kept[model] = script.keep_summary(context, rows, day="2026-11-23")["device"].tolist()
    assert kept == {"a": ["device-003"], "b": ["device-002"]}
    assert len(objects(bucket, "summaries/")) == 2


def counted(missing: str, count: str = "900") -> bytes:
    """Facts with these counts of f1, and usual ones of f2; as text, since a device may write any."""
    f1, f2 = f'{{"missing": {missing}, "count": {count}}}', '{"missing": 100, "count": 900}'
    return f'{{"readings": {{"until": "{text(NOW)}", "features": {{"f1": {f1}, "f2": {f2}}}}}}}'.encode()


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (counted("90", "910"), {"f1": (90, 1000), "f2": (100, 1000)}),
        (counted("-1"), {"f2": (100, 1000)}),
        (counted("1000", "-900"), {"f2": (100, 1000)}),
        (counted("1e300"), {"f2": (100, 1000)}),
        (counted("Infinity"), None),
        (counted("null"), None),
        (b"[" * 100_000, None),
    ],
    ids=["counts", "negative", "more missing than all", "huge", "infinite", "null", "nested too deeply"],
)
def test_no_device_ends_the_report_of_all(bucket: str, facts: bytes, expected: Any) -> None:
    put(bucket, "facts/device-001/latest.json", facts)
    reports(bucket, "device-002", missing=7)
    found = script.reported_gaps(client("s3"), bucket, ["f1", "f2"], since=NOW - timedelta(hours=1))
    assert found.pop("device-002") == {"f1": (0, 1000), "f2": (0, 1000)}
    assert found == ({"device-001": expected} if expected else {})
