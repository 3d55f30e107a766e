"""What a device reports of itself: from a running service, a dead one, and to a real S3 endpoint."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from twinops import diagnosis
from twinops.diagnosis import Heard
from twinops.edge import agent, device_status, report
from twinops.edge.facts import HIDDEN, LOG_LINES, LONGEST_TEXT, facts, without_secrets
from twinops.edge.state import now

from tests.edge.conftest import AWS, BUCKET, S3, Device, wait_until

SETTINGS: dict[str, Any] = {
    "bucket": BUCKET, "interval_s": 600, "service_manager": "supervisord", "aws_environment": {"AWS_REGION": "x"},
}  # fmt: skip
LARGEST_REPORT_BYTES = 20_000


def install_program(device: Device, **settings: Any) -> None:
    """What an enrolment leaves for reporting."""
    (device.root / "bin").mkdir(exist_ok=True)
    (device.root / agent.PROGRAM).write_bytes(agent.program())
    (device.root / agent.REPORT_SETTINGS).write_text(json.dumps({**SETTINGS, **settings}))


def run(device: Device, command: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-I", str(device.root / agent.PROGRAM), command]
    return subprocess.run(program, cwd="/", capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("password=hunter2 and more", "password=[hidden] and more"),
        ('{"SecretAccessKey": "abc/def+g", "b": 1}', '{"SecretAccessKey": "[hidden]", "b": 1}'),
        ("GET /x?X-Amz-Signature=abcdef&y=2", "GET /x?X-Amz-Signature=[hidden]&y=2"),
        ("Authorization: Bearer eyJhbGciOi.x.y next", "Authorization: Bearer [hidden] next"),
        ("https://joe:s3cr3t@host/path", "https://[hidden]@host/path"),
        ("key AKIAIOSFODNN7EXAMPLE is wrong", "key [hidden] is wrong"),
        ("named nowhere: 4lph4numeric", "named nowhere: [hidden]"),
        ("the token has expired", "the token has expired"),
        ("sha256 " + "0123456789abcdef" * 4, "sha256 " + "0123456789abcdef" * 4),
    ],
)
def test_secrets_are_taken_out_of_every_text(text: str, left: str) -> None:
    environment = {"MY_SECRET": "4lph4numeric", "AWS_REGION": "eu-central-1"}
    assert without_secrets({"log": [text], "n": 1}, environment) == {"log": [left], "n": 1}


def test_texts_are_bounded() -> None:
    assert len(without_secrets("x" * 5000, {})) == LONGEST_TEXT


def test_facts_are_the_status_and_more(device: Device) -> None:
    device.start()
    wait_until(lambda: device.health().get("records", 0) > 100)
    (device.root / "log").mkdir()
    (device.root / "log/inference.log").write_text("".join(f"line {number}\n\n" for number in range(50)))
    found = facts(device.root, SETTINGS)
    status = device_status.device_status(device.root)
    assert set(status) < set(found)
    assert found["health"]["release"] == "v2"
    assert found["model_file_sha256"] == device.model_sha256
    assert found["log"] == [f"line {number}" for number in range(50 - LOG_LINES, 50)]
    assert found["memory"]["service_bytes"] > 10_000_000
    assert found["memory"]["available_bytes"] < found["memory"]["total_bytes"]
    assert len(found["starts"]) == 1
    assert found["readings"]["features"]["f1"]["distinct"] == 50
    assert len(found["readings"]["recent"]) == 20
    assert found["problems"] == []
    assert len(json.dumps(found)) < LARGEST_REPORT_BYTES


def test_a_journal_that_cannot_be_read_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "journalctl"
    program.write_text("#!/bin/sh\necho a line\necho 'No journal files were opened' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = facts(tmp_path, {**SETTINGS, "service_manager": "systemd"})
    assert found["log"] == ["a line"]
    assert "log: journalctl: exit code 1: No journal files were opened" in found["problems"]


def test_a_service_that_keeps_dying_is_seen_by_its_starts(device: Device) -> None:
    for _ in range(3):
        device.start()
        device.wait_for("ok")
        device.kill()
    found = facts(device.root, SETTINGS)
    assert (found["health"], found["readings"], len(found["starts"])) == (None, None, 3)
    assert found["starts"] == sorted(found["starts"])
    assert any("/health" in problem for problem in found["problems"])


def test_a_broken_note_of_starts_stops_nobody(device: Device) -> None:
    (device.root / "run").mkdir()
    (device.root / "run/starts.json").write_text('{"no": "list"}')
    device.start()
    device.wait_for("ok")
    assert len(facts(device.root, SETTINGS)["starts"]) == 1


def test_a_device_reports_to_the_bucket_once_an_hour_for_the_history(device: Device, s3: S3) -> None:
    s3.start()
    install_program(device, aws_environment={**AWS, "AWS_REGION": "eu-central-1", "AWS_ENDPOINT_URL": s3.url})
    device.start(AWS_ENDPOINT_URL=s3.url)
    wait_until(lambda: device.health().get("clock_offset_s") is not None)
    for _ in range(2):
        done = run(device, "report")
        assert (done.returncode, done.stderr) == (0, "")
    stored = {key: json.loads(body) for key, body in s3.objects().items() if key.startswith("facts/")}
    latest = stored.pop("facts/device-test/latest.json")
    ((history, first),) = stored.items()
    at = first["reported_at"]
    assert history == f"facts/device-test/history/{at[:10]}/{at[11:13]}.json"
    assert latest["reported_at"] > at
    assert (latest["schema"], latest["env"], latest["device"]) == (1, "sandbox", "device-test")
    assert latest["health"]["status"] == "ok"
    assert abs(latest["health"]["clock_offset_s"]) <= 1
    record = json.loads((device.root / report.RECORD).read_text())
    assert record["outcome"] == "uploaded"

    environment = {**AWS, "AWS_REGION": "eu-central-1", "AWS_ENDPOINT_URL": s3.url}
    install_program(device, bucket="no-such-bucket", aws_environment=environment)
    done = run(device, "report")
    assert done.returncode == 1
    assert done.stderr.startswith("failed: An error occurred (NoSuchBucket) when calling the PutObject operation")

    # An alarm that nobody takes is said, and raised again by the next report.
    starts = [now() for _ in range(20)]
    (device.root / "run/starts.json").write_text(json.dumps(starts))
    nobody = {"AWS_ENDPOINT_URL_EVENTBRIDGE": "http://127.0.0.1:9"}
    install_program(device, alarms=True, aws_environment={**environment, **nobody})
    done = run(device, "report")
    assert done.returncode == 0
    assert done.stderr.startswith("offline: uploaded, alarm not raised: Could not connect")
    assert len(json.loads(s3.objects()["facts/device-test/latest.json"])["starts"]) == 20
    assert json.loads((device.root / report.MEMORY).read_text()) == {}


def test_without_a_network_it_says_so_and_tries_again_later(device: Device) -> None:
    install_program(device, aws_environment={**AWS, "AWS_REGION": "x", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
    (device.root / "run").mkdir()
    done = run(device, "report")
    assert done.returncode == 0
    assert done.stderr.startswith("offline: Could not connect")
    assert json.loads((device.root / report.RECORD).read_text())["outcome"] == "offline"


def test_a_device_without_settings_says_what_to_do(device: Device) -> None:
    install_program(device)
    for content, said in (("[1]", "enrol the device again (--tags edge_base)"), (None, "set edge_report_interval_s")):
        (device.root / agent.REPORT_SETTINGS).unlink()
        if content:
            (device.root / agent.REPORT_SETTINGS).write_text(content)
        for command in ("report", "facts"):
            done = run(device, command)
            assert (done.returncode, done.stdout) == (1, "")
            assert done.stderr.startswith(f"failed: {device.root}/report.json: ")
            assert said in done.stderr
            assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("status", "outcome"), [(403, report.FAILED), (503, report.OFFLINE)])
def test_a_refusal_is_a_failure_and_trouble_of_aws_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, outcome: str
) -> None:
    def upload(*_: object) -> None:
        raise ClientError({"Error": {"Code": "x"}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")

    monkeypatch.setattr(report, "read_settings", lambda _: {"bucket": BUCKET, "aws_environment": {}})
    monkeypatch.setattr(report, "facts", lambda *_: {})
    monkeypatch.setattr(report.alarms, "examine", lambda *_: ([], {}, {}))
    monkeypatch.setattr(report, "upload", upload)
    assert report.report(tmp_path)[0] == outcome


def test_facts_are_printed_as_they_would_be_reported(device: Device) -> None:
    install_program(device, aws_environment={"SOME_TOKEN": "t0psecret"})
    (device.root / "log").mkdir()
    (device.root / "log/inference.log").write_text("t0psecret\n")
    done = run(device, "facts")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["log"] == [HIDDEN]


def test_it_reports_again_when_another_release_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long before its interval is over."""
    ran: list[str] = []
    monkeypatch.setattr(device_status, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(device_status, "SETTLED_AFTER_S", 0.1)
    monkeypatch.setattr(device_status, "FIRST_SHARE", 0)

    class DoneError(Exception):
        pass

    def note(_root: Path, command: str) -> int:
        ran.append(command)
        if len(ran) == 2:
            raise DoneError
        (tmp_path / "state.json").write_text("{}")  # an install, right after the first report
        return 0

    monkeypatch.setattr(device_status, "run", note)
    with pytest.raises(DoneError):
        device_status.keep_running(tmp_path, "report", 3600)
    assert ran == ["report", "report"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 12 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_device_whose_disk_is_full_still_reports_and_raises_an_alarm(
    small_disk: Path, trained: Callable[[str], Path], s3: S3
) -> None:
    """What alarms it raised it cannot remember, so it raises them once an hour."""
    s3.start()
    device = Device(small_disk / "opt", (trained("v2") / "model.onnx").read_bytes())
    install_program(
        device, alarms=True, interval_s=3600, aws_environment={**AWS, "AWS_REGION": "x", "AWS_ENDPOINT_URL": s3.url}
    )
    device.start(AWS_ENDPOINT_URL="http://127.0.0.1:9")
    try:
        device.wait_for("ok")
        with contextlib.suppress(OSError), (small_disk / "ballast").open("wb") as ballast:
            while True:
                ballast.write(b"x" * 4096)
                ballast.flush()
        device.wait_for("failed")
        done = run(device, "report")
    finally:
        device.kill()
    assert (done.returncode, done.stderr) == (0, "")
    latest = json.loads(s3.objects()["facts/device-test/latest.json"])
    said = diagnosis.diagnose(Heard(latest, datetime.now(timezone.utc)), datetime.now(timezone.utc), [])
    assert diagnosis.DISK in {finding.kind for finding in said}
    assert not (device.root / report.MEMORY).exists()
    assert report._begins_hour({**latest, "reported_at": "2026-11-23T08:09:59.0Z", "interval_s": 600})
    assert not report._begins_hour({**latest, "reported_at": "2026-11-23T08:10:01.0Z", "interval_s": 600})
