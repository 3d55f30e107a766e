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
  - Waits, if asked to, until the ledger shows how the run ended. A run that fails makes this module fail.
options:
  env:
    description: Environment in which to start it.
    type: str
    required: true
    choices: [sandbox, staging, production]
  workflow:
    description: Name of the workflow, which is its folder below C(workflows/).
    type: str
    required: true
  repository:
    description: Root of the work tree that has C(workflows/).
    type: path
    required: true
  via:
    description:
      - V(event) puts an event, V(backup) calls the backup function.
      - V(auto) is V(event) for a workflow with a pattern, and V(backup) for one that has only a schedule.
    type: str
    default: auto
    choices: [auto, event, backup]
  parameters:
    description: Values that override the defaults of the spec.
    type: dict
    default: {}
  git_sha:
    description: Commit to run with O(via=backup). An event runs the commit that is deployed.
    type: str
    required: true
  wait_timeout:
    description: Seconds to wait for the end of the run; V(0) does not wait at all.
    type: int
    default: 0
  region:
    description: AWS region. By default boto3's own choice (E(AWS_DEFAULT_REGION), profile).
    type: str
  profile:
    description: Profile of the AWS configuration. By default boto3's own choice.
    type: str
  endpoint_url:
    description: URL of the AWS endpoint, for emulators. By default boto3's own choice.
    type: str
requirements:
  - boto3
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
"""

RETURN = r"""
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

import json
import time
import uuid
from pathlib import Path

import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.twinops import runs
from ansible.module_utils.twinops.aws.ledger import Ledger
from ansible.module_utils.twinops.aws.session import client
from ansible.module_utils.twinops.errors import TwinopsError
from ansible.module_utils.twinops.names import ENVIRONMENTS, Names
from ansible.module_utils.twinops.spec import Workflow, matching_event, merge_parameters, parse_workflow

try:
    from botocore.exceptions import BotoCoreError, ClientError
except ImportError:  # session.py has said so, by raising, before this matters
    BotoCoreError = ClientError = TwinopsError

SPEC = {
    "env": {"type": "str", "required": True, "choices": list(ENVIRONMENTS)},
    "workflow": {"type": "str", "required": True},
    "repository": {"type": "path", "required": True},
    "via": {"type": "str", "default": "auto", "choices": ["auto", "event", "backup"]},
    "parameters": {"type": "dict", "default": {}},
    "git_sha": {"type": "str", "required": True},
    "wait_timeout": {"type": "int", "default": 0},
    "region": {"type": "str"},
    "profile": {"type": "str"},
    "endpoint_url": {"type": "str"},
}

POLL_S = 1


def load(repository: str, name: str) -> Workflow:
    folder = Path(repository) / "workflows" / name
    where = f"workflows/{name}/workflow.yml"
    try:
        data = yaml.safe_load((folder / "workflow.yml").read_text("utf-8"))
    except FileNotFoundError as error:
        known = sorted(spec.parent.name for spec in Path(repository).glob("workflows/*/workflow.yml"))
        raise TwinopsError(f"workflow: expected one of {', '.join(known)}, got {name!r}") from error
    except yaml.YAMLError as error:
        raise TwinopsError(f"{where}: expected YAML: {error}") from error
    return parse_workflow(data, where, {path.name for path in folder.iterdir()})


def put_event(params: dict, workflow: Workflow) -> str:
    """Put an event that the workflow's pattern matches; its id."""
    event = matching_event(workflow)
    entry = {
        "Source": event["source"],
        "DetailType": event["detail-type"],
        "Detail": json.dumps({**event["detail"], "parameters": params["parameters"]}),
    }
    answer = aws("events", params).put_events(Entries=[entry])["Entries"][0]
    if "EventId" not in answer:
        raise TwinopsError(f"events: PutEvents: {answer.get('ErrorCode')}: {answer.get('ErrorMessage')}")
    return answer["EventId"]


def call_backup(params: dict, workflow: Workflow) -> str:
    """Call the backup function, asynchronously: what it cannot start ends in its dead-letter queue. The event's id."""
    event_id = str(uuid.uuid4())
    payload = {
        "workflow": workflow.name,
        "event_id": event_id,
        "time": runs.now(),
        "detail-type": "Started by hand",
        "detail": {"parameters": params["parameters"]},
        "git_sha": params["git_sha"],
        "timeout_s": workflow.timeout_s,
        "idempotent": workflow.idempotent,
    }
    function = Names(params["env"]).function("backup")
    aws("lambda", params).invoke(FunctionName=function, InvocationType="Event", Payload=json.dumps(payload).encode())
    return event_id


def await_end(params: dict, workflow: Workflow, event_id: str) -> dict:
    """The run of an event once it has ended. Raises TwinopsError when it fails or takes longer than is waited for."""
    ledger = Ledger(Names(params["env"]).ledger, aws("dynamodb", params))
    deadline = time.monotonic() + params["wait_timeout"]
    run = None
    while True:
        run = next((one for one in ledger.runs(limit=50) if is_run_of(one, workflow, event_id)), None)
        if run and run["state"] in runs.FINISHED | {runs.LOST}:
            return run
        if time.monotonic() > deadline:
            state = run["state"] if run else "not in the ledger yet"
            raise TwinopsError(f"{workflow.name}: expected its end within {params['wait_timeout']} s, it is {state}")
        time.sleep(POLL_S)


def is_run_of(run: dict, workflow: Workflow, event_id: str) -> bool:
    return (run["workflow"], run["event_id"]) == (workflow.name, event_id)


def aws(service: str, params: dict) -> object:
    return client(service, **{option: params[option] for option in ("region", "profile", "endpoint_url")})


def invoke(params: dict, *, check_mode: bool) -> dict:
    workflow = load(params["repository"], params["workflow"])
    merge_parameters(workflow, params["parameters"])
    via = params["via"]
    if via == "auto":
        via = "event" if workflow.event else "backup"
    if check_mode:
        if via == "event":
            matching_event(workflow)
        return {"changed": True, "via": via}
    event_id = put_event(params, workflow) if via == "event" else call_backup(params, workflow)
    result = {"changed": True, "via": via, "event_id": event_id}
    if params["wait_timeout"]:
        result["run"] = await_end(params, workflow, event_id)
    return result


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
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
