"""One attempt at a run, in this process but with a real ledger, bucket, log and topic: fencing, failures, repeats."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import pytest
from toolbox import run_once
from toolbox.run_once import main
from toolbox.runner.housekeeping import environment_of
from twinops.aws.clients import client
from twinops.aws.ledger import Ledger
from twinops.runs import Claim, Run

from tests.unit.dispatch.conftest import ledger  # noqa: F401

SHA = "a" * 40
SPEC = """\
description: Counts.
owner: mlops@example.com
entrypoint: run.py
schedule: rate(1 day)
parameters:
  sleep_s: {type: integer, default: 0}
timeout_s: 60
"""
SCRIPT = """\
import json, os, pathlib, time
run = json.loads(pathlib.Path(os.environ["TWINOPS_RUN"]).read_text())
with open(pathlib.Path(os.environ["TWINOPS_OUTPUT"]).parents[2] / "effects", "a") as effects:
    effects.write("x")
print("sleeping", flush=True)
time.sleep(run["parameters"]["sleep_s"])
pathlib.Path(os.environ["TWINOPS_OUTPUT"], "report.html").write_text("report")
"""


class Twin:
    """A twin's folder, and the AWS resources of this test."""

    def __init__(self, home: Path, ledger: Ledger) -> None:  # noqa: F811
        self.home = home
        self.ledger = ledger
        self.bucket = f"reports-{uuid.uuid4().hex[:8]}"
        client("s3").create_bucket(Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        self.queue = client("sqs").create_queue(QueueName=f"mail-{uuid.uuid4().hex[:8]}")["QueueUrl"]
        queue_arn = client("sqs").get_queue_attributes(QueueUrl=self.queue, AttributeNames=["QueueArn"])["Attributes"]
        topic = client("sns").create_topic(Name=f"topic-{uuid.uuid4().hex[:8]}")["TopicArn"]
        client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue_arn["QueueArn"])
        values = {"env": "sandbox", "region": "eu-central-1", "ledger_table": ledger.table, "topic_arn": topic}
        (home / "twin.json").write_text(json.dumps({**values, "reports_bucket": self.bucket}))

    def claim(self, run_id: str = "ab12", *, workflow: str = "probe", **parameters: Any) -> str:
        claim = Claim(
            run_id=run_id, workflow=workflow, git_sha=SHA, event_id="e", parameters=json.dumps(parameters),
            timeout_s=60, idempotent=True, concurrency="queue",
            log_group=f"/twinops/sandbox/workflows/{workflow}",
        )  # fmt: skip
        assert self.ledger.claim(claim, dispatcher="d")
        return run_id

    def run(self, run_id: str) -> Run:
        found = self.ledger.run(run_id)
        assert found is not None
        return found

    def mails(self, part: str = "Subject") -> list[str]:
        """Subjects (or texts: ``Message``) of what was published and not read yet."""
        messages = client("sqs").receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get("Messages", [])
        return [json.loads(message["Body"])[part] for message in messages]

    def make_environment(self, lock: Path) -> Path:
        """As bin/environment would, but with the packages of these tests."""
        environment = environment_of(self.home, lock)
        (environment / "bin").mkdir(parents=True)
        (environment / "bin/python").symlink_to(sys.executable)
        return environment

    @property
    def probe(self) -> Path:
        return self.home / "code" / SHA / "workflows/probe"

    @property
    def effects(self) -> int:
        file = self.home / "effects"
        return len(file.read_text()) if file.exists() else 0


