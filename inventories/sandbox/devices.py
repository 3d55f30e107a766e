#!/usr/bin/env python3
"""Dynamic inventory of the sandbox: its control host, its devices and how to reach them.

Lists the same whether or not the sandbox runs: everything follows from SANDBOX_* and, where SANDBOX_DEVICES is not set,
the running sandbox's number of devices. Standard library only: any Python 3.9 on PATH runs it.
"""

from __future__ import annotations

import json
import os
import pwd
import sys
from pathlib import Path
from typing import Any

CLONE = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(CLONE))

from sandbox.settings import (  # noqa: E402
    HEALTH_PORT,
    REGION,
    SSH_PORT,
    Settings,
    SettingsError,
    device_count,
    device_names,
    load,
    waves,
)

CONTROL_HOST = "sandbox-control"
DEVICE_ROLE = "twinops-sandbox-device"
SENSOR_RATE_HZ = 50


def inventory(settings: Settings) -> dict[str, Any]:
    """The groups and, under ``_meta``, every host's variables, in Ansible's script format."""
    names = device_names(device_count(settings))
    return {
        "_meta": {
            "hostvars": {
                CONTROL_HOST: {
                    "ansible_connection": "local",
                    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
                },
                **{name: device_variables(settings, number) for number, name in enumerate(names, start=1)},
            }
        },
        "sandbox": {
            "children": ["sandbox_cloud", "sandbox_devices"],
            "vars": {"aws_environment": {**settings.aws_environment, "AWS_REGION": REGION}},
        },
        "sandbox_cloud": {"hosts": [CONTROL_HOST]},
        "sandbox_devices": {"hosts": names},
        "cloud": {"children": ["sandbox_cloud"]},
        "devices": {"children": ["sandbox_devices"]},
        **{wave: {"hosts": members} for wave, members in waves(names).items()},
    }


def device_variables(settings: Settings, number: int) -> dict[str, Any]:
    """What the roles must know about one device; a real device has the same variables, written by hand."""
    name = device_names(number)[-1]
    root = settings.device_root(name)
    return {
        "ansible_host": settings.device_address(number),
        "ansible_port": SSH_PORT,
        "ansible_user": pwd.getpwuid(os.getuid()).pw_name,
        "ansible_ssh_private_key_file": str(settings.home / "id_ed25519"),
        "ansible_ssh_common_args": (
            f"-o UserKnownHostsFile={settings.home}/known_hosts -o GlobalKnownHostsFile=none "
            "-o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"
        ),
        "ansible_control_path_dir": str(settings.home / "cp"),  # sockets: the clone's path may be too long for them
        "ansible_remote_tmp": str(root / "tmp/ansible"),
        "ansible_python_interpreter": base_python(),
        "edge_root": str(settings.edge_root(name)),
        "edge_address": settings.device_address(number),
        "edge_health_port": HEALTH_PORT,
        "edge_service_manager": "supervisord",
        "edge_python": base_python(),
        "edge_wheelhouse": str(CLONE / ".cache/wheels/device"),
        "edge_wheel_cache": str(CLONE / ".cache/uv"),
        "edge_sensor": {"kind": "csv_replay", "path": str(root / "sensor/records.csv"), "rate_hz": SENSOR_RATE_HZ},
        "edge_aws_environment": {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": settings.credentials_url(DEVICE_ROLE),
            "AWS_ENDPOINT_URL": settings.endpoint_url,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        },
    }


def base_python() -> str:
    """The interpreter that set-up used: a device's system Python. The devices' wheels are for its version."""
    configuration = CLONE / ".venv/pyvenv.cfg"
    if configuration.exists():
        for line in configuration.read_text().splitlines():
            key, _, value = line.partition("=")
            if key.strip() == "home":
                return str(Path(value.strip()) / "python3")
    return sys.executable


def main() -> int:
    try:
        settings = load()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if sys.argv[1:2] == ["--host"]:  # the older protocol: everything is in _meta already
        sys.stdout.write("{}\n")
    else:
        sys.stdout.write(json.dumps(inventory(settings), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
