#!/usr/bin/python
"""Start a run of a workflow by hand."""

from __future__ import annotations

DOCUMENTATION = r"""
module: invoke_workflow
short_description: Start a run of a workflow by hand
description:
  - Puts an event on the bus that the workflow's pattern matches, so that everything happens as it always does; other
    workflows with the same pattern start as well.
  - Or calls the backup function with the payload that a rule would have made, which starts exactly this workflow.
  - Or repeats a past run, with its commit and parameters, by the backup function as well.
  - Waits, if asked to, until the ledger shows how the run ended. A run that fails makes this module fail.
extends_documentation_fragment: [aws]
options:
  workflow:
    description: Name of the workflow, which is its folder below C(workflows/). Either this or O(rerun).
    type: str
  rerun:
    description: Id of a run that has ended, to be repeated.
    type: str
  repository:
    description: Root of the work tree that has C(workflows/).
    type: path
    required: true
  via:
    description:
      - V(event) puts an event, V(backup) calls the backup function.
      - V(auto) is V(event) for a workflow with a pattern, and V(backup) for one with a schedule only, or that events
        of AWS itself start.
    type: str
    default: auto
    choices: [auto, event, backup]
  parameters:
    description: Values that override the defaults of the spec. A run that is repeated has those that it had.
    type: dict
    default: {}
  git_sha:
    description:
      - Commit to run with O(via=backup). An event runs the commit that is deployed.
      - Required with O(workflow).
    type: str
  wait_timeout:
    description: Seconds to wait for the end of the run; V(0) does not wait at all.
    type: int
    default: 0
author:
  - twinops
attributes:
  check_mode:
    support: full
    description: Checks the spec and the parameters, says what would be sent, and sends nothing.
"""

EXAMPLES = r"""
- name: Evaluate the models of the last week now
  invoke_workflow:
    env: staging
    workflow: model_evaluation
    repository: "{{ playbook_dir | dirname }}"
    git_sha: 0123456789abcdef0123456789abcdef01234567
    parameters: {lookback_h: 168}
    wait_timeout: 900

- name: Repeat a run that failed
  invoke_workflow:
    env: staging
    rerun: b75a5783eb21ab2a07b72d89
    repository: "{{ playbook_dir | dirname }}"
"""

RETURN = r"""
workflow:
  description: The workflow that was started.
  returned: success
  type: str
  sample: model_evaluation
via:
  description: How it was started, V(event) or V(backup).
  returned: success
  type: str
  sample: event
event_id:
  description: Id of the event that stands for this run in the ledger.
  returned: when something was sent
  type: str
  sample: 21f235ac-fc96-409d-b774-1372c0ea5463
run:
  description: The run as the ledger has it at its end (docs/interfaces.md).
  returned: when O(wait_timeout) is not 0
  type: dict
  sample: {run_id: b75a5783eb21ab2a07b72d89, state: SUCCEEDED, exit_code: 0, duration_s: 5.2}
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.twinops import runs
from ansible.module_utils.twinops.access import ACCESS, access
from ansible.module_utils.twinops.aws.clients import client
from ansible.module_utils.twinops.aws.invoke import Hand
from ansible.module_utils.twinops.errors import TwinopsError
from ansible.module_utils.twinops.names import ENVIRONMENTS
from ansible.module_utils.twinops.spec import Workflow, by_aws, matching_event, merge_parameters
from ansible.module_utils.twinops.spec_files import SPEC_FILE, load_workflow

try:
    from botocore.exceptions import BotoCoreError, ClientError
except ImportError:  # session.py has said so, by raising, before this matters
    BotoCoreError = ClientError = TwinopsError

SPEC = {
    "env": {"type": "str", "required": True, "choices": list(ENVIRONMENTS)},
    "workflow": {"type": "str"},
    "rerun": {"type": "str"},
    "repository": {"type": "path", "required": True},
    "via": {"type": "str", "default": "auto", "choices": ["auto", "event", "backup"]},
    "parameters": {"type": "dict", "default": {}},
    "git_sha": {"type": "str"},
    "wait_timeout": {"type": "int", "default": 0},
    **ACCESS,
}


def load(repository: str, name: str) -> Workflow:
    root = Path(repository)
    if not (root / "workflows" / name / SPEC_FILE).exists():
        known = sorted(spec.parent.name for spec in root.glob(f"workflows/*/{SPEC_FILE}"))
        raise TwinopsError(f"workflow: expected one of {', '.join(known)}, got {name!r}")
    return load_workflow(root, name, with_lock=False)


def start(params: dict, hand: Hand, *, check_mode: bool) -> dict:
    """Start a workflow; how it was started, its name and the id of its event, unless only checked."""
    workflow = load(params["repository"], params["workflow"])
    merge_parameters(workflow, params["parameters"])
    via = params["via"]
    if via == "auto":
        via = "event" if workflow.event and not by_aws(workflow) else "backup"
    started = {"via": via, "workflow": workflow.name}
    if check_mode:
        if via == "event":
            matching_event(workflow)
        return started
    if via == "event":
        return {**started, "event_id": hand.put_event(workflow, params["parameters"])}
    return {**started, "event_id": hand.call_backup(workflow, params["parameters"], params["git_sha"])}


def repeat(params: dict, hand: Hand, *, check_mode: bool) -> dict:
    if check_mode:
        return {"via": "backup", "workflow": hand.ended_run(params["rerun"])["workflow"]}
    past, event_id = hand.repeat(params["rerun"])
    return {"via": "backup", "workflow": past["workflow"], "event_id": event_id}


def invoke(params: dict, *, check_mode: bool) -> dict:
    hand = Hand(params["env"], lambda service: client(service, **access(params)))
    started = (repeat if params["rerun"] else start)(params, hand, check_mode=check_mode)
    result = {"changed": True, **started}
    if params["wait_timeout"] and not check_mode:
        name, event_id = started["workflow"], started["event_id"]
        result["run"] = hand.await_end(lambda: hand.run_of(name, event_id), what=name, timeout_s=params["wait_timeout"])
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec=SPEC,
        supports_check_mode=True,
        required_one_of=[("workflow", "rerun")],
        mutually_exclusive=[("workflow", "rerun")],
        required_by={"workflow": "git_sha"},
    )
    try:
        result = invoke(module.params, check_mode=module.check_mode)
    except (TwinopsError, BotoCoreError, ClientError) as error:
        module.fail_json(msg=str(error))
    run = result.get("run")
    if run and run["state"] != runs.SUCCEEDED:
        why = run.get("reason") or run["state"]
        log = f"{run.get('log_group')} {run.get('log_stream')}"
        module.fail_json(msg=f"{run['workflow']}: {run['state']}: {why}. Log: {log}", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
