#!/usr/bin/python
"""Documents the action plugin of the same name (plugins/action/cloud.py)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cloud
short_description: Keep the cloud of an environment as its roles declared it
description:
  - The cloud roles only declare (action C(declare)); this module compares all of it with AWS and makes it so, in one
    process and in the order of its dependencies. Reading AWS once for everything is what makes it fast.
  - Runs where C(ansible-playbook) runs, whatever the host's connection is. Takes boto3's credentials from the play's
    C(environment).
  - Sees every field that twinops owns, and repairs it. What nobody declared (a colleague's tag) is left alone.
  - Removes what belongs to a workflow whose folder is gone. Lists other resources that carry the tags of twinops and
    are not declared any more as C(orphans), and removes them with O(prune).
  - Every mistake in everything declared and in every workflow's spec is reported before anything is changed.
extends_documentation_fragment: [aws]
options:
  declared:
    description:
      - What the roles declared, by part (C(env), C(storage), ...). What each part takes is in the README of its role.
      - Only these parts are looked at.
    type: dict
    required: true
  state:
    description:
      - V(present) makes the declared parts and keeps them as declared.
      - V(absent) removes what twinops owns of them.
    type: str
    default: present
    choices: [present, absent]
  prune:
    description: Whether orphans are removed. Those that hold data (buckets, tables) never are.
    type: bool
    default: false
  with_data:
    description: Whether V(absent) also removes what holds data (buckets with all versions of all objects, the ledger).
    type: bool
    default: false
  tags:
    description: Further tags. Tags that others put on a resource are kept.
    type: dict
    default: {}
  repository:
    description: Root of the work tree that has C(workflows/), C(dispatch/) and C(module_utils/).
    type: path
    required: true
  uncommitted:
    description: What to do about files that are not committed and therefore would not run.
    type: str
    default: fail
    choices: [fail, warn]
  approved:
    description:
      - A plan that was approved, as C(make plan) writes it. Where anything else would be changed, or somebody has
        changed what it changes, the module stops before it writes.
    type: path
  wait:
    description: Whether to wait until what starts (a twin) is in service.
    type: bool
    default: true
  wait_timeout:
    description: For how many seconds at most.
    type: int
    default: 900
author:
  - twinops
attributes:
  check_mode:
    support: full
    description: Reads, plans, and reports exactly what would be changed. Makes no call that writes.
  diff_mode:
    support: full
    description: Shows the fields that differ, before and after.
"""

EXAMPLES = r"""
- name: Declare the buckets and the ledger
  declare:
    storage:
      buckets: [{purpose: reports, noncurrent_days: 30}]

- name: Make the environment what its roles declared
  cloud:
    env: staging
    declared: "{{ twinops_declared }}"
    repository: "{{ playbook_dir | dirname }}"
"""

RETURN = r"""
changes:
  description: What was changed, or in check mode would be, in order.
  returned: always
  type: list
  elements: dict
  sample:
    - {action: update, kind: rule, name: twinops-staging-model_evaluation, fields: [tags]}
plan:
  description: The changes with their values before and after, without secrets.
  returned: in check mode
  type: list
  elements: dict
conditions:
  description: What is not normal at the moment (C(Reconciling), C(Stalled)), and one C(Ready) for the whole set.
  returned: success
  type: list
  elements: dict
  sample:
    - {type: Ready, status: true, reason: AsDeclared}
orphans:
  description: What carries the tags of twinops, is not declared any more, and was left alone.
  returned: O(state=present)
  type: list
  elements: dict
  sample:
    - {kind: bucket, name: twinops-staging-old-123456789012}
kept:
  description: What holds data and was therefore not removed.
  returned: O(state=absent)
  type: list
  elements: dict
  sample:
    - {kind: table, name: twinops-staging-ledger}
git_sha:
  description: The commit that the rules name, where workflows were declared.
  returned: success
  type: str
  sample: 0123456789abcdef0123456789abcdef01234567
calls:
  description: Number of AWS calls that were made.
  returned: success
  type: int
  sample: 51
"""
