#!/usr/bin/python
"""Documents the action plugin of the same name (plugins/action/declare.py)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: declare
short_description: Declare a part of the environment
description:
  - Notes what a cloud role wants of its part of the environment. Calls nothing and changes nothing; the module
    C(cloud), at the end of the play, makes real what all roles declared.
  - Takes one option a part (C(env), C(storage), ...), whose value is a dictionary. What each part takes is in the
    README of its role.
author:
  - twinops
attributes:
  check_mode:
    support: full
    description: Only notes.
"""

EXAMPLES = r"""
- name: Declare the buckets and the ledger
  declare:
    storage:
      buckets: [{purpose: reports, noncurrent_days: 30}]
"""

RETURN = r"""
ansible_facts:
  description: All that was declared so far, as C(twinops_declared).
  returned: success
  type: dict
  sample: {twinops_declared: {storage: {buckets: [{purpose: reports}]}}}
"""
