#!/usr/bin/python
# Copyright: twinops contributors
# SPDX-License-Identifier: Apache-2.0
"""Makes the Python environment of a device from wheels that were pushed to it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: edge_python
short_description: Make the Python environment of a device, without internet
description:
  - Makes O(root)/venvs/<digest> from the wheels in O(wheelhouse) and links O(root)/venv to it by one rename.
  - An environment is complete when it has its marker file, which is written last; an interrupted one is made anew.
  - The environment that was linked before is kept until the next change, because what runs still uses it.
  - Where wheels are missing or damaged, nothing is made; RV(missing_wheels) says which to push, then run it again.
options:
  root:
    description: The folder of twinops on the device, C(edge_root).
    type: path
    required: true
  python:
    description: The interpreter the environment is made from.
    type: str
    required: true
  lock:
    description: The content of C(locks/device.txt), a requirements file with hashes.
    type: str
    required: true
  wheelhouse:
    description: The folder of wheels on the device.
    type: path
    required: true
  wheels:
    description: Names of the wheels the control host can push. Empty means to make do with what O(wheelhouse) has.
    type: list
    elements: str
    default: []
  cache:
    description:
      - The cache of uv on the device. Packages are hard-linked from it where it is on the same file system.
    type: path
    required: true
  imports:
    description: Packages that must be importable before the environment counts as complete.
    type: list
    elements: str
    default: []
author: twinops contributors
"""

EXAMPLES = r"""
- name: Ensure the Python environment
  edge_python:
    root: /opt/twinops
    python: /usr/bin/python3
    lock: "{{ lookup('file', 'locks/device.txt') }}"
    wheelhouse: /opt/twinops/wheels
    wheels: [numpy-2.4.6-cp311-cp311-manylinux_2_28_aarch64.whl]
    cache: /opt/twinops/cache
    imports: [numpy, onnxruntime]
"""

RETURN = r"""
missing_wheels:
  description: Wheels to push before the environment can be made; empty where it is made or was there.
  returned: success
  type: list
  elements: str
  sample: [numpy-2.4.6-cp311-cp311-manylinux_2_28_aarch64.whl]
environment:
  description: The folder of the environment.
  returned: success
  type: str
  sample: /opt/twinops/venvs/0a1b2c3d4e5f6071
digest:
  description: SHA-256 of the lock, the version of Python and the processor.
  returned: success
  type: str
python_version:
  description: The version of the interpreter.
  returned: success
  type: str
  sample: 3.11.2
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.twinops.edge.environment import Wanted, ensure
from ansible.module_utils.twinops.errors import TwinopsError

SPEC = {
    "root": {"type": "path", "required": True},
    "python": {"type": "str", "required": True},
    "lock": {"type": "str", "required": True},
    "wheelhouse": {"type": "path", "required": True},
    "wheels": {"type": "list", "elements": "str", "default": []},
    "cache": {"type": "path", "required": True},
    "imports": {"type": "list", "elements": "str", "default": []},
}


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    params = module.params
    wanted = Wanted(
        root=Path(params["root"]),
        python=params["python"],
        lock=params["lock"],
        wheelhouse=Path(params["wheelhouse"]),
        wheels=params["wheels"],
        cache=Path(params["cache"]),
        imports=params["imports"],
    )
    try:
        result = ensure(wanted, apply=not module.check_mode)
    except (TwinopsError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