@pytest.fixture
def twin(tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Twin:  # noqa: F811
    probe = tmp_path / "code" / SHA / "workflows/probe"
    probe.mkdir(parents=True)
    (probe / "workflow.yml").write_text(SPEC)
    (probe / "run.py").write_text(SCRIPT)
    lock = probe.parent / "requirements.txt"
    lock.write_text("# nothing\n")
    monkeypatch.setenv("TWINOPS_HOME", str(tmp_path))
    made = Twin(tmp_path, ledger)
    made.make_environment(lock)
    return made


def test_a_run(twin: Twin) -> None:
    run_id = twin.claim()
    assert main([run_id, "1", SHA]) == 0
    run = twin.run(run_id)
    assert (run["state"], run["exit_code"], run["report_key"]) == ("SUCCEEDED", 0, f"probe/{run_id}/report.html")
    assert twin.mails() == ["[twinops sandbox] probe: done"]
    status = json.loads((twin.home / "runs" / run_id / "status.json").read_text())
    assert (status["state"], status["exit_code"]) == ("SUCCEEDED", 0)


def test_a_second_start_does_nothing(twin: Twin) -> None:
    run_id = twin.claim()
    for _ in range(3):
        assert main([run_id, "1", SHA]) == 0
    assert twin.effects == 1
    assert len(twin.mails()) == 1


def test_a_stale_epoch_does_nothing(twin: Twin) -> None:
    run_id = twin.claim()
    assert twin.ledger.reclaim(twin.run(run_id), dispatcher="backup") == 2
    main([run_id, "1", SHA])
    assert (twin.effects, twin.run(run_id)["state"]) == (0, "CLAIMED")
    main([run_id, "2", SHA])
    assert (twin.effects, twin.run(run_id)["state"]) == (1, "SUCCEEDED")


def test_a_run_that_another_process_has_is_left_to_it(twin: Twin) -> None:
    run_id = twin.claim()
    folder = twin.home / "runs" / run_id
    folder.mkdir(parents=True)
    with (folder / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert main([run_id, "1", SHA]) == 0
    assert (twin.effects, twin.run(run_id)["state"]) == (0, "CLAIMED")


@pytest.mark.parametrize("noticed_by", ["HEARTBEAT_S", "LOOK_S"])
def test_a_run_that_is_taken_away_is_ended_and_says_nothing(
    twin: Twin, monkeypatch: pytest.MonkeyPatch, noticed_by: str
) -> None:
    monkeypatch.setattr(run_once, "HEARTBEAT_S", 60)
    monkeypatch.setattr(run_once, "LOOK_S", 60)
    monkeypatch.setattr(run_once, noticed_by, 0.2)
    run_id = twin.claim(sleep_s=30)
    started = time.monotonic()
    thread = threading.Thread(target=main, args=([run_id, "1", SHA],))
    thread.start()
    while twin.effects == 0:
        assert time.monotonic() < started + 20
        time.sleep(0.05)
    assert twin.ledger.finish(run_id, 1, runner=twin.run(run_id)["runner"], state="LOST", outcome={})
    thread.join(20)
    assert not thread.is_alive()
    assert time.monotonic() - started < 25
    assert (twin.run(run_id)["state"], "exit_code" in twin.run(run_id)) == ("LOST", False)
    assert twin.mails() == []
    assert "Contents" not in client("s3").list_objects_v2(Bucket=twin.bucket)


def test_heartbeats_are_written(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_once, "HEARTBEAT_S", 0.2)
    run_id = twin.claim(sleep_s=2)
    main([run_id, "1", SHA])
    run = twin.run(run_id)
    assert run["started_at"] < run["heartbeat_at"] < run["ended_at"]


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        ({"workflow": "gone"}, f"workflows/gone/workflow.yml: expected a spec in commit {SHA[:12]}"),
        ({"sleep": 1}, "probe: parameters.sleep: expected one of sleep_s, got an unknown name"),
    ],
)
def test_what_cannot_be_started_ends_with_its_reason(twin: Twin, claim: dict[str, Any], reason: str) -> None:
    run_id = twin.claim(**claim)
    assert main([run_id, "1", SHA]) == 0
    run = twin.run(run_id)
    assert (run["state"], "exit_code" in run, twin.effects) == ("FAILED", False, 0)
    assert run["reason"].startswith(reason)
    (subject,) = twin.mails()
    assert subject.endswith(": FAILED")


def test_an_environment_that_cannot_be_built(twin: Twin) -> None:
    (twin.home / "code" / SHA / "workflows/requirements.txt").write_text("nothing-like-this==1\n")
    (twin.home / "bin").mkdir()
    (twin.home / "bin/environment").write_text("#!/bin/sh\necho no such package; exit 1\n")
    (twin.home / "bin/environment").chmod(0o755)
    run_id = twin.claim()
    main([run_id, "1", SHA])
    run = twin.run(run_id)
    assert run["reason"].startswith("workflows/requirements.txt: expected an environment")
    assert "no such package" in (twin.home / "runs" / run_id / "output.log").read_text()


