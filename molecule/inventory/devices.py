#!/usr/bin/env python3
"""The devices of the molecule run's sandbox, as devices of `staging`: real sshds, one in each wave."""

from __future__ import annotations

import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
sys.path.insert(0, str(PROJECT))

from sandbox.settings import Settings, device_count, device_names, load, waves  # noqa: E402

CONTROL_HOST = "molecule-control"


def inventory(settings: Settings) -> dict[str, Any]:
    names = device_names(device_count(settings))
    # A program and no package: it knows how a device of the sandbox is reached.
    variables = runpy.run_path(str(PROJECT / "inventories/sandbox/devices.py"))["device_variables"]
    return {
        "_meta": {"hostvars": {name: variables(settings, number) for number, name in enumerate(names, start=1)}},
        "staging": {"children": ["staging_cloud", "staging_devices"]},
        "staging_cloud": {"hosts": [CONTROL_HOST]},
        "staging_devices": {"hosts": names},
        "devices": {"children": ["staging_devices"]},
        **{wave: {"hosts": members} for wave, members in waves(names).items()},
        "edge_rolling": {"hosts": []},
        "edge_returning": {"hosts": []},
    }


if __name__ == "__main__":
    sys.stdout.write("{}\n" if sys.argv[1:2] == ["--host"] else json.dumps(inventory(load()), indent=1))
