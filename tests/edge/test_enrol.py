"""``roles/edge_base`` on a device that is a real sshd: from nothing, again, interrupted, and refused."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twinops.edge.service import NAME
from twinops.edge.supervisord import Supervisord
from twinops.errors import TwinopsError

from sandbox import devices
from sandbox.settings import load
from tests.edge.conftest import CLONE, Device, wait_until

NETWORK = f"127.24.{10 + os.getpid() % 200}.0"  # of its own, so that two test runs do not meet
WHEELS = CLONE / ".cache/wheels/device"
POWER_ON = """
import sys
from sandbox import devices, settings
device = devices.Device(settings.load({"SANDBOX_HOME": sys.argv[1], "SANDBOX_NETWORK": sys.argv[2]}), 1)
devices.prepare_keys(device.settings, [device])
devices.power_on([device])
"""
PLAYBOOK = """
- hosts: devices
  gather_facts: false
  roles: [edge_base]
"""


class Enrolled:
    """A device without anything, reached by ssh, and the playbook that enrols it."""

    def __init__(self, home: Path) -> None:
        settings = load({"SANDBOX_HOME": str(home), "SANDBOX_NETWORK": NETWORK})
        self.home, self.device = home, devices.Device(settings, 1)
        self.root = self.device.edge_root
        # As a program of its own: sshd shall outlive who started it, and here that would be this test run.
        command = [sys.executable, "-c", POWER_ON, str(home), NETWORK]
        subprocess.run(command, cwd=CLONE, check=True, timeout=60)
        self.playbook = home / "enrol.yml"
        self.playbook.write_text(PLAYBOOK)
        self.tuf_root = home / "root.json"
        self.tuf_root.write_text('{"first": "root"}\n')

    def variables(self, **changed: Any) -> dict[str, Any]:
        return {
            "ansible_host": self.device.address,
            "ansible_port": devices.SSH_PORT,
            "ansible_user": devices.login_user(),
            "ansible_ssh_private_key_file": str(self.home / "id_ed25519"),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self.home}/known_hosts -o GlobalKnownHostsFile=none",
            "ansible_control_path_dir": str(self.device.root / "tmp/cp"),
            "ansible_remote_tmp": str(self.device.root / "tmp/ansible"),
            "ansible_python_interpreter": os.path.realpath(sys.executable),
            "twinops_env": "sandbox",
            "edge_root": str(self.root),
            "edge_address": self.device.address,
            "edge_service_manager": "supervisord",
            "edge_python": os.path.realpath(sys.executable),
            "edge_wheelhouse": str(WHEELS),
            "edge_wheel_cache": str(CLONE / ".cache/uv"),
            "edge_tuf_root": str(self.tuf_root),
            "edge_sensor": {"kind": "csv_replay", "path": str(self.home / "records.csv"), "rate_hz": 50},
            "edge_upload_bucket": "twinops-sandbox-data-123456789012",
            "edge_models_bucket": "twinops-sandbox-models-123456789012",
            "edge_aws_environment": {
                "AWS_REGION": "eu-central-1",
                "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
                "ODD": '50% of "it" all',
            },
            **changed,
        }

    def start(self, *arguments: str, **changed: Any) -> subprocess.Popen[str]:
        inventory = {"all": {"children": {"devices": {"hosts": {"device-001": self.variables(**changed)}}}}}
        path = self.home / "hosts.json"
        path.write_text(json.dumps(inventory))
        command = [Path(sys.executable).with_name("ansible-playbook"), "-i", path, self.playbook, *arguments]
        return subprocess.Popen(
            command,
            cwd=CLONE,
            env={**os.environ, "ANSIBLE_CONFIG": str(CLONE / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, fails: bool = False, **changed: Any) -> str:
        process = self.start(*arguments, **changed)
        output, _ = process.communicate(timeout=300)
        assert (process.returncode != 0) == fails, output[-5000:]
        return output

    def files(self) -> set[str]:
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*")}

    def supervisor(self) -> str:
        command = [self.root / "venv/bin/supervisorctl", "-c", self.root / "supervisord.conf", "pid"]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout.strip()


def changed(output: str) -> int:
    return int(re.search(r"device-001 +: .*\bchanged=(\d+)", output).group(1))  # type: ignore[union-attr]


@contextlib.contextmanager
def fresh_device(home: Path) -> Iterator[Enrolled]:
    """A fresh device; everything on it is ended afterwards."""
    if not list(WHEELS.glob("*.whl")):
        pytest.skip("needs the devices' wheels: make setup")
    made = Enrolled(home)
    yield made
    devices.power_off(made.device)


@pytest.fixture
def enrolled(short_tmp: Path) -> Iterator[Enrolled]:
    with fresh_device(short_tmp) as made:
        yield made


@pytest.fixture(scope="module")
def untouched() -> Iterator[Enrolled]:
    """A fresh device for tests that leave it as it is."""
    short_tmp = tempfile.TemporaryDirectory(prefix="tw-", dir="/tmp", ignore_cleanup_errors=True)
    with short_tmp as folder, fresh_device(Path(folder)) as made:
        yield made


def test_from_nothing_to_enrolled_and_again(enrolled: Enrolled) -> None:
    before = enrolled.files()
    assert changed(enrolled.run("--check", "--diff")) == 2
    assert enrolled.files() == before

    enrolled.run()
    assert json.loads((enrolled.root / "device.json").read_text())["upload"] == {
        "bucket": "twinops-sandbox-data-123456789012",
        "prefix": "decisions/",
        "batch_records": 500,
        "interval_s": 10.0,
    }
    assert (enrolled.root / "tuf/metadata/root.json").read_text() == '{"first": "root"}\n'
    pull = [enrolled.root / "bin/twinops-edge", "pull"]
    pulled = subprocess.run(pull, capture_output=True, text=True, timeout=60, check=False)
    assert (pulled.returncode, pulled.stderr[:24]) == (1, "failed: release metadata"), pulled.stderr
    first = enrolled.supervisor()
    assert first.isdigit()

    again = enrolled.run()
    assert changed(again) == 0
    assert changed(enrolled.run("--check")) == 0
    assert enrolled.supervisor() == first

    # Another root, another setting of the service: the first is ignored for ever, the second restarts.
    enrolled.tuf_root.write_text('{"other": "root"}\n')
    output = enrolled.run("--diff", edge_aws_environment={"AWS_SECRET_ACCESS_KEY": "hidden"})
    assert changed(output) == 1
    assert "restarted" in output
    assert "hidden" not in output
    assert (enrolled.root / "tuf/metadata/root.json").read_text() == '{"first": "root"}\n'
    assert enrolled.supervisor() not in ("", first)


def test_the_service_runs_under_supervisord_and_comes_back(enrolled: Enrolled, device: Device) -> None:
    """The device's folder gets a release by hand, as edge_release would leave it."""
    enrolled.run(edge_sensor=device.settings["sensor"])
    device.slot.rename(enrolled.root / "slots/a")
    (enrolled.root / "current").symlink_to("slots/a")
    supervisord = Supervisord(enrolled.root, timeout_s=60)
    supervisord.restart(NAME)
    status = wait_until(lambda: ok_status(enrolled))
    pid = status["health"]["pid"]
    environment = Path(f"/proc/{pid}/environ").read_text()
    assert 'ODD=50% of "it" all\0' in environment
    assert f"TWINOPS_SANDBOX={enrolled.home}\0" in environment
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: (s := ok_status(enrolled)) and s["health"]["pid"] != pid)
    assert not list((enrolled.root / "slots").rglob("__pycache__"))
    for _ in range(2):
        supervisord.stop(NAME)
    with pytest.raises(TwinopsError, match="stopProcess no-such-program: BAD_NAME"):
        supervisord.stop("no-such-program")
    (enrolled.root / "slots/a/process/main.py").write_text("raise SystemExit(1)\n")
    with pytest.raises(TwinopsError, match=f"startProcess {NAME}: (ABNORMAL_TERMINATION|SPAWN_ERROR)"):
        supervisord.restart(NAME)


