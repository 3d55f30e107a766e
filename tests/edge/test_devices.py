"""Enrolment's pure part, and what a device says about itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from twinops import devices
from twinops.edge import device_status
from twinops.errors import SpecError, TwinopsError

from tests.edge.conftest import CLONE, Device, wait_until

SOUND: dict[str, Any] = {
    "device": "device-001",
    "env": "sandbox",
    "device_class": "any",
    "address": "127.0.0.1",
    "health_port": 8080,
    "sensor": {"kind": "csv_replay", "path": "/records.csv", "rate_hz": 50},
    "upload": {"bucket": "b", "prefix": "decisions/", "batch_records": 500, "interval_s": 10},
}
CASES = yaml.safe_load((CLONE / "tests/plans/devices/settings.yml").read_text())


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_settings(case: dict[str, Any]) -> None:
    settings = {**SOUND}
    for key, value in case["change"].items():
        settings[key] = {**SOUND[key], **value} if isinstance(value, dict) else value
    found: tuple[str, ...] = ()
    try:
        devices.check_settings(settings, "device.json")
    except SpecError as error:
        found = error.mistakes
    assert list(found) == case["mistakes"]


def test_a_root_too_long_for_the_socket_names_path_and_surplus() -> None:
    longest = "/" + "x" * (107 - len("/run/sv.sock.4194304") - 1)
    devices.check_socket_path(longest)
    with pytest.raises(TwinopsError, match=r"edge_root: /x+: expected a path shorter by 3 bytes or more"):
        devices.check_socket_path(longest + "xxx")


def test_an_interval_without_a_pause_is_refused_and_no_reports_at_all_are_not() -> None:
    devices.check_intervals(pull_interval_s=1, report_interval_s=0)
    with pytest.raises(SpecError) as caught:
        devices.check_intervals(pull_interval_s=0, report_interval_s=-1)
    assert caught.value.mistakes == (
        "edge_pull_interval_s: expected at least 1 (no edge_models_bucket: never), got 0",
        "edge_report_interval_s: expected at least 0 (never), got -1",
    )


@pytest.mark.parametrize("every", ["0", "-5", "1.5", ""])
def test_a_program_that_would_never_pause_is_not_started(
    every: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_status, "keep_running", lambda *arguments: pytest.fail(f"started: {arguments}"))
    assert device_status.main(["pull", "--every", every], tmp_path) == 2
    assert capsys.readouterr().err.startswith("usage: twinops-edge ")


def test_an_environment_is_named_by_lock_python_and_processor() -> None:
    digest = devices.environment_digest("numpy==1", "3.11.2", "x86_64")
    others = [("numpy==2", "3.11.2", "x86_64"), ("numpy==1", "3.11.3", "x86_64"), ("numpy==1", "3.11.2", "aarch64")]
    assert devices.environment_digest("numpy==1", "3.11.2", "x86_64") == digest
    assert len({digest, *(devices.environment_digest(*other) for other in others)}) == 4


def test_locked_hashes_are_those_of_the_package_only() -> None:
    lock = (CLONE / "locks/device.txt").read_text()
    uv, urllib3 = devices.locked_hashes(lock, "uv"), devices.locked_hashes(lock, "urllib3")
    assert len(uv) > 5
    assert urllib3
    assert not uv & urllib3
    assert devices.locked_hashes(lock, "u") == frozenset()


def test_status_of_a_folder_that_is_no_device(tmp_path: Path) -> None:
    status = device_status.device_status(tmp_path / "nowhere")
    assert status["phase"] == "not enrolled"
    assert status["health"] is None
    assert status["problems"] == [f"{tmp_path}/nowhere/device.json: No such file or directory"]
    assert status["disk"]["free_bytes"] > 0


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe", b'{"phase": '])
def test_status_with_a_broken_state(content: bytes, device: Device) -> None:
    (device.root / "state.json").write_bytes(content)
    status = device_status.device_status(device.root)
    assert any("state.json" in problem for problem in status["problems"])
    assert any("/health" in problem for problem in status["problems"])
    assert (status["device"], status["release"], status["history"]) == ("device-test", None, [])


def test_status_and_version_on_the_device(device: Device) -> None:
    state = {"phase": "committed", "slot": "a", "release": "v2", "release_digest": "d" * 64, "history": [{"at": "x"}]}
    (device.root / "state.json").write_text(json.dumps(state))
    (device.root / "bin").mkdir()
    program = device.root / "bin/twinops-edge"
    program.write_bytes(Path(device_status.__file__).read_bytes())

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", str(program), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)

    down = run("version")
    assert (down.returncode, down.stdout) == (1, "")
    assert down.stderr.startswith(f"no release is running: http://127.0.0.1:{device.port}/health: ")
    assert run().returncode == run("restart").returncode == 2
    device.start()
    device.wait_for("ok")
    wait_until(lambda: device.health()["records"] > 0)
    assert run("version").stdout == "v2\n"
    status = json.loads(run("status").stdout)
    assert {key: status[key] for key in state} == state
    assert status["health"]["status"] == "ok"
    assert status["problems"] == []
