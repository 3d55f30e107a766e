#!/usr/bin/python
"""Keep the DynamoDB tables of an environment as declared."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tables
short_description: Keep the DynamoDB tables of an environment as declared
description:
  - Makes the ledger of runs, deployments and rollouts, which is paid per request.
  - The key of a table cannot be changed; the module fails and says so.
options:
  env:
    description: Environment whose names, policies and tags are used.
    type: str
    required: true
    choices: [sandbox, staging, production]
  state:
    description: V(present) makes the set and keeps it as declared; V(absent) removes what twinops owns of it.
    type: str
    default: present
    choices: [present, absent]
  tags:
    description: Further tags. Tags that others put on a resource are kept.
    type: dict
    default: {}
  region:
    description: AWS region. By default boto3's own choice (E(AWS_DEFAULT_REGION), profile).
    type: str
  profile:
    description: Profile of the AWS configuration. By default boto3's own choice.
    type: str
  endpoint_url:
    description: URL of the AWS endpoint, for emulators. By default boto3's own choice.
    type: str
  point_in_time_recovery:
    description: Whether the ledger can be restored to any second of the last 35 days.
    type: bool
    default: true
requirements:
  - boto3
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
- name: Ensure the ledger exists
  tables:
    env: staging
"""

RETURN = r"""
changes:
  description: What was changed, or in check mode would be, in order.
  returned: always
  type: list
  elements: dict
  sample:
    - {action: update, kind: table, name: twinops-staging-ledger, fields: [tags]}
conditions:
  description: What is not normal at the moment (C(Reconciling), C(Stalled)), and one C(Ready) for the whole set.
  returned: success
  type: list
  elements: dict
  sample:
    - {type: Ready, status: true, reason: AsDeclared}
calls:
  description: Number of AWS calls that were made.
  returned: success
  type: int
  sample: 14
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.twinops import desired as estate
from ansible.module_utils.twinops.aws.module import OPTIONS, converge, failure
from ansible.module_utils.twinops.errors import TwinopsError
from ansible.module_utils.twinops.resources import Scope, Table

SPEC = {**OPTIONS, "point_in_time_recovery": {"type": "bool", "default": True}}


def desired(scope: Scope, params: dict) -> tuple[Table, ...]:
    return estate.tables(scope, params["tags"], params["point_in_time_recovery"])


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    try:
        result = converge(module.params, lambda scope: desired(scope, module.params), check_mode=module.check_mode)
    except TwinopsError as error:
        module.fail_json(**failure(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
