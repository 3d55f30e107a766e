#!/usr/bin/python
"""Show the latest runs of the workflows."""

from __future__ import annotations

DOCUMENTATION = r"""
module: run_status
short_description: Show the latest runs of the workflows
description:
  - Reads the ledger; changes nothing.
options:
  env:
    description: Environment whose ledger is read.
    type: str
    required: true
    choices: [sandbox, staging, production]
  limit:
    description: How many runs, newest first.
    type: int
    default: 20
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
    description: Reads only.
"""

EXAMPLES = r"""
- name: Read the latest runs
  run_status:
    env: staging
    limit: 5
"""

RETURN = r"""
runs:
  description: The runs as the ledger has them (docs/interfaces.md), newest first.
  returned: success
  type: list
  elements: dict
  sample: [{run_id: b75a5783eb21ab2a07b72d89, workflow: model_evaluation, state: SUCCEEDED, exit_code: 0}]
lines:
  description: The same as a table to be read by people.
  returned: success
  type: list
  elements: str
  sample: ["2026-11-22 19:07  SUCCEEDED  model_evaluation  exit 0  5 s  b75a5783eb21ab2a07b72d89"]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.twinops.aws.ledger import Ledger
from ansible.module_utils.twinops.aws.session import client
from ansible.module_utils.twinops.errors import TwinopsError
from ansible.module_utils.twinops.names import ENVIRONMENTS, Names
from ansible.module_utils.twinops.runs import Run, table

SPEC = {
    "env": {"type": "str", "required": True, "choices": list(ENVIRONMENTS)},
    "limit": {"type": "int", "default": 20},
    "region": {"type": "str"},
    "profile": {"type": "str"},
    "endpoint_url": {"type": "str"},
}


def read(params: dict) -> list[Run]:
    dynamodb = client("dynamodb", **{option: params[option] for option in ("region", "profile", "endpoint_url")})
    return Ledger(Names(params["env"]).ledger, dynamodb).runs(limit=params["limit"])


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    try:
        found = read(module.params)
    except TwinopsError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, runs=found, lines=table(found))


if __name__ == "__main__":
    main()
