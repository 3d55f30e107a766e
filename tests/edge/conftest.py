"""Devices of the edge tests: folders as ``edge_release`` leaves them, the real service on them, a real S3 endpoint."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.ports import free_port
from tests.edge.release_world import Publisher, World

CLONE = Path(__file__).resolve().parents[2]
PROCESS = CLONE / "edge/process"
EMULATOR = CLONE / ".cache/envs/emulator/bin"
BUCKET = "twinops-test-data-123456789012"
AWS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}

sys.path.append(str(PROCESS))  # the service's modules import each other as they do on a device


def wait_until(true: Callable[[], Any], timeout_s: float = 20, what: str = "") -> Any:
    """The first true answer; fails the test when there is none in time."""
    give_up = time.monotonic() + timeout_s
    while True:
        answer = true()
        if answer:
            return answer
        assert time.monotonic() < give_up, f"not within {timeout_s} s: {what or true}"
        time.sleep(0.05)


def train(version: str, folder: Path, **environment: str) -> None:
    command = [sys.executable, str(CLONE / "edge/training/train.py"), version, str(folder)]
    subprocess.run(command, check=True, timeout=120, env={**os.environ, **environment}, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder with the trained files of a release; trained once."""
    folder = tmp_path_factory.mktemp("trained")

    def files(version: str) -> Path:
        if not (folder / version).exists():
            train(version, folder / version)
        return folder / version

    return files


class Device:
    """A device's folder with one release in slot a, and the service on it."""

    def __init__(self, root: Path, model: bytes, **settings: Any) -> None:
        self.root, self.slot = root, root / "slots/a"
        self.port = free_port()
        self.slot.mkdir(parents=True)
        shutil.copytree(PROCESS, self.slot / "process", ignore=shutil.ignore_patterns("__pycache__"))
        (root / "current").symlink_to("slots/a")
        self.release(model)
        self.settings = {
            "device": "device-test",
            "env": "sandbox",
            "address": "127.0.0.1",
            "health_port": self.port,
            "sensor": {"kind": "csv_replay", "path": str(self.write_records(1000)), "rate_hz": 500},
            "upload": {"bucket": BUCKET, "prefix": "decisions/", "batch_records": 200, "interval_s": 0.2},
        }
        self.configure(**settings)
        self.process: subprocess.Popen[bytes] | None = None

    def release(self, model: bytes, config: dict[str, Any] | None = None, release: str = "v2") -> None:
        (self.slot / "model.onnx").write_bytes(model)
        self.model_sha256 = hashlib.sha256(model).hexdigest()
        manifest = {"release": release, "model": {"name": "m", "version": release, "sha256": self.model_sha256}}
        (self.slot / "manifest.json").write_text(json.dumps(manifest))
        (self.slot / "config.json").write_text(json.dumps(config or {"commit_interval_ms": 20}))

    def configure(self, **settings: Any) -> None:
        """Merge ``settings`` into device.json."""
        for key, value in settings.items():
            self.settings[key] = {**self.settings[key], **value} if isinstance(value, dict) else value
        (self.root / "device.json").write_text(json.dumps(self.settings))

    def write_records(self, count: int) -> Path:
        path = self.root / "records.csv"
        with path.open("w", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["record_id", *(f"f{number}" for number in range(1, 10))])
            rows.writerows([f"r-{row}", *(row % 50 + number for number in range(9))] for row in range(count))
        return path

    def start(self, **environment: str) -> None:
        command = [sys.executable, str(self.root / "current/process/main.py"), "--root", str(self.root)]
        with (self.root / "service.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env={**os.environ, **AWS, **environment}, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    def kill(self) -> None:
        """As the kernel or a power cut does: without warning."""
        if self.process:
            self.process.kill()
            self.process.wait(10)

    def get(self, path: str = "/health") -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def health(self) -> dict[str, Any]:
        """The health answer, or nothing while there is none."""
        with contextlib.suppress(OSError):
            return dict(json.loads(self.get()[1]))
        return {}

    def wait_for(self, status: str, timeout_s: float = 20) -> dict[str, Any]:
        return dict(
            wait_until(
                lambda: (health := self.health()).get("status") == status and health,
                timeout_s,
                f"health {status}; log: {(self.root / 'service.log').read_text()[-2000:]}",
            )
        )

    @property
    def log(self) -> str:
        return (self.root / "service.log").read_text()


@pytest.fixture
def device(tmp_path: Path, trained: Callable[[str], Path]) -> Iterator[Device]:
    """A device with v2 in its slot; the service is not started."""
    made = Device(tmp_path / "opt", (trained("v2") / "model.onnx").read_bytes())
    yield made
    made.kill()


class S3:
    """moto's S3 on a loopback port; can be away."""

    def __init__(self, log: Path) -> None:
        self.port, self._log = free_port(), log
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [EMULATOR / "moto_server", "-H", "127.0.0.1", "-p", str(self.port)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={"PATH": os.environ["PATH"]},
            )
        wait_until(self._answers, 60, f"moto on {self.url}")
        self.client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait(10)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    @property
    def client(self) -> Any:
        import botocore.session

        session = botocore.session.Session()
        session.set_credentials(AWS["AWS_ACCESS_KEY_ID"], AWS["AWS_SECRET_ACCESS_KEY"])
        return session.create_client("s3", region_name="eu-central-1", endpoint_url=self.url)

    def objects(self) -> dict[str, bytes]:
        """Key -> content of everything in the bucket."""
        client, found = self.client, {}
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
            for entry in page.get("Contents", []):
                found[entry["Key"]] = client.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read()
        return found


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[S3]:
    """An S3 endpoint that is not started yet."""
    if not (EMULATOR / "moto_server").exists():
        pytest.skip("needs the emulator's environment: make setup")
    endpoint = S3(tmp_path / "moto.log")
    yield endpoint
    endpoint.stop()


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A temporary folder with a path short enough for supervisord's socket."""
    with tempfile.TemporaryDirectory(prefix="tw-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A device that runs v1, to which v2 is about to be pushed."""
    publisher = Publisher(tmp_path)
    first = publisher.publish("v1")
    world = World(tmp_path / "device", publisher)
    world.install(first)
    yield world
    world.close()
