#!/usr/bin/python
# Copyright: twinops contributors
# SPDX-License-Identifier: Apache-2.0
"""Gives a device everything it needs before its first release, in one task."""

from __future__ import annotations

DOCUMENTATION = r"""
module: edge_enrol
short_description: Give a device its folders, settings, root of trust, program and service definition
description:
  - Writes what differs, each file by one rename, and loads the service definition where it changed.
  - The root of trust is pinned. It is written only where there is none; later roots come signed by it.
  - The service itself is started by M(edge_release), because before the first release there is nothing to run.
options:
  root:
    description: The folder of twinops on the device, C(edge_root).
    type: path
    required: true
  settings:
    description: The content of C(device.json) (docs/interfaces.md, "Device").
    type: dict
    required: true
  tuf_root:
    description: The content of the root metadata that the device shall trust.
    type: str
    required: true
  program:
    description: The content of C(bin/twinops-edge).
    type: str
    required: true
  service_manager:
    description: What runs the inference service.
    type: str
    choices: [systemd, supervisord]
    required: true
  service_definition:
    description: The content of the unit or of C(supervisord.conf). May hold credentials and is never shown.
    type: str
    required: true
  service_path:
    description: Where the service definition is written.
    type: path
    required: true
  service_user:
    description: Who owns what the service writes; whoever enrols the device where it is not given.
    type: str
  units:
    description: Path and content of the units that pull and report again and again, under systemd.
    type: dict
    default: {}
  pull:
    description:
      - The content of C(pull.json), by which C(twinops-edge pull) finds the bucket for models. May hold credentials and
        is never shown. A device without it does not pull.
    type: dict
  report:
    description:
      - The content of C(report.json), by which C(twinops-edge report) finds the bucket for facts. May hold credentials
        and is never shown. A device without it does not report.
    type: dict
  pull_interval_s:
    description: Seconds between two pulls, at least 1. The service definition and units keep to it.
    type: int
    default: 3600
  report_interval_s:
    description: Seconds between two reports; 0 is never. The service definition and units keep to it.
    type: int
    default: 600
author: twinops contributors
"""

EXAMPLES = r"""
- name: Ensure the device is enrolled
  edge_enrol:
    root: /opt/twinops
    settings: "{{ edge_base_settings }}"
    tuf_root: "{{ lookup('file', 'root.json') }}"
    program: "{{ lookup('file', 'twinops-edge') }}"
    service_manager: systemd
    service_definition: "{{ lookup('template', 'twinops-inference.service.j2') }}"
    service_path: /etc/systemd/system/twinops-inference.service
"""

RETURN = r"""
diff:
  description: Each folder, file and service that was, or would be, changed.
  returned: success
  type: list
  elements: dict
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.twinops.edge.enrolment import Wanted, ensure
from ansible.module_utils.twinops.errors import TwinopsError

SPEC = {
    "root": {"type": "path", "required": True},
    "settings": {"type": "dict", "required": True},
    "tuf_root": {"type": "str", "required": True},
    "program": {"type": "str", "required": True},
    "service_manager": {"type": "str", "choices": ["systemd", "supervisord"], "required": True},
    "service_definition": {"type": "str", "required": True},
    "service_path": {"type": "path", "required": True},
    "service_user": {"type": "str"},
    "pull": {"type": "dict"},
    "report": {"type": "dict"},
    "units": {"type": "dict", "default": {}},
    "pull_interval_s": {"type": "int", "default": 3600},
    "report_interval_s": {"type": "int", "default": 600},
}


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    params = module.params
    wanted = Wanted(
        **{**params, "root": Path(params["root"]), "service_path": Path(params["service_path"])},
    )
    try:
        result = ensure(wanted, apply=not module.check_mode)
    except (TwinopsError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