def ok_status(enrolled: Enrolled) -> dict[str, Any] | None:
    command = [enrolled.root / "bin/twinops-edge", "status"]
    status = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=30).stdout)
    return status if status["health"] and status["health"]["status"] == "ok" else None


@pytest.mark.parametrize(
    "once_there_is",
    [
        pytest.param("venvs/*/bin/python", marks=pytest.mark.faults),
        "venvs/*/lib/*/site-packages/numpy",
        pytest.param("device.json", marks=pytest.mark.faults),
    ],
)
def test_killed_in_the_middle_then_run_again(once_there_is: str, enrolled: Enrolled) -> None:
    process = enrolled.start()
    wait_until(lambda: list(enrolled.root.glob(once_there_is)), 120, once_there_is)
    # The device first: the module would outlive its controller, and be done before it is looked at.
    sshd = devices.processes.read_record(enrolled.device.record)
    assert sshd is not None
    for found in devices._processes(enrolled.device):
        if found.pid != sshd[0].pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(found.pid, signal.SIGKILL)
    # Ansible's workers are in sessions of their own, and would wait for their dead parent for ever.
    devices.processes.end(devices.processes.with_command("ansible-playbook", str(enrolled.playbook)), grace_s=0)
    process.communicate(timeout=10)
    enrolled.run()
    assert json.loads((enrolled.root / "device.json").read_text())["device"] == "device-001"
    assert changed(enrolled.run()) == 0
    assert enrolled.supervisor().isdigit()


