#!/usr/bin/python
"""Documents the action plugin of the same name (plugins/action/run_status.py)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: run_status
short_description: Show the latest runs of the workflows, or the log of one
description:
  - Reads the ledger and CloudWatch; changes nothing.
  - Prints what it shows line by line as it comes.
  - Runs where C(ansible-playbook) runs, whatever the host's connection is. Takes boto3's credentials from the play's
    C(environment).
extends_documentation_fragment: [aws]
options:
  limit:
    description: How many runs, newest first.
    type: int
    default: 20
  workflow:
    description: Only the runs of this workflow.
    type: str
  state:
    description: Only the runs in this state.
    type: str
    choices: [CLAIMED, QUEUED, RUNNING, LOST, SUCCEEDED, FAILED, TIMED_OUT, CANCELLED, SKIPPED]
  log:
    description: Id of a run whose log is printed, of all its attempts.
    type: str
  follow:
    description:
      - Id of a run whose log is printed as it comes, until the run has ended. It may still wait for its turn.
      - To stop following leaves the run alone. That the run failed is no failure of the task.
    type: str
author:
  - twinops
attributes:
  check_mode:
    support: full
    description: Reads only.
"""

EXAMPLES = r"""
- name: Show the latest runs that failed
  run_status:
    env: staging
    limit: 5
    state: FAILED

- name: Follow a run to its end
  run_status:
    env: staging
    follow: b75a5783eb21ab2a07b72d89
"""

RETURN = r"""
runs:
  description: The runs as the ledger has them (docs/interfaces.md), newest first; with O(log) or O(follow) that run.
  returned: success
  type: list
  elements: dict
  sample: [{run_id: b75a5783eb21ab2a07b72d89, workflow: model_evaluation, state: SUCCEEDED, exit_code: 0}]
lines:
  description: The table as it was printed.
  returned: when neither O(log) nor O(follow) is given
  type: list
  elements: str
  sample:
    - "claimed (UTC)        state      workflow          exit   took  attempt  run"
    - "2026-11-22 19:07:03  SUCCEEDED  model_evaluation     0  5.2 s        1  b75a5783eb21ab2a07b72d89"
"""
