"""``twinops-edge pull``: from a real S3 endpoint, beside pushes, and in every kind of trouble."""

from __future__ import annotations

import ast
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twinops import release
from twinops.edge import agent, durable, install, pull, rebuilding
from twinops.edge.bucket import Bucket

from tests.edge.conftest import AWS, EMULATOR, S3
from tests.edge.release_world import CLONE, SETTINGS, KilledError, Killer, Publisher, World, expired

SMALL = random.Random(1).randbytes(2 * release.LARGE_BYTES)  # noqa: S311
CHANGED = SMALL[:-4] + b"new!"
OTHER = random.Random(2).randbytes(2 * release.LARGE_BYTES)  # noqa: S311
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    if not (EMULATOR / "moto_server").exists():
        pytest.skip("needs the emulator's environment: make setup")
    endpoint = S3(tmp_path_factory.mktemp("s3") / "moto.log")
    endpoint.start()
    yield endpoint
    endpoint.stop()


class Field:
    """A device that runs v1, out of reach, and the bucket that it pulls from."""

    def __init__(self, folder: Path, s3: S3) -> None:
        self.publisher = Publisher(folder)
        self.v1 = self.publisher.publish("v1", SMALL)
        self.world = World(folder / "device", self.publisher)
        self.world.install(self.v1)
        self.bucket, self.client = f"models-{next(NUMBERS)}", s3.client
        self.client.create_bucket(Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        self.settings: dict[str, Any] = {
            "bucket": self.bucket,
            "service_manager": "supervisord",
            "smoke_timeout_s": 5,
            "start_timeout_s": 0.6,
            "probe_s": 0,
            "aws_environment": {**AWS, "AWS_REGION": "eu-central-1", "AWS_ENDPOINT_URL": s3.url},
        }
        (self.world.root / "bin").mkdir()
        (self.world.root / agent.PROGRAM).write_bytes(agent.program())
        self.configure()

    def configure(self, **settings: Any) -> None:
        (self.world.root / agent.SETTINGS).write_text(json.dumps({**self.settings, **settings}))

    def upload(self) -> None:
        """The bucket as a publication leaves it."""
        for path in self.publisher.folder.rglob("*"):
            name = path.relative_to(self.publisher.folder).as_posix()
            if path.is_file() and not name.startswith("push/") and name != "metadata/root.json":
                self.put(name, path.read_bytes())

    def put(self, name: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=f"tuf/{name}", Body=content)

    def complete(self, wanted: dict[str, Any], rollout_id: str = "") -> None:
        """A rollout that this device had no part in."""
        self.publisher.make_current(wanted, rollout_id)
        self.upload()

    def pull(self) -> tuple[str, str]:
        return pull.pull(self.world.root)

    @property
    def runs(self) -> str | None:
        """The one release that runs: linked, loaded and committed agree."""
        state = self.world.state()
        assert state["target"] is None
        assert self.world.linked() == self.world.loaded() == state["release"]
        return self.world.linked()

    def stored(self, content: bytes) -> str:
        digest = release.sha256(content)
        return f"targets/{release.stored_path(release.file_target(self.publisher.env, digest), digest)}"


@pytest.fixture
def field(tmp_path: Path, s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Field]:
    made = Field(tmp_path, s3)
    for name, value in made.settings["aws_environment"].items():
        monkeypatch.setenv(name, value)  # so that what a pull sets is taken back
    yield made
    made.world.close()


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """(path, first byte) of everything read from the bucket."""
    paths: list[tuple[str, int]] = []
    original = Bucket.read

    def note(self: Bucket, path: str, start: int = 0) -> Iterator[bytes]:
        paths.append((path, start))
        return original(self, path, start)

    monkeypatch.setattr(Bucket, "read", note)
    return paths


@pytest.mark.fault("device that was off during a rollout", "pulls what it missed")
def test_a_device_that_was_off_catches_up(field: Field) -> None:
    field.complete(field.publisher.publish("v2", OTHER), "r2")
    assert field.pull() == ("installed", "v2 runs")
    last = field.world.state()["history"][-1]
    assert (field.runs, last["outcome"], last["rollout_id"]) == ("v2", "committed", "pull of r2")
    assert [path.name for path in (field.world.root / "pull/incoming").iterdir()] == []
    assert field.pull() == ("nothing", "v2 runs")


def test_a_published_delta_is_pulled_instead_of_the_file(field: Field, read: list[tuple[str, int]]) -> None:
    v2 = field.publisher.publish("v2", CHANGED)
    field.world.deliver(v2)  # a push to another device has made the delta
    field.complete(v2)
    assert field.pull() == ("installed", "v2 runs")
    paths = [path for path, _ in read]
    assert release.delta_path(release.sha256(SMALL), release.sha256(CHANGED)) in paths
    assert field.stored(CHANGED) not in paths


@pytest.mark.parametrize("patch", [b"no delta", b"", bytes(3 * release.LARGE_BYTES)])
def test_a_delta_that_does_not_do_is_followed_by_the_file(field: Field, patch: bytes) -> None:
    field.complete(field.publisher.publish("v2", CHANGED))
    field.put(release.delta_path(release.sha256(SMALL), release.sha256(CHANGED)), patch)
    assert field.pull() == ("installed", "v2 runs")
    assert [entry["outcome"] for entry in field.world.state()["history"]] == ["committed", "committed"]


def test_a_release_whose_rollout_is_not_over_is_not_pulled(field: Field) -> None:
    field.complete(field.v1)
    field.publisher.publish("v2", OTHER)
    field.upload()
    assert field.pull() == ("nothing", "v1 runs")
    assert field.runs == "v1"


def test_without_a_release_of_the_environment_there_is_nothing_to_pull(field: Field) -> None:
    field.upload()
    assert field.pull() == ("nothing", "the environment runs no release yet")


def test_what_a_rollout_pushed_is_newer_than_what_is_current(field: Field) -> None:
    """The canary runs v3, the environment still v2: a pull must not take it back."""
    v2, v3 = field.publisher.publish("v2", OTHER), field.publisher.publish("v3", CHANGED)
    field.complete(v2)
    field.world.install(v3)
    assert field.pull() == ("nothing", "v3 runs, decided after v2 became current")
    assert field.runs == "v3"


@pytest.mark.fault("release that a gate blocked", "is never pulled")
def test_a_blocked_release_is_never_pulled(field: Field) -> None:
    """v3 was stopped by its gate and taken back from this device; the environment runs v2 as before."""
    v2, v3 = field.publisher.publish("v2", OTHER), field.publisher.publish("v3", CHANGED)
    field.complete(v2)
    field.pull()
    field.world.install(v3)
    install.revert(field.world.root, v3["release_digest"], SETTINGS, rollout_id="r3", reason="no alarms")
    field.upload()
    assert field.pull() == ("nothing", "v2 runs")
    assert field.runs == "v2"


@pytest.mark.fault("device away when its release was blocked", "goes back by its next pull")
def test_a_device_that_was_away_when_its_release_was_blocked_goes_back(field: Field) -> None:
    v2, v3 = field.publisher.publish("v2", OTHER), field.publisher.publish("v3", CHANGED)
    field.complete(v2)
    field.pull()
    field.world.install(v3)
    assert field.pull()[0] == "nothing", "its rollout goes on"
    field.publisher.reaffirm()
    field.upload()
    assert field.pull() == ("installed", "v2 runs")
    assert field.runs == "v2"
    assert field.pull() == ("nothing", "v2 runs")


def test_a_device_that_was_taken_back_from_the_current_release_stays_where_it_is(field: Field) -> None:
    """A way back that the gate stopped: current.json moved before it, and is not signed again."""
    v2 = field.publisher.publish("v2", OTHER)
    field.complete(v2)
    field.pull()
    field.complete(field.v1)
    field.world.install(field.publisher.deliverable(field.v1["release_digest"]))
    digest = field.v1["release_digest"]
    install.revert(field.world.root, digest, SETTINGS, rollout_id="r3", reason="unhealthy")
    assert field.pull() == ("nothing", "v2 runs, decided after v1 became current")
    assert field.runs == "v2"


def test_a_blocked_release_that_is_tried_once_more_is_left_to_its_rollout(field: Field) -> None:
    v2, v3 = field.publisher.publish("v2", OTHER), field.publisher.publish("v3", CHANGED)
    field.complete(v2)
    field.publisher.reaffirm()
    field.upload()
    field.world.install(field.publisher.deliverable(v3["release_digest"]))
    assert field.pull() == ("nothing", "v3 runs, decided after v2 became current")
    assert field.runs == "v3"


def test_an_operator_s_way_back_is_followed_also_to_a_release_that_was_current_before(field: Field) -> None:
    field.complete(field.v1)
    v2 = field.publisher.publish("v2", OTHER)
    field.world.install(v2)  # in the rollout, when v1 was still current
    field.publisher.make_current(v2)
    field.complete(field.v1)
    assert field.pull() == ("installed", "v1 runs")
    assert field.runs == "v1"
    assert field.world.state()["history"][-1]["rollout_id"] == "pull"


def test_a_release_that_does_not_run_here_is_tried_once(field: Field) -> None:
    field.complete(field.publisher.publish("v2", OTHER, health="silent"))
    outcome, why = field.pull()
    assert outcome == "failed"
    assert "v2 was not installed: the service was not ok" in why
    assert field.runs == "v1"
    tries = field.world.state()["history"]
    assert field.pull() == ("nothing", "v1 runs, decided after v2 became current")
    assert field.world.state()["history"] == tries
    field.complete(field.publisher.publish("v3", CHANGED))
    assert field.pull() == ("installed", "v3 runs")


def test_a_failed_download_is_tried_again(field: Field) -> None:
    field.complete(field.publisher.publish("v2", OTHER))
    field.put(field.stored(OTHER), OTHER[:-1] + b"!")
    outcome, why = field.pull()
    assert (outcome, "are not the signed ones" in why, field.runs) == ("failed", True, "v1")
    field.put(field.stored(OTHER), OTHER + b"and no end")
    assert field.pull() == ("installed", "v2 runs")


def test_while_a_push_has_the_device_a_pull_does_nothing(field: Field) -> None:
    field.complete(field.publisher.publish("v2", OTHER))
    with durable.device_lock(field.world.root / install.LOCK, 0):
        outcome, why = field.pull()
    assert outcome == "nothing"
    assert "a push or another pull is at work" in why
    assert field.runs == "v1"


@pytest.mark.fault("push and pull at once", "one of them, no mixture")
def test_push_and_pull_at_once_end_with_one_of_them_and_no_mixture(field: Field) -> None:
    """Both want v2; whoever comes second finds it done, or does nothing."""
    v2 = field.publisher.publish("v2", OTHER)
    field.complete(v2)
    outcomes: list[str] = []
    threads = [
        threading.Thread(target=lambda: outcomes.append(field.pull()[0])),
        threading.Thread(target=lambda: field.world.install(v2, replace(SETTINGS, lock_wait_s=20))),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert outcomes in (["installed"], ["nothing"])
    assert field.runs == "v2"
    assert [entry["release"] for entry in field.world.state()["history"]] == ["v1", "v2"]


def test_what_a_push_left_open_is_the_push_s(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    v3 = field.publisher.publish("v3", CHANGED)
    with monkeypatch.context() as patch:
        patch.setattr(rebuilding, "rebuild", interrupted)
        with pytest.raises(KeyboardInterrupt):
            field.world.install(v3)
    field.complete(field.publisher.publish("v2", OTHER))
    assert field.pull() == ("nothing", "a pushed transaction is open, at verified")
    field.world.install(v3)
    assert field.runs == "v3"


def interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


def test_an_interrupted_download_goes_on_where_it_was(field: Field, read: list[tuple[str, int]]) -> None:
    field.complete(field.publisher.publish("v2", OTHER))
    part = field.world.root / "pull/incoming" / f"{field.stored(OTHER)}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(OTHER[:100_000])
    assert field.pull() == ("installed", "v2 runs")
    assert [start for path, start in read if path == field.stored(OTHER)] == [100_000]


def test_outside_its_window_a_device_waits(field: Field, read: list[tuple[str, int]]) -> None:
    field.complete(field.publisher.publish("v2", OTHER))
    field.configure(maintenance_window="Mon 00:00-00:01;Mon 00:02-00:03")
    assert field.pull()[0] == "waiting"
    assert (field.runs, field.world.state()["waiting"]["release"]) == ("v1", "v2")
    assert field.stored(OTHER) not in [path for path, _ in read]


def test_the_bandwidth_is_kept_to(field: Field) -> None:
    field.complete(field.publisher.publish("v2", OTHER))
    field.configure(bandwidth_kib_s=512)
    began = time.monotonic()
    assert field.pull()[0] == "installed"
    assert time.monotonic() - began >= len(OTHER) / (512 * 1024)


def test_offline(field: Field) -> None:
    field.complete(field.publisher.publish("v2", OTHER))
    field.configure(aws_environment={**field.settings["aws_environment"], "AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
    outcome, why = field.pull()
    assert (outcome, field.runs) == ("offline", "v1")
    assert f"s3://{field.bucket}/tuf/metadata/" in why


def test_expired_metadata(field: Field) -> None:
    field.publisher.repository.now = expired()
    field.complete(field.publisher.publish("v2", OTHER))
    outcome, why = field.pull()
    assert (outcome, field.runs) == ("failed", "v1")
    assert "is expired; this device's clock says" in why


@pytest.mark.fault("attack: rollback", "refused: the device has seen newer metadata")
def test_an_older_bucket_is_refused(field: Field, tmp_path: Path) -> None:
    field.upload()
    old = {path: path.read_bytes() for path in (field.publisher.folder / "metadata").iterdir()}
    field.world.install(field.publisher.publish("v2", OTHER))
    field.publisher.make_current(field.v1)
    for path, content in old.items():
        field.put(f"metadata/{path.name}", content)
    outcome, why = field.pull()
    assert (outcome, field.runs) == ("failed", "v2")
    assert "has seen newer metadata and refuses to go back" in why


def test_a_full_disk_is_named(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    field.complete(field.publisher.publish("v2", OTHER))
    usage = shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    outcome, why = field.pull()
    assert (outcome, "the disk is full" in why, field.runs) == ("failed", True, "v1")


@pytest.mark.parametrize("step", [30, pytest.param(2, marks=pytest.mark.faults)])
def test_killed_at_file_operations(field: Field, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The next pull finishes, or undoes and begins anew."""
    v2 = field.publisher.publish("v2", CHANGED)
    field.world.deliver(v2)
    field.complete(v2, "r2")
    saved = field.world.root.with_name("saved")
    shutil.copytree(field.world.root, saved, symlinks=True)
    killer = Killer(monkeypatch, field.world.root)
    assert field.pull()[0] == "installed"
    for at in range(1, killer.count + 1, step):
        killer.at = None
        shutil.rmtree(field.world.root)
        shutil.copytree(saved, field.world.root, symlinks=True)
        killer.count, killer.at = 0, at
        with pytest.raises(KilledError):
            field.pull()
        killer.at = None
        assert field.world.linked() in ("v1", "v2"), killer.names[-1]
        assert field.pull()[0] in ("installed", "nothing"), killer.names[-1]
        assert field.runs == "v2", killer.names[-1]


@pytest.mark.fault("SIGKILL of a pull", "the next one goes on")
def test_a_real_sigkill_of_the_program_on_the_device(field: Field) -> None:
    field.complete(field.publisher.publish("v2", OTHER))
    control = field.world.root / "venv/bin/supervisorctl"
    original = control.read_text()
    control.write_text(original.replace("#!/bin/sh\n", "#!/bin/sh\nsleep 5\n"))
    command = [sys.executable, "-I", str(field.world.root / agent.PROGRAM)]
    process = subprocess.Popen(command, cwd="/", stdout=subprocess.DEVNULL)
    try:
        give_up = time.monotonic() + 30
        while field.world.state()["phase"] != "switched":
            assert time.monotonic() < give_up
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    control.write_text(original)
    give_up = time.monotonic() + 20  # its child, asleep, may still have the lock
    while (outcome := field.pull())[0] != "installed":
        assert time.monotonic() < give_up, outcome
        time.sleep(0.2)
    assert field.runs == "v2"


def test_the_program_says_what_it_did_and_records_it(field: Field) -> None:
    field.complete(field.publisher.publish("v2", OTHER))
    command = [sys.executable, "-I", str(field.world.root / agent.PROGRAM)]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=60, check=False)

    done = run()
    assert (done.returncode, done.stdout) == (0, "installed: v2 runs\n"), done.stderr
    record = json.loads((field.world.root / pull.RECORD).read_bytes())
    assert (record["outcome"], record["reason"]) == ("installed", "v2 runs")
    (field.world.root / agent.SETTINGS).unlink()
    lacking = run()
    assert lacking.returncode == 1
    assert "expected settings, found none; set edge_models_bucket" in lacking.stderr


def test_the_programs_are_made_of_exactly_what_they_import() -> None:
    folder, found = CLONE / "module_utils/twinops", set()
    todo = ["edge/pull.py", "edge/push.py", "edge/report.py"]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found.add(name)
        package = Path(name).parent
        for node in ast.walk(ast.parse((folder / name).read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = package if node.level == 1 else package.parent
                modules = [base / node.module] if node.module else [base / alias.name for alias in node.names]
                todo += [f"{module.as_posix()}.py" for module in modules if (folder / f"{module}.py").is_file()]
    assert found | {"__init__.py", "edge/__init__.py"} == set(agent.FILES)
    assert agent.program() == agent.program()
