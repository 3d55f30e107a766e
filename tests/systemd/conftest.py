"""One environment whose canary is a whole Debian, for all tests of this folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.settings import CLONE
from tests.sandbox.support import OwnSandbox, run_program
from tests.systemd import booted

INVENTORIES = ("sandbox", "staging", "production", "limit.yml")
ROOT = Path("/opt/twinops")
RECORDS = Path("/var/lib/plant/records.csv")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.systemd)
            item.add_marker(pytest.mark.sandbox)


class Enrolled:
    """A sandbox whose canary is ``device``, the others its usual ones, and the playbooks that bring releases to it."""

    def __init__(self, own: OwnSandbox, device: booted.BootedDevice) -> None:
        self.own, self.device = own, device
        self._inventory = device.home / "device.json"
        variables = {"device-001": self.variables()}
        self._inventory.write_text(json.dumps({"all": {"children": {"devices": {"hosts": variables}}}}))
        self.push_records()

    def variables(self) -> dict[str, Any]:
        """What differs from a device of the sandbox: all that a real device has as well."""
        options = [*self.device.ssh_options, "-o", f'ProxyCommand="{self.device.proxy_command}"']
        return {
            "ansible_host": self.device.name,
            "ansible_port": 22,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.device.key),
            "ansible_ssh_common_args": " ".join(options),
            "ansible_remote_tmp": "/root/.ansible/tmp",
            "ansible_python_interpreter": "/usr/bin/python3",
            "edge_root": str(ROOT),
            "edge_service_manager": "systemd",
            "edge_address": "127.0.0.1",
            "edge_python": "/usr/bin/python3",
            "edge_wheelhouse": str(ROOT / "wheels"),
            "edge_wheel_cache": str(ROOT / "cache"),
            "edge_sensor": {"kind": "csv_replay", "path": str(RECORDS), "rate_hz": 50},
        }  # fmt: skip

    def push_records(self) -> None:
        source = self.own.settings.device_root("device-001") / "sensor/records.csv"
        command = f"mkdir -p {RECORDS.parent} && cat > {RECORDS}"
        proxy = ["-o", f"ProxyCommand={self.device.proxy_command}", "-i", str(self.device.key)]
        with source.open("rb") as records:
            argv = ["ssh", *self.device.ssh_options, *proxy, f"root@{self.device.name}", command]
            subprocess.run(argv, stdin=records, check=True, timeout=60)

    def playbook(self, name: str, *variables: str, ok: bool = True) -> str:
        """Run a playbook to its end; what it printed."""
        inventories = [word for each in INVENTORIES[:-1] for word in ("-i", f"inventories/{each}")]
        inventories += ["-i", str(self._inventory), "-i", f"inventories/{INVENTORIES[-1]}"]
        done = run_program(
            str(Path(sys.executable).with_name("ansible-playbook")),
            *(f"playbooks/{name}.yml", "-l", "sandbox", *inventories),
            *(word for variable in variables for word in ("-e", variable)),
            environment=self.own.environment,
            timeout_s=400,
        )
        assert (done.returncode == 0) == ok, done.stdout[-6000:]
        return done.stdout

    def status(self) -> dict[str, Any]:
        """What the device says about itself."""
        found: dict[str, Any] = json.loads(self.device.output(f"{ROOT}/bin/twinops-edge status"))
        return found


@pytest.fixture(scope="session")
def enrolled() -> Iterator[Enrolled]:
    """The cloud is deployed; the device has only been switched on."""
    reason = booted.why_not()
    if not reason and sysconfig.get_python_version() != booted.PYTHON:
        reason = f"needs set-up with Python {booted.PYTHON}, whose wheels fit Debian {booted.SUITE}"
    if not reason and not list((CLONE / ".cache/wheels/device").glob("*.whl")):
        reason = "needs the devices' wheels: make setup"
    if reason:
        pytest.skip(reason)
    own, home = OwnSandbox(devices=3), Path(tempfile.mkdtemp(prefix="tw-sd-"))
    device = None
    try:
        own.json("up")
        device = booted.BootedDevice(home / "device", "device-001")
        made = Enrolled(own, device)
        made.playbook("cloud")
        yield made
    finally:
        if device is not None:
            device.off()
        own.remove()
        shutil.rmtree(home, ignore_errors=True)