def links(folder: Path) -> None:
    """All wheels of the control host, as if they had been pushed."""
    folder.mkdir()
    for wheel in WHEELS.glob("*.whl"):
        (folder / wheel.name).symlink_to(wheel)


def damage(folder: Path) -> Path:
    six = next(folder.glob("six-*"))
    content = bytearray(six.read_bytes())
    six.unlink()
    content[200] ^= 1
    six.write_bytes(content)
    return six


def test_missing_and_damaged_wheels_are_pushed(enrolled: Enrolled) -> None:
    own = enrolled.device.root / "wheels"
    links(own)
    next(own.glob("jmespath-*")).unlink()
    six = damage(own)
    assert changed(enrolled.run(edge_wheelhouse=str(own))) == 3
    assert {path.name for path in own.iterdir()} == {path.name for path in WHEELS.glob("*.whl")}
    assert six.read_bytes() == (WHEELS / six.name).read_bytes()
    assert changed(enrolled.run(edge_wheelhouse=str(own))) == 0


def test_a_wheel_that_the_lock_does_not_know_is_refused(enrolled: Enrolled) -> None:
    control = enrolled.home / "wheels"
    links(control)
    wheel = next(control.glob("six-*"))
    content = wheel.read_bytes()
    wheel.unlink()
    wheel.write_bytes(content)
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.comment = b"a sound archive with sound files: only the hash tells"
    own = enrolled.device.root / "wheels"
    output = enrolled.run(
        edge_base_wheels_dir=str(control),
        edge_wheelhouse=str(own),
        edge_wheel_cache=str(enrolled.home / "cache"),
        fails=True,
    )
    assert "Hash mismatch for `six==1.17.0`" in output, output
    assert not (enrolled.root / "venv").exists()


@pytest.mark.parametrize(
    ("changed_variables", "message"),
    [
        ({"edge_health_port": 0}, "device.json: health_port: expected 1–65535, got 0"),
        ({"edge_root": "/tmp/" + "long/" * 20}, "expected a path shorter by"),  # noqa: S108
        ({"edge_python": "/nowhere/python"}, "/nowhere/python"),
        ({"edge_service_manager": "runit"}, "value of edge_base_service_manager must be one of"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_written(
    changed_variables: dict[str, Any], message: str, untouched: Enrolled
) -> None:
    output = untouched.run("--check", fails=True, **changed_variables)
    assert message in " ".join(output.split())
    assert untouched.files() == set()
