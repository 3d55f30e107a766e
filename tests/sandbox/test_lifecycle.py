"""``up`` converges from whatever a killed run left, ``down`` ends everything, and nothing listens beyond loopback."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path

import pytest

from sandbox import processes
from sandbox.devices import Device
from sandbox.settings import MARKER, SSH_PORT
from tests.sandbox.support import DEVICES, OwnSandbox, eventually

pytestmark = pytest.mark.sandbox


def everything(own: OwnSandbox) -> list[processes.Process]:
    """Every process of the sandbox: those with its marker, and the sshds, which hide their environment."""
    sshds = processes.with_command("sshd", str(own.settings.home))
    return [*processes.with_environment(f"{MARKER}={own.settings.home}"), *sshds]


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    assert processes.wait_until(lambda: processes.find(pid) is None, timeout_s=5)


def ssh(own: OwnSandbox, name: str, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ssh", "-F", str(own.settings.home / "ssh_config"), name, command],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )


def health(own: OwnSandbox) -> dict[str, str]:
    with urllib.request.urlopen(f"{own.settings.endpoint_url}/_sandbox/health", timeout=5) as answer:  # noqa: S310
        document: dict[str, str] = json.load(answer)
        return document


def test_a_sandbox_through_its_life(new_sandbox: OwnSandbox) -> None:
    own = new_sandbox
    first = own.json("up")
    assert first["changed"]
    assert first["started"] == ["emulator", "device-001", "device-002", "plant"]
    second = own.json("up")
    assert second == {"changed": False, "started": [], "ended": []}

    generation = health(own)["generation"]
    device = Device(own.settings, 1)
    (device.edge_root / "state").write_text("of this generation")

    kill(own.record("device-001")["pid"])
    repaired = own.json("up")
    assert repaired["started"] == ["device-001"], "only what is missing is started"
    assert (device.edge_root / "state").exists()

    kill(own.record("emulator")["pid"])
    renewed = own.run("up")
    assert "cleaned up after an earlier run" in renewed.stdout
    assert health(own)["generation"] != generation
    assert not (device.edge_root / "state").exists(), "devices of another generation are reset"

    down = own.json("down")
    assert down["changed"]
    assert everything(own) == []
    assert own.json("down") == {"changed": False, "started": [], "ended": []}

    assert own.run("clean").returncode == 0
    assert not own.settings.home.exists()


def test_strays_without_any_record_are_found(new_sandbox: OwnSandbox) -> None:
    new_sandbox.json("up")
    for record in (new_sandbox.settings.home / "run").glob("*.json"):
        record.unlink()
    assert len(everything(new_sandbox)) == 1 + DEVICES
    new_sandbox.json("down")
    assert everything(new_sandbox) == []


@pytest.mark.parametrize("after_s", [0.3, 0.9, 1.5, 2.5])
def test_up_killed_at_any_time_is_simply_run_again(new_sandbox: OwnSandbox, after_s: float) -> None:
    killed = subprocess.Popen(
        [*_up_command()], env=new_sandbox.environment, cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL
    )
    try:
        killed.wait(after_s)
    except subprocess.TimeoutExpired:
        killed.kill()
    killed.wait()
    new_sandbox.json("up")
    status = new_sandbox.json("status")
    assert status["running"]
    assert [device["on"] for device in status["devices"]] == [True] * DEVICES


def _up_command() -> list[str]:
    import sys

    return [sys.executable, "-m", "sandbox", "up"]


def test_a_port_in_use_is_one_error_and_nothing_starts(new_sandbox: OwnSandbox) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", new_sandbox.settings.port))
        other.listen()
        done = new_sandbox.run("up")
    assert done.returncode == 1
    assert f"127.0.0.1:{new_sandbox.settings.port} is in use by" in done.stderr
    assert f"process {os.getpid()}" in done.stderr
    assert "SANDBOX_PORT" in done.stderr
    assert everything(new_sandbox) == []


def test_a_devices_address_in_use_is_one_error(new_sandbox: OwnSandbox) -> None:
    with socket.socket() as other:
        other.bind((new_sandbox.settings.device_address(2), SSH_PORT))
        other.listen()
        done = new_sandbox.run("up")
    assert done.returncode == 1
    assert "set SANDBOX_NETWORK" in done.stderr
    assert everything(new_sandbox) == []


def test_somebody_elses_folder_is_left_alone(new_sandbox: OwnSandbox) -> None:
    home = new_sandbox.settings.home
    home.mkdir()
    (home / "precious").touch()
    for command in ("up", "clean"):
        done = new_sandbox.run(command)
        assert done.returncode == 1
        assert "SANDBOX_HOME: expected" in done.stderr
    (home / "precious").unlink()
    home.rmdir()


def test_another_port_needs_down_first(new_sandbox: OwnSandbox) -> None:
    new_sandbox.json("up")
    done = new_sandbox.run("up", SANDBOX_PORT="4999")
    assert done.returncode == 2
    assert "run `python -m sandbox down` first" in done.stderr


def test_the_number_of_devices_can_change(new_sandbox: OwnSandbox) -> None:
    new_sandbox.json("up")
    done = new_sandbox.run("up", "--json", SANDBOX_DEVICES="3")
    assert json.loads(done.stdout)["started"] == ["device-003", "plant"]
    done = new_sandbox.run("up", "--json", SANDBOX_DEVICES="1")
    assert json.loads(done.stdout)["ended"] == ["device-002", "device-003"]
    assert not Device(new_sandbox.settings, 2).root.exists()


def test_everything_listens_on_loopback_only(own_sandbox: OwnSandbox) -> None:
    pids = {process.pid for process in everything(own_sandbox)}
    inodes = {link for pid in pids for link in processes._open_files(pid)}
    addresses = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in (processes.PROC / "net" / table).read_text().splitlines()[1:]:
            fields = line.split()
            if f"socket:[{fields[9]}]" in inodes and fields[3] in (processes.TCP_LISTEN, "07"):
                addresses.append((table, fields[1].split(":")[0]))
    assert len(addresses) >= 2 + DEVICES, "endpoint, mail, and each device"
    assert [at for at in addresses if at[0] != "tcp" or not at[1].endswith("7F")] == []


def test_no_process_has_the_callers_aws_variables(new_sandbox: OwnSandbox) -> None:
    done = new_sandbox.run("up", AWS_PROFILE="production", AWS_SESSION_TOKEN="secret")
    assert done.returncode == 0, done.stderr
    for process in everything(new_sandbox):
        environment = processes.environment_of(process.pid)
        assert b"production" not in environment
        assert b"AWS_SESSION_TOKEN" not in environment
    assert "AWS_" not in ssh(new_sandbox, "device-001", "env").stdout


def test_a_device_is_reached_by_ssh_with_its_own_world(own_sandbox: OwnSandbox) -> None:
    device = Device(own_sandbox.settings, 1)
    (device.edge_root / "bin").mkdir(exist_ok=True)
    tool = device.edge_root / "bin/own-tool"
    tool.write_text("#!/bin/sh\necho $TWINOPS_DEVICE $HOME\n")
    tool.chmod(0o755)
    assert ssh(own_sandbox, "device-001", "own-tool").stdout.split() == ["device-001", str(device.root / "home")]
    assert ssh(own_sandbox, "device-002", "own-tool").returncode == 127, "another device does not have it"


def test_a_host_key_that_changed_is_refused(own_sandbox: OwnSandbox) -> None:
    known = own_sandbox.settings.home / "known_hosts"
    text = known.read_text()
    lines = text.splitlines()
    try:
        known.write_text(f"{lines[0].split()[0]} {' '.join(lines[1].split()[1:])}\n{lines[1]}\n")
        assert "Host key verification failed" in ssh(own_sandbox, "device-001", "true").stderr
    finally:
        known.write_text(text)


def test_a_device_can_be_powered_off_and_on(own_sandbox: OwnSandbox) -> None:
    device = Device(own_sandbox.settings, 2)
    left = ssh(own_sandbox, "device-002", "setsid sleep 300 >/dev/null 2>&1 & echo $!")
    assert own_sandbox.run("device", "off", "device-002").returncode == 0
    assert processes.find(int(left.stdout)) is None, "a power cut ends services too"
    assert not device.is_on
    assert ssh(own_sandbox, "device-002", "true").returncode == 255
    assert ssh(own_sandbox, "device-001", "true").returncode == 0
    assert own_sandbox.run("device", "on", "device-002").returncode == 0
    assert ssh(own_sandbox, "device-002", "true").returncode == 0
    unknown = own_sandbox.run("device", "on", "device-999")
    assert unknown.returncode == 2
    assert "expected one of device-001–device-002" in unknown.stderr


def test_a_device_starts_its_services_at_boot(own_sandbox: OwnSandbox) -> None:
    device = Device(own_sandbox.settings, 2)
    supervisord, sign = device.edge_root / "venv/bin/supervisord", device.root / "booted"
    supervisord.parent.mkdir(parents=True)
    supervisord.write_text(f"#!/bin/sh\necho $TWINOPS_DEVICE $2 > {sign}\n")
    supervisord.chmod(0o755)
    config = device.edge_root / "supervisord.conf"
    config.touch()
    own_sandbox.run("device", "off", "device-002")
    own_sandbox.run("device", "on", "device-002")
    eventually(lambda: sign.exists() and sign.read_text() == f"device-002 {config}\n")
