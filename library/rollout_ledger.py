#!/usr/bin/python
# Copyright: twinops contributors
# SPDX-License-Identifier: Apache-2.0
"""Opens, records and ends a rollout in the ledger; runs on the control host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_ledger
short_description: Decide whether a rollout is due, and keep it in the ledger
description:
  - C(opened) decides from device status and ledger whether the release has to be rolled out, and to which devices.
    A rollout that was interrupted is resumed under its id. Where every device runs the release, nothing is written.
  - A release that was blocked by a gate is refused.
  - C(recorded) writes what happened on each device of a wave, C(completed) and C(blocked) end the rollout.
  - Puts the event C(Rollout finished) on the default bus when a rollout was completed or blocked, once for each. Where
    that fails it warns; C(opened) of the next run does it then.
extends_documentation_fragment: [aws]
options:
  state:
    description: What to do.
    type: str
    choices: [opened, recorded, completed, blocked]
    required: true
  bundle:
    description: C(opened) - the result of M(release_bundle).
    type: dict
  waves:
    description: C(opened) - canary, early and fleet, each a list of devices.
    type: dict
  rollout:
    description: All but C(opened) - the rollout that was opened.
    type: dict
  wave:
    description: All but C(opened) - the wave that was updated last.
    type: str
    default: fleet
  results:
    description: What was registered for M(edge_status) on each device; empty for a device that was not asked.
    type: dict
    default: {}
  reason:
    description: Why the rollout is held or blocked.
    type: str
    default: ''
  retry_blocked:
    description: Roll out a release that was blocked before.
    type: bool
    default: false
  min_records:
    description: As many records of the running release on the fleet make a baseline; with fewer it is its hold-out.
    type: int
    default: 500
author: twinops contributors
"""

EXAMPLES = r"""
- name: Open the rollout
  rollout_ledger:
    env: staging
    state: opened
    bundle: "{{ edge_release_bundle }}"
    waves: {canary: [device-001], early: [], fleet: [device-002]}
    results: {device-001: "{{ hostvars['device-001'].edge_gate_survey }}"}
"""

RETURN = r"""
rollout:
  description:
    - The rollout, or null where nothing is due. C(waves) and C(due) name its devices, C(baseline) the alarms to compare
      with, C(is_resumed) whether an earlier run was interrupted.
  returned: for state opened
  type: dict
waves:
  description: The devices that take part, by wave.
  returned: for state opened
  type: dict
recorded:
  description: Each device and what the ledger says happened to it.
  returned: for the other states
  type: dict
summary:
  description: The same in a sentence.
  returned: for the other states
  type: str
"""

from dataclasses import asdict
from datetime import datetime, timezone

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.twinops import names, rollout
from ansible.module_utils.twinops.access import ACCESS, access
from ansible.module_utils.twinops.aws import session
from ansible.module_utils.twinops.aws.ledger import Ledger
from ansible.module_utils.twinops.aws.rollouts import Recorder
from ansible.module_utils.twinops.errors import TwinopsError

SPEC = {
    "env": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["opened", "recorded", "completed", "blocked"], "required": True},
    "bundle": {"type": "dict"},
    "waves": {"type": "dict"},
    "rollout": {"type": "dict"},
    "wave": {"type": "str", "default": "fleet"},
    "results": {"type": "dict", "default": {}},
    "reason": {"type": "str", "default": ""},
    "retry_blocked": {"type": "bool", "default": False},
    "min_records": {"type": "int", "default": 500},
    **ACCESS,
}
REQUIRED_IF = [
    ("state", "opened", ["bundle", "waves"]),
    ("state", "recorded", ["rollout"]),
    ("state", "completed", ["rollout"]),
    ("state", "blocked", ["rollout"]),
]


STATES = {"recorded": rollout.RUNNING, "completed": rollout.COMPLETED, "blocked": rollout.BLOCKED}


def run(params: dict, apply: bool) -> dict:
    aws = access(params)
    ledger = Ledger(names.Names(params["env"]).ledger, session.client("dynamodb", **aws))
    recorder = Recorder(ledger, apply=apply)
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    statuses = rollout.read_results(params["results"])

    def announce(ended: list) -> dict:
        problems = recorder.announce(ended, lambda: session.client("events", **aws))
        return {"warnings": problems} if problems else {}

    if params["state"] == "opened":
        newest = recorder.newest()
        warned = announce(newest)  # first: a release that was blocked is refused below
        return {**open_rollout(params, recorder, newest, statuses, now), **warned}
    devices = recorder.record(
        params["rollout"],
        statuses,
        wave=params["wave"],
        state=STATES[params["state"]],
        reason=params["reason"],
        now=now,
    )
    is_over = apply and params["state"] != "recorded"
    warned = announce([ledger.rollout(params["rollout"]["rollout_id"])]) if is_over else {}
    return {"changed": True, "recorded": devices, "summary": rollout.describe_end(devices), **warned}


def open_rollout(params: dict, recorder: Recorder, newest: list, statuses: dict, now: str) -> dict:
    bundle = params["bundle"]
    plan = rollout.make_plan(
        release=bundle["release"],
        release_digest=bundle["release_digest"],
        current=bundle.get("current"),
        hold_out=bundle.get("hold_out"),
        waves=params["waves"],
        statuses=statuses,
        rollouts=newest,
        now=now,
        retry_blocked=params["retry_blocked"],
        min_records=params["min_records"],
    )
    if plan.rollout_id is None:
        return {"changed": False, "rollout": None, "waves": plan.waves}
    described = recorder.open(plan, bundle, now)
    return {"changed": not plan.is_resumed, "rollout": {**described, **asdict(plan)}, "waves": plan.waves}


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, required_if=REQUIRED_IF, supports_check_mode=True)
    try:
        result = run(module.params, apply=not module.check_mode)
    except TwinopsError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
