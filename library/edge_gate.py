#!/usr/bin/python
# Copyright: twinops contributors
# SPDX-License-Identifier: Apache-2.0
"""Judges a rollout after a wave; runs on the control host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: edge_gate
short_description: Judge a rollout after a wave, from what the devices say
description:
  - Counts devices that failed, are unreachable, timed out or never reported against a budget, over the whole rollout.
  - Compares the alarm rate of the new release with that of the release before, and looks at errors and latency.
  - The verdict is C(pass), C(fail) or C(inconclusive); too few records are inconclusive, which is not a pass.
  - Obeys the newest verdict of C(model_evaluation) on the release's model, where there is one (docs/releases.md); in a
    retry of a blocked release only where it was said since that began.
  - Changes nothing and does not fail because of a verdict.
extends_documentation_fragment: [aws]
options:
  wave:
    description: The wave that was updated last.
    type: str
    choices: [canary, early, fleet]
    required: true
  rollout:
    description: C(rollout) as returned by M(rollout_ledger).
    type: dict
    required: true
  results:
    description: What was registered for M(edge_status) on each device; empty for a device that was not asked.
    type: dict
    required: true
  policy:
    description: Limits, see C(roles/edge_gate/defaults). A key that is left out has its default.
    type: dict
    default: {}
  ignore_evaluation:
    description: Do not ask for the verdict of C(model_evaluation).
    type: bool
    default: false
author: twinops contributors
"""

EXAMPLES = r"""
- name: Judge the canary
  edge_gate:
    env: staging
    wave: canary
    rollout: "{{ edge_gate_rollout.rollout }}"
    results: {device-001: "{{ hostvars['device-001'].edge_gate_observed }}"}
    policy: {min_records: 500}
"""

RETURN = r"""
verdict:
  description: C(pass), C(fail) or C(inconclusive).
  returned: success
  type: str
message:
  description: The verdict in one sentence, with wave, devices, metric and numbers.
  returned: success
  type: str
  sample: "v3 stopped at wave canary: alarm rate 0.00% (0 of 540 records, on device-001) against 7.10% (...)"
devices:
  description: Each device and C(ok), C(waiting), C(failed), C(unreachable), C(timed_out) or C(never_reported).
  returned: success
  type: dict
metrics:
  description: The numbers that were compared.
  returned: success
  type: dict
evaluation:
  description: What C(model_evaluation) said last about the model, or null.
  returned: success
  type: dict
roll_back:
  description: Devices to be taken back, because the verdict is C(fail) and they run the release.
  returned: success
  type: list
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.twinops import gate, names, rollout
from ansible.module_utils.twinops.access import ACCESS, access
from ansible.module_utils.twinops.aws import session, verdicts
from ansible.module_utils.twinops.aws.clients import account_id
from ansible.module_utils.twinops.errors import TwinopsError

SPEC = {
    "env": {"type": "str", "required": True},
    "wave": {"type": "str", "choices": list(rollout.WAVES), "required": True},
    "rollout": {"type": "dict", "required": True},
    "results": {"type": "dict", "required": True},
    "policy": {"type": "dict", "default": {}},
    "ignore_evaluation": {"type": "bool", "default": False},
    **ACCESS,
}


def evaluation_of(params: dict) -> dict | None:
    """What model_evaluation said last; not asked where nothing new is tried."""
    plan = params["rollout"]
    if params["ignore_evaluation"] or not plan["baseline"] or not plan.get("model_digest"):
        return None
    aws = access(params)
    bucket = names.Names(params["env"], account_id(**aws)).bucket("data")
    return verdicts.read(session.client("s3", **aws), bucket, plan["model_digest"])


def run(params: dict) -> dict:
    plan, wave = params["rollout"], params["wave"]
    evaluation = evaluation_of(params)
    statuses = rollout.read_results(params["results"])
    so_far = rollout.waves_up_to(plan["waves"], wave)
    verdict = gate.judge(
        wave=plan["waves"].get(wave, ()),
        rollout=so_far,
        statuses=statuses,
        release_digest=plan["release_digest"],
        fleet_size=sum(len(devices) for devices in plan["waves"].values()),
        baseline=gate.Alarms(**plan["baseline"]) if plan["baseline"] else None,
        policy=gate.parse_policy(params["policy"]),
        evaluation=evaluation,
        since=plan.get("started_at", ""),
        is_retry=plan["is_retry"],
    )
    failed = verdict.verdict == gate.FAIL
    return {
        "verdict": verdict.verdict,
        "message": gate.explain(verdict, plan["release"], wave),
        "devices": verdict.devices,
        "metrics": verdict.metrics,
        "evaluation": evaluation,
        "roll_back": rollout.to_roll_back(so_far, statuses, plan["release_digest"]) if failed else [],
    }


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    try:
        result = run(module.params)
    except TwinopsError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
