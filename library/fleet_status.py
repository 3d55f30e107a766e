#!/usr/bin/python
"""Documents the action plugin of the same name (plugins/action/fleet_status.py)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_status
short_description: Show the devices, or what ran on one of them when
description:
  - Without O(device) a table of what M(edge_status) has found on each device. What a device that does not answer runs
    is told from the ledger.
  - With O(device) all that ever ran on it, or with O(at) what ran at that time, from the ledger and from the device's
    own history.
  - Changes nothing. Runs where C(ansible-playbook) runs, whatever the host's connection is. Takes boto3's credentials
    from the play's C(environment).
extends_documentation_fragment: [aws]
options:
  results:
    description: What was registered for M(edge_status) on each device; empty for a device that was not asked.
    type: dict
    required: true
  waves:
    description: The devices of each wave.
    type: dict
    default: {}
  device:
    description: A device of the inventory, or one that is only in the ledger any more.
    type: str
  at:
    description: A time with its zone, such as C(2026-11-23T04:00:00Z).
    type: str
  known_at:
    description: Answer from what the ledger had learnt by this time. What the device tells now is left out.
    type: str
author:
  - twinops
attributes:
  check_mode:
    support: full
    description: Reads only.
"""

EXAMPLES = r"""
- name: Show what ran on a device when its alarm came
  fleet_status:
    env: staging
    results: {}
    device: device-003
    at: '2026-11-23T04:00:00Z'
"""

RETURN = r"""
lines:
  description: What was printed.
  returned: success
  type: list
  elements: str
periods:
  description:
    - The times in which a release ran on the device, oldest first; with O(at) that one, or none.
    - C(release), C(release_digest), C(model_digest), C(git_sha), C(data_version), C(since), C(until) (empty while it
      runs), C(rollout_id), C(recorded_at), and C(why) where the device came back to it.
  returned: with O(device)
  type: list
  elements: dict
"""
