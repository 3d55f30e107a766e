"""Output, objects and metrics of a run."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from toolbox.runner import output, results
from toolbox.runner.output import Output
from twinops.aws.clients import client

GROUP = "/twinops/sandbox/workflows/w"


@pytest.fixture
def group(endpoint: str) -> str:
    name = f"{GROUP}-{uuid.uuid4().hex[:8]}"
    client("logs").create_log_group(logGroupName=name)
    return name


def shipped(group: str) -> list[str]:
    events = client("logs").get_log_events(logGroupName=group, logStreamName="r1/1", startFromHead=True)["events"]
    return [event["message"] for event in events]


def test_lines_reach_the_log_stream_whole_and_in_order(group: str, tmp_path: Path) -> None:
    with Output(tmp_path / "output.log", lambda: client("logs"), group, "r1/1") as out:
        for part in (b"on", b"e\ntwo\r\n\nthr", b"ee \xff\n", b"no end"):
            out.write(part)
    assert shipped(group) == ["one", "two", "three \ufffd", "no end"]
    assert (tmp_path / "output.log").read_bytes() == b"one\ntwo\r\n\nthree \xff\nno end"


def test_many_lines_in_few_batches(group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "BATCH_EVENTS", 100)
    monkeypatch.setattr(output, "FLUSH_S", 0.01)
    with Output(tmp_path / "output.log", lambda: client("logs"), group, "r1/1") as out:
        out.write(b"".join(b"%d\n" % number for number in range(450)))
    events = client("logs").get_log_events(logGroupName=group, logStreamName="r1/1", startFromHead=True)["events"]
    assert [int(event["message"]) for event in events] == list(range(450))


def test_a_long_line_is_split(group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "LINE_BYTES", 10)
    with Output(tmp_path / "output.log", lambda: client("logs"), group, "r1/1") as out:
        out.write(b"0123456789abcdefghij!\nshort\n")
    assert shipped(group) == ["0123456789", "abcdefghij", "!", "short"]


def test_the_file_is_bounded_and_says_so(group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "FILE_LIMIT_BYTES", 10)
    with Output(tmp_path / "output.log", lambda: client("logs"), group, "r1/1") as out:
        for _ in range(5):
            out.write(b"1234567\n")
    assert (tmp_path / "output.log").read_text() == "1234567\n12\n[output.log ends here: limit reached]\n"
    assert len(shipped(group)) == 5


def test_the_log_is_bounded_and_says_so(group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "LOG_LIMIT_BYTES", 100)
    with Output(tmp_path / "output.log", lambda: client("logs"), group, "r1/1") as out:
        out.write(b"1234567\n" * 10)
        out.say("SUCCEEDED")
    assert shipped(group) == [
        *["1234567"] * 4,
        "[twinops] SUCCEEDED",
        "[twinops] 6 lines are not here: too many, or too fast",
    ]
    assert (tmp_path / "output.log").read_text().endswith("[twinops] not in CloudWatch: 6 lines.\n")


def test_what_waits_for_the_log_is_bounded(group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "QUEUE_BYTES", 100)
    monkeypatch.setattr(output.Shipper, "start", lambda self: None)  # CloudWatch is slow
    out = Output(tmp_path / "output.log", lambda: client("logs"), group, "r1/1")
    out.write(b"1234567\n" * 10)
    out._file.close(b"")
    assert len(out._shipper._lines) == 3
    assert out._shipper._left_out == 7


def test_a_byte_that_is_not_utf_8_does_not_make_an_event_too_large(group: str, tmp_path: Path) -> None:
    with Output(tmp_path / "output.log", lambda: client("logs"), group, "r1/1") as out:
        out.write(b"\xff" * 400_000 + b"\n")
    parts = shipped(group)
    assert "".join(parts) == "\ufffd" * 400_000
    assert max(len(part.encode()) for part in parts) + output.EVENT_OVERHEAD_BYTES <= 262_144


def test_a_full_disk_is_said_in_the_log(group: str, tmp_path: Path) -> None:
    """/dev/full takes nothing, as a disk without room."""
    (tmp_path / "output.log").symlink_to("/dev/full")
    with Output(tmp_path / "output.log", lambda: client("logs"), group, "r1/1") as out:
        out.write(b"one\n")
    assert shipped(group) == ["one", "[twinops] output.log is not complete: [Errno 28] No space left on device"]


def test_a_file_that_cannot_be_made_is_said_in_the_log(group: str, tmp_path: Path) -> None:
    with Output(tmp_path / "missing/output.log", lambda: client("logs"), group, "r1/1") as out:
        out.write(b"one\n")
    assert shipped(group)[0] == "one"
    assert "[twinops] output.log is not complete: [Errno 2]" in shipped(group)[1]


def test_our_own_lines_are_kept_beyond_the_limit(group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "FILE_LIMIT_BYTES", 4)
    with Output(tmp_path / "output.log", lambda: client("logs"), group, "r1/1") as out:
        out.write(b"12345")
        out.say("FAILED")
    assert (tmp_path / "output.log").read_text() == "1234\n[output.log ends here: limit reached]\n[twinops] FAILED\n"
    assert shipped(group) == ["12345", "[twinops] FAILED"]


def test_a_log_that_is_away_is_said_in_the_file(endpoint: str, tmp_path: Path) -> None:
    with Output(tmp_path / "output.log", lambda: client("logs"), "/nowhere", "r1/1") as out:
        out.write(b"one\ntwo\n")
    text = (tmp_path / "output.log").read_text()
    assert text.startswith("one\ntwo\n")
    assert "[twinops] not in CloudWatch: 2 lines. " in text
    assert "ResourceNotFoundException" in text


@pytest.fixture
def bucket(endpoint: str) -> str:
    name = f"reports-{uuid.uuid4().hex[:8]}"
    client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    return name


def test_files_are_stored_once(bucket: str, tmp_path: Path) -> None:
    (tmp_path / "plots").mkdir()
    (tmp_path / "report.html").write_text("first")
    (tmp_path / "plots/a.svg").write_text("<svg/>")
    keys = results.store(tmp_path, client("s3"), bucket=bucket, prefix="w/r1")
    assert keys == ["w/r1/plots/a.svg", "w/r1/report.html"]
    (tmp_path / "report.html").write_text("second")
    assert results.store(tmp_path, client("s3"), bucket=bucket, prefix="w/r1") == keys
    stored = client("s3").get_object(Bucket=bucket, Key="w/r1/report.html")
    assert (stored["Body"].read(), stored["ContentType"]) == (b"first", "text/html; charset=utf-8")


def test_a_missing_bucket_is_not_hidden(endpoint: str, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("x")
    with pytest.raises(ClientError, match="NoSuchBucket"):
        results.store(tmp_path, client("s3"), bucket="nowhere", prefix="w/r1")


def test_metrics(tmp_path: Path) -> None:
    assert results.read_metrics(tmp_path) == {}
    (tmp_path / "metrics.json").write_text('{"a": 1, "b": 0.5}')
    assert results.read_metrics(tmp_path) == {"a": 1.0, "b": 0.5}


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("{", "expected JSON"),
        ("[1]", "expected an object"),
        ('{"a": "1"}', "a: expected a finite number, got '1'"),
        ('{"a": true}', "a: expected a finite number, got True"),
        ('{"a": NaN}', "a: expected a finite number, got nan"),
    ],
)
def test_bad_metrics_are_named(tmp_path: Path, text: str, mistake: str) -> None:
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(results.ResultError, match=mistake):
        results.read_metrics(tmp_path)
