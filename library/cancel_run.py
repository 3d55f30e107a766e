#!/usr/bin/python
"""Cancel a run of a workflow."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cancel_run
short_description: Cancel a run of a workflow
description:
  - Ends a run that waits for its turn, or that has been claimed and not been started, at once.
  - Asks a run that is at work to end. It looks every four seconds whether it is asked to, and ends with all processes
    of its script; one that does not heed SIGTERM is killed after ten seconds. A run whose environment is still being
    built ends as well, without having started its script.
  - The run that waited for it is started.
extends_documentation_fragment: [aws]
options:
  run_id:
    description: Id of the run, as C(playbooks/status.yml) shows it.
    type: str
    required: true
  by:
    description: Who cancels it, for the ledger and the mail.
    type: str
    required: true
  wait_timeout:
    description: Seconds to wait for its end; V(0) does not wait at all.
    type: int
    default: 60
author:
  - twinops
attributes:
  check_mode:
    support: full
    description: Says that it would, and asks nobody.
"""

EXAMPLES = r"""
- name: Cancel a run
  cancel_run:
    env: staging
    run_id: b75a5783eb21ab2a07b72d89
    by: ada@example.com
"""

RETURN = r"""
run:
  description: The run as the ledger has it (docs/interfaces.md).
  returned: when not in check mode
  type: dict
  sample: {run_id: b75a5783eb21ab2a07b72d89, state: CANCELLED, reason: cancelled by ada@example.com}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.twinops.access import ACCESS, access
from ansible.module_utils.twinops.aws.clients import client
from ansible.module_utils.twinops.aws.invoke import Hand
from ansible.module_utils.twinops.errors import TwinopsError
from ansible.module_utils.twinops.names import ENVIRONMENTS

try:
    from botocore.exceptions import BotoCoreError, ClientError
except ImportError:  # session.py has said so, by raising, before this matters
    BotoCoreError = ClientError = TwinopsError

SPEC = {
    "env": {"type": "str", "required": True, "choices": list(ENVIRONMENTS)},
    "run_id": {"type": "str", "required": True},
    "by": {"type": "str", "required": True},
    "wait_timeout": {"type": "int", "default": 60},
    **ACCESS,
}


def cancel(params: dict) -> dict:
    hand, run_id = Hand(params["env"], lambda service: client(service, **access(params))), params["run_id"]
    run = hand.cancel(run_id, by=params["by"])
    if params["wait_timeout"]:
        run = hand.await_end(lambda: hand.ledger.run(run_id), what=f"run {run_id}", timeout_s=params["wait_timeout"])
    return {"changed": True, "run": run}


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    if module.check_mode:
        module.exit_json(changed=True)
    try:
        result = cancel(module.params)
    except (TwinopsError, BotoCoreError, ClientError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
