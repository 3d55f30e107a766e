#!/usr/bin/python
# Copyright: twinops contributors
# SPDX-License-Identifier: Apache-2.0
"""Reads what a device says about itself."""

from __future__ import annotations

DOCUMENTATION = r"""
module: edge_status
short_description: Read the release, the health, the disk and the clock of a device
description:
  - Reads C(state.json), asks the inference service for its health, and looks at the disk and the clock.
  - Changes nothing. Never fails because something on the device is broken or down; C(problems) of the result says it.
options:
  root:
    description: The folder of twinops on the device, C(edge_root).
    type: path
    required: true
  asked_at:
    description: Time of the control host, such as C(1970-01-01T00:00:00+00:00); the device's clock is compared with it.
    type: str
author: twinops contributors
"""

EXAMPLES = r"""
- name: Read the device's status
  edge_status:
    root: /opt/twinops
  register: edge
"""

RETURN = r"""
device_status:
  description:
    - C(device), C(release), C(release_digest), C(slot), C(phase), C(reason), C(rollout_id), C(previous), C(target) and
      C(history) as in C(state.json); C(phase) is C(not enrolled) where the device has no settings.
    - C(model_sha256), C(git_sha) and C(data_version) of the release that is linked.
    - C(health) is the answer of the service, null where there is none.
    - C(disk) has C(total_bytes) and C(free_bytes), C(clock) is the device's time, C(problems) what could not be read.
  returned: always
  type: dict
clock_ahead_s:
  description: By how many seconds the device's clock is ahead, the way to the device included.
  returned: when O(asked_at) is given
  type: float
"""

from datetime import datetime, timezone
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.twinops.edge.device_status import device_status

SPEC = {"root": {"type": "path", "required": True}, "asked_at": {"type": "str"}}


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    ahead = {}
    if module.params["asked_at"]:
        try:
            since = datetime.now(timezone.utc) - datetime.fromisoformat(module.params["asked_at"])
        except (TypeError, ValueError):
            module.fail_json(msg=f"asked_at: expected 1970-01-01T00:00:00+00:00, got {module.params['asked_at']}")
        ahead = {"clock_ahead_s": round(since.total_seconds(), 1)}
    module.exit_json(changed=False, device_status=device_status(Path(module.params["root"])), **ahead)


if __name__ == "__main__":
    main()