def test_a_report_that_cannot_be_stored_is_a_failure_with_the_real_exit_code(twin: Twin) -> None:
    client("s3").delete_bucket(Bucket=twin.bucket)
    run_id = twin.claim()
    main([run_id, "1", SHA])
    run = twin.run(run_id)
    assert (run["state"], run["exit_code"]) == ("FAILED", 0)
    assert run["reason"].startswith("its outputs were not stored: ")


def test_a_refusal_is_recorded(twin: Twin) -> None:
    run_id = twin.claim()
    main([run_id, "1", SHA, "--refuse", "commit could not be fetched"])
    assert (twin.run(run_id)["state"], twin.run(run_id)["reason"]) == ("FAILED", "commit could not be fetched")
    assert twin.effects == 0


def test_a_run_that_nobody_claimed_is_not_started(twin: Twin, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ffff", "1", SHA]) == 0
    assert "epoch 1 is stale" in capsys.readouterr().out
    assert (twin.effects, twin.ledger.run("ffff")) == (0, None)


def test_a_cancelled_run_is_ended_and_says_by_whom(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_once, "LOOK_S", 0.2)
    run_id = twin.claim(sleep_s=30)
    thread = threading.Thread(target=main, args=([run_id, "1", SHA],))
    thread.start()
    started = time.monotonic()
    while twin.effects == 0:
        assert time.monotonic() < started + 20
        time.sleep(0.05)
    twin.ledger.cancel(run_id, by="Ada")
    thread.join(20)
    assert not thread.is_alive()
    run = twin.run(run_id)
    assert (run["state"], run["reason"], "exit_code" in run) == ("CANCELLED", "cancelled by Ada", False)
    assert run["duration_s"] < 25
    assert run["heartbeat_at"] == run["started_at"], "it did not wait for a heartbeat"
    assert twin.mails() == ["[twinops sandbox] probe: cancelled"]


def test_a_run_is_cancelled_while_its_environment_is_built(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_once, "LOOK_S", 0.2)
    (twin.home / "code" / SHA / "workflows/requirements.txt").write_text("huge==1\n")
    (twin.home / "bin").mkdir()
    (twin.home / "bin/environment").write_text(f"#!/bin/sh\ntouch {twin.home}/building; exec sleep 60\n")
    (twin.home / "bin/environment").chmod(0o755)
    run_id = twin.claim()
    thread = threading.Thread(target=main, args=([run_id, "1", SHA],))
    thread.start()
    deadline = time.monotonic() + 20
    while not (twin.home / "building").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    twin.ledger.cancel(run_id, by="Ada")
    thread.join(20)
    assert not thread.is_alive()
    run = twin.run(run_id)
    assert (run["state"], run["reason"], "exit_code" in run) == ("CANCELLED", "cancelled by Ada", False)
    assert twin.effects == 0
    assert twin.mails() == ["[twinops sandbox] probe: cancelled"]


def test_a_run_whose_lost_attempt_was_cancelled_is_not_started_again(twin: Twin) -> None:
    run_id = twin.claim()
    assert twin.ledger.start(run_id, 1, runner="killed", log_stream="s")
    twin.ledger.cancel(run_id, by="Ada")
    assert twin.ledger.lose(twin.run(run_id), reason="no heartbeat")
    assert twin.ledger.reclaim(twin.run(run_id), dispatcher="backup") == 2
    main([run_id, "2", SHA])
    assert (twin.run(run_id)["state"], twin.run(run_id)["reason"]) == ("CANCELLED", "cancelled by Ada")
    assert twin.effects == 0


def test_a_short_run_is_not_looked_at(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []
    monkeypatch.setattr(Ledger, "held", lambda *_, **__: looks.append("look"))
    main([twin.claim(sleep_s=1), "1", SHA])
    assert looks == []


def test_the_run_that_waited_is_started_by_the_one_that_ended(twin: Twin) -> None:
    (twin.home / "bin").mkdir()
    (twin.home / "bin/run-once").write_text(f'#!/bin/sh\necho "$@" > {twin.home}/started\n')
    (twin.home / "bin/run-once").chmod(0o755)
    first, second = twin.claim("ab12"), twin.claim("cd34")
    for run_id, expected in ((first, "ADMITTED"), (second, "QUEUED")):
        assert twin.ledger.admit(twin.run(run_id), dispatcher="d") == expected
    main([first, "1", SHA])
    assert twin.run(second)["state"] == "CLAIMED"
    deadline = time.monotonic() + 10
    while not (twin.home / "started").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (twin.home / "started").read_text() == f"{second} 1 {SHA}\n"


def test_an_end_is_mailed_and_that_is_noted(twin: Twin) -> None:
    run_id = twin.claim()
    main([run_id, "1", SHA])
    assert "unmailed" not in twin.run(run_id)


def test_a_mail_that_cannot_be_sent_is_left_to_the_watchdog(twin: Twin) -> None:
    settings = json.loads((twin.home / "twin.json").read_text())
    (twin.home / "twin.json").write_text(json.dumps({**settings, "topic_arn": settings["topic_arn"] + "-nowhere"}))
    run_id = twin.claim()
    main([run_id, "1", SHA])
    run = twin.run(run_id)
    assert (run["state"], run["unmailed"]) == ("SUCCEEDED", True)


def test_outputs_of_an_earlier_attempt_are_not_mixed_in(twin: Twin) -> None:
    run_id = twin.claim()
    output = twin.home / "runs" / run_id / "output"
    output.mkdir(parents=True)
    (output / "left.txt").write_text("from before")
    main([run_id, "1", SHA])
    keys = [item["Key"] for item in client("s3").list_objects_v2(Bucket=twin.bucket)["Contents"]]
    assert keys == [f"probe/{run_id}/report.html"]


def test_a_volume_without_room_is_a_failure_that_the_ledger_tells(twin: Twin) -> None:
    (twin.home / "runs").write_text("nothing can be made below this")
    run_id = twin.claim()
    assert main([run_id, "1", SHA]) == 0
    run = twin.run(run_id)
    assert (run["state"], "exit_code" in run, twin.effects) == ("FAILED", False, 0)
    assert "Not a directory" in run["reason"]
    assert twin.mails() == ["[twinops sandbox] probe: FAILED"]


def test_a_status_file_that_cannot_be_written_stops_nothing(twin: Twin, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = twin.claim()
    (twin.home / "runs" / run_id / "status.part").mkdir(parents=True)
    main([run_id, "1", SHA])
    assert (twin.run(run_id)["state"], twin.effects) == ("SUCCEEDED", 1)
    assert "status.json: " in capsys.readouterr().out


def test_a_workflow_has_the_environment_of_its_own_lock(twin: Twin) -> None:
    (twin.probe / "workflow.yml").write_text(SPEC + "environment: {lock: packages.txt}\n")
    (twin.probe / "packages.txt").write_text("# its own\n")
    own = twin.make_environment(twin.probe / "packages.txt")
    (twin.probe / "run.py").write_text(f"import sys; sys.exit({own.name!r} not in sys.executable)")
    run_id = twin.claim()
    main([run_id, "1", SHA])
    assert twin.run(run_id)["exit_code"] == 0


def test_an_own_environment_that_cannot_be_built_is_named(twin: Twin) -> None:
    (twin.probe / "workflow.yml").write_text(SPEC + "environment: {lock: packages.txt}\n")
    (twin.probe / "packages.txt").write_text("# its own\n")
    (twin.home / "bin").mkdir()
    (twin.home / "bin/environment").write_text("#!/bin/sh\nexit 1\n")
    (twin.home / "bin/environment").chmod(0o755)
    run_id = twin.claim()
    main([run_id, "1", SHA])
    assert twin.run(run_id)["reason"].startswith("workflows/probe/packages.txt: expected an environment")


@pytest.mark.parametrize(("report", "has_link"), [("{attach: link}", True), ("{attach: none}", False), ("{}", False)])
def test_the_mail_has_a_link_to_the_report_if_the_spec_asks_for_one(twin: Twin, report: str, has_link: bool) -> None:
    (twin.probe / "workflow.yml").write_text(f"{SPEC}report: {report}\n")
    run_id = twin.claim()
    main([run_id, "1", SHA])
    (text,) = twin.mails("Message")
    links = [word for word in text.split() if word.startswith("http")]
    assert len(links) == has_link
    for link in links:
        assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in link, "version 2 cannot open what KMS has encrypted"
        with urllib.request.urlopen(link, timeout=20) as answer:  # noqa: S310 (loopback)
            assert answer.read() == b"report"
    logged = (twin.home / "runs" / run_id / "output.log").read_text() + json.dumps(twin.run(run_id))
    assert "X-Amz" not in logged


def test_no_link_to_a_report_that_is_not_there(twin: Twin) -> None:
    (twin.probe / "workflow.yml").write_text(f"{SPEC}report: {{attach: link}}\n")
    (twin.probe / "run.py").write_text("raise SystemExit(4)")
    run_id = twin.claim()
    main([run_id, "1", SHA])
    (text,) = twin.mails("Message")
    assert "http" not in text


@pytest.mark.parametrize("spec", [b"description: [}", b"description: f\xfcr\n"], ids=["not YAML", "not UTF-8"])
def test_a_spec_that_cannot_be_read_ends_the_run_with_the_reason(twin: Twin, spec: bytes) -> None:
    (twin.probe / "workflow.yml").write_bytes(spec)
    run_id = twin.claim()
    assert main([run_id, "1", SHA]) == 0
    assert twin.run(run_id)["state"] == "FAILED"
    assert twin.run(run_id)["reason"].startswith("workflows/probe/workflow.yml:1:")


def test_a_run_keeps_what_it_uses_from_a_collector(twin: Twin) -> None:
    (twin.probe / "run.py").write_text(COLLECTING_SCRIPT.format(path=run_once.__file__, home=str(twin.home)))
    newer = twin.home / "code" / ("b" * 40)  # without it, the run's code stayed because it is the newest
    subprocess.run(["git", "init", "-q", newer], check=True)
    git = ["git", "-C", newer, "-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "newer"], check=True)
    for folder in (twin.home / "runs/dead", twin.home / "envs" / ("d" * 16)):
        folder.mkdir(parents=True)
    run_id = twin.claim()
    main([run_id, "1", SHA])
    assert twin.run(run_id)["state"] == "SUCCEEDED"
    log = (twin.home / "runs" / run_id / "output.log").read_text()
    assert f"removed ['envs/{'d' * 16}', 'runs/dead']" in log


COLLECTING_SCRIPT = """\
import pathlib, sys
sys.path.insert(0, str(pathlib.Path({path!r}).parents[1]))
from toolbox.runner.housekeeping import collect
print("removed", sorted(collect(pathlib.Path({home!r}), unused_s=0, fresh_s=0, nearly_full=0)))
"""


def test_a_run_clears_the_volume_away_once_a_day(twin: Twin) -> None:
    def old_folder(name: str) -> Path:
        folder = twin.home / "runs" / name
        folder.mkdir(parents=True)
        month_ago = time.time() - 31 * 24 * 3600
        os.utime(folder, (month_ago, month_ago))
        return folder

    first = old_folder("dead")
    main([twin.claim("ab12"), "1", SHA])
    assert not first.exists()
    second = old_folder("beef")
    main([twin.claim("cd34"), "1", SHA])
    assert second.exists(), "it was done today"


def test_a_full_volume_is_cleared_away_before_the_run(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    old = twin.home / "runs/dead"
    old.mkdir(parents=True)
    os.utime(old, (1, 1))
    (twin.probe / "run.py").write_text(f"import os, sys; sys.exit(os.path.exists({str(old)!r}))")
    monkeypatch.setattr(run_once.housekeeping, "is_nearly_full", lambda _home: True)
    run_id = twin.claim()
    main([run_id, "1", SHA])
    assert twin.run(run_id)["exit_code"] == 0


def test_housekeeping_that_fails_fails_no_run(twin: Twin, capsys: pytest.CaptureFixture[str]) -> None:
    (twin.home / "lock/housekeeping").mkdir(parents=True)
    run_id = twin.claim()
    assert main([run_id, "1", SHA]) == 0
    os.utime(twin.home / "lock/housekeeping", (1, 1))
    assert main([twin.claim("cd34"), "1", SHA]) == 0
    assert twin.run("cd34")["state"] == "SUCCEEDED"
    assert "housekeeping: [Errno 21] Is a directory" in capsys.readouterr().out
