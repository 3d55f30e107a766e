#!/usr/bin/python
# Copyright: twinops contributors
# SPDX-License-Identifier: Apache-2.0
"""Documents the action plugin of the same name (plugins/action/preflight.py)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Refuse to touch more than one environment, or an incomplete one
description:
  - Checks that the hosts left by C(--limit) belong to exactly one environment.
  - Checks that its inventory has one control host, three waves, and every device in exactly one wave.
  - Changes nothing; all mistakes are reported at once.
options:
  environments:
    description: The hosts that are targeted, with the C(twinops_env) of each (empty where not set).
    type: dict
    required: true
  inventory:
    description: All hosts of the inventory, with the C(twinops_env) of each.
    type: dict
    required: true
  groups:
    description: The groups of the inventory, C(groups).
    type: dict
    required: true
author: twinops contributors
"""

EXAMPLES = r"""
- name: Ensure that exactly one complete environment is meant
  preflight:
    environments: {sandbox-control: sandbox, device-001: sandbox}
    inventory: {sandbox-control: sandbox, device-001: sandbox}
    groups: {sandbox_cloud: [sandbox-control], sandbox_devices: [device-001], edge_canary: [device-001]}
"""

RETURN = r"""
env:
  description: The environment that is targeted.
  returned: success
  type: str
  sample: staging
"""
