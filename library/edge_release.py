#!/usr/bin/python
# Copyright: twinops contributors
# SPDX-License-Identifier: Apache-2.0
"""Installs a signed release on a device, or takes it back. Runs in the device's own Python environment."""

from __future__ import annotations

DOCUMENTATION = r"""
module: edge_release
short_description: Install a signed release on an edge device, or take it back
description:
  - The whole transaction in one task. What the device lacks is pushed, verified with python-tuf, staged into the slot
    that does not run, smoke-tested, switched to by one rename, watched, and committed or rolled back.
  - A transaction that was interrupted is finished or undone first. A device that runs the release is left alone.
  - An action plugin of the same name pushes the files; the module alone works on what lies in C(incoming/) already.
  - Run it with the interpreter of the device's environment, C(<root>/venv/bin/python).
options:
  root:
    description: The folder of twinops on the device, C(edge_root).
    type: path
    required: true
  env:
    description: The environment whose signature is required.
    type: str
    required: true
  state:
    description:
      - C(present) makes the device run the release of I(bundle).
      - C(reverted) makes a device that runs it return to the release it verified before.
    type: str
    choices: [present, reverted]
    default: present
  bundle:
    description: The result of C(release_bundle) for the release.
    type: dict
    required: true
  service_manager:
    description: What runs the inference service.
    type: str
    choices: [systemd, supervisord]
    required: true
  rollout_id:
    description: Recorded in the device's history.
    type: str
  reason:
    description: Why the release is taken back; recorded in the device's history.
    type: str
    default: the rollout was stopped
  smoke_timeout_s:
    description: How long the model may take for the golden records.
    type: float
    default: 60
  start_timeout_s:
    description: How long the service may take to become C(ok).
    type: float
    default: 60
  probe_s:
    description: How long the service must stay C(ok) before the release is committed.
    type: float
    default: 10
  lock_wait_s:
    description: How long to wait for another install on the same device.
    type: float
    default: 120
  step:
    description: Set by the action plugin. C(look) only says what would be done and which files are missing.
    type: str
    choices: [look, apply]
    default: apply
  archive:
    description: Set by the action plugin. The pushed archive on the device.
    type: path
author: twinops contributors
"""

EXAMPLES = r"""
- name: Ensure that the device runs the release
  edge_release:
    root: /opt/twinops
    env: staging
    bundle: "{{ edge_release_bundle }}"
    service_manager: systemd
  vars:
    ansible_python_interpreter: /opt/twinops/venv/bin/python
"""

RETURN = r"""
state:
  description: The content of C(state.json).
  returned: always
  type: dict
bytes_sent:
  description: Bytes pushed to the device.
  returned: by the action plugin
  type: int
action:
  description: C(nothing), C(install), C(finish) or C(undo); what was found to be necessary.
  returned: for state present
  type: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.twinops.edge import install
from ansible.module_utils.twinops.edge.state import Device
from ansible.module_utils.twinops.errors import TwinopsError

SPEC = {
    "root": {"type": "path", "required": True},
    "env": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "reverted"], "default": "present"},
    "bundle": {"type": "dict", "required": True},
    "service_manager": {"type": "str", "choices": ["systemd", "supervisord"], "required": True},
    "rollout_id": {"type": "str"},
    "reason": {"type": "str", "default": "the rollout was stopped"},
    "smoke_timeout_s": {"type": "float", "default": 60},
    "start_timeout_s": {"type": "float", "default": 60},
    "probe_s": {"type": "float", "default": 10},
    "lock_wait_s": {"type": "float", "default": 120},
    "step": {"type": "str", "choices": ["look", "apply"], "default": "apply"},
    "archive": {"type": "path"},
}


def run(params: dict, apply: bool) -> dict:
    root, bundle = Path(params["root"]), params["bundle"]
    wanted = install.Wanted(params["env"], bundle["release"], bundle["release_digest"])
    settings = install.Settings(
        service_manager=params["service_manager"],
        smoke_timeout_s=params["smoke_timeout_s"],
        start_timeout_s=params["start_timeout_s"],
        probe_s=params["probe_s"],
        lock_wait_s=params["lock_wait_s"],
    )
    if params["state"] == "reverted":
        if not apply:
            state = Device(root).read_state()
            return {"changed": state["release_digest"] == wanted.release_digest, "state": state}
        changed, state = install.revert(
            root, wanted.release_digest, settings, rollout_id=params["rollout_id"], reason=params["reason"]
        )
        return {"changed": changed, "state": state}
    found = install.look(root, wanted, {digest: file["size_bytes"] for digest, file in bundle["files"].items()})
    if params["step"] == "look" or not apply:
        return {"changed": found["action"] != "nothing", **found}
    archive = Path(params["archive"]) if params["archive"] else None
    changed, state = install.install(root, wanted, settings, rollout_id=params["rollout_id"], archive=archive)
    return {"changed": changed, "action": found["action"], "state": state}


def diff(before: dict, after: dict) -> dict:
    keys = ("release", "release_digest", "slot", "phase")
    return {"before": {key: before[key] for key in keys}, "after": {key: after[key] for key in keys}}


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    device = Device(Path(module.params["root"]))
    before = device.read_state()
    try:
        result = run(module.params, apply=not module.check_mode)
    except (TwinopsError, OSError) as error:
        after = device.read_state()
        module.fail_json(msg=str(error), changed=after != before, state=after, diff=diff(before, after))
    module.exit_json(diff=diff(before, result["state"]), **result)


if __name__ == "__main__":
    main()
