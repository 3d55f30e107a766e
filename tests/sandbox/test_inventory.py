"""The dynamic inventory: what Ansible sees of the sandbox, running or not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sandbox.settings import CLONE
from tests.sandbox.support import DEVICES, OwnSandbox

SCRIPT = CLONE / "inventories/sandbox/devices.py"


def listed(**settings: str) -> dict[str, Any]:
    """What the script prints in an environment without anything of ours, not even the virtual environment."""
    environment = {"PATH": f"{Path(sys.base_prefix) / 'bin'}:/usr/bin:/bin", "HOME": os.environ["HOME"], **settings}
    done = subprocess.run([SCRIPT, "--list"], env=environment, check=True, capture_output=True, text=True, timeout=30)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_groups_and_waves_without_a_sandbox() -> None:
    groups = listed(SANDBOX_HOME="/none", SANDBOX_DEVICES="6")
    assert groups["sandbox"]["children"] == ["sandbox_cloud", "sandbox_devices"]
    assert groups["sandbox_cloud"]["hosts"] == ["sandbox-control"]
    assert groups["cloud"]["children"] == ["sandbox_cloud"]
    assert groups["devices"]["children"] == ["sandbox_devices"]
    devices = [f"device-00{number}" for number in range(1, 7)]
    assert groups["sandbox_devices"]["hosts"] == devices
    assert groups["edge_canary"]["hosts"] == devices[:1]
    assert groups["edge_early"]["hosts"] == devices[1:3]
    assert groups["edge_fleet"]["hosts"] == devices[3:]


def test_variables_follow_the_settings() -> None:
    groups = listed(SANDBOX_HOME="/h", SANDBOX_PORT="4700", SANDBOX_NETWORK="127.40.0.0", SANDBOX_DEVICES="2")
    assert groups["sandbox"]["vars"]["aws_environment"]["AWS_CONFIG_FILE"] == "/h/aws/config"
    device = groups["_meta"]["hostvars"]["device-002"]
    assert (device["ansible_host"], device["ansible_port"], device["edge_address"]) == (
        "127.40.0.2",
        2222,
        "127.40.0.2",
    )
    assert device["edge_root"] == "/h/devices/device-002/opt/twinops"
    assert device["edge_service_manager"] == "supervisord"
    assert device["edge_sensor"] == {
        "kind": "csv_replay",
        "path": "/h/devices/device-002/sensor/records.csv",
        "rate_hz": 50,
    }
    url = "http://127.0.0.1:4700/_sandbox/credentials/twinops-sandbox-device"
    assert device["edge_aws_environment"]["AWS_CONTAINER_CREDENTIALS_FULL_URI"] == url
    assert "StrictHostKeyChecking=yes" in device["ansible_ssh_common_args"]
    assert "UserKnownHostsFile=/h/known_hosts" in device["ansible_ssh_common_args"]


def test_the_devices_python_is_the_one_the_wheels_are_for() -> None:
    python = listed()["_meta"]["hostvars"]["device-001"]["edge_python"]
    version = "import sys; print(sys.version_info[:2])"
    found = [
        subprocess.run([program, "-c", version], check=True, capture_output=True, text=True).stdout
        for program in (python, CLONE / ".venv/bin/python")
    ]
    assert found[0] == found[1]
    assert not Path(python).is_relative_to(CLONE), "a device's system Python, not our virtual environment"


def test_a_wrong_setting_is_an_error_of_the_inventory() -> None:
    environment = {"PATH": os.environ["PATH"], "SANDBOX_DEVICES": "many"}
    done = subprocess.run([SCRIPT, "--list"], env=environment, check=False, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr == "SANDBOX_DEVICES: expected a number from 1 to 100, got 'many'\n"


@pytest.mark.sandbox
def test_ansible_reaches_control_host_and_devices(own_sandbox: OwnSandbox) -> None:
    ansible = Path(sys.executable).with_name("ansible")
    done = subprocess.run(
        [ansible, "sandbox", "-m", "ansible.builtin.ping"],
        env={**own_sandbox.environment, "ANSIBLE_FORCE_COLOR": "0"},
        cwd=CLONE,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("SUCCESS") == 1 + DEVICES
