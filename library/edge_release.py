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
  - A device that was enrolled from the same work tree has a copy of the program behind this module, which then does the
    work; the module is sent where it has another one, or where pipelining is off.
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
  maintenance_window:
    description:
      - When a release may be installed, in UTC, such as C(22:00-04:30) or C(Sat,Sun 08:00-16:00); several are separated
        by semicolons. Outside of it the device notes that it waits. Empty is always.
      - A release is taken back at any time.
    type: str
    default: ""
  bandwidth_kib_s:
    description: Most that is sent to the device, in KiB a second; 0 is no limit. The action plugin keeps it.
    type: float
    default: 0
  step:
    description: Set by the action plugin. C(look) only says what would be done and which files are missing.
    type: str
    choices: [look, apply]
    default: apply
  archive:
    description: Set by the action plugin. The parts of the pushed archive, names in C(incoming/), in their order.
    type: list
    elements: str
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
deltas:
  description: How many files travelled as a delta.
  returned: where something was pushed
  type: int
action:
  description: C(nothing), C(install), C(finish), C(undo) or C(wait); what was found to be necessary.
  returned: for state present
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.twinops.edge import push


def main() -> None:
    module = AnsibleModule(argument_spec=push.PARAMETERS, supports_check_mode=True)
    result = push.perform(module.params, apply=not module.check_mode)
    if result.pop("failed", False):
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
