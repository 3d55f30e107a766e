#!/usr/bin/python
"""Keep the log groups of an environment's functions as declared."""

from __future__ import annotations

DOCUMENTATION = r"""
module: log_groups
short_description: Keep the log groups of an environment's functions as declared
description:
  - Makes the log groups of the dispatch and backup functions, so that what they write expires.
  - The log groups of workflows come with the workflows.
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
  retention_days:
    description: Days for which log events are kept; one of the values that CloudWatch offers.
    type: int
    default: 90
    choices: [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653]
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
- name: Ensure that the functions' logs expire
  log_groups:
    env: staging
    retention_days: 30
"""

RETURN = r"""
changes:
  description: What was changed, or in check mode would be, in order.
  returned: always
  type: list
  elements: dict
  sample:
    - {action: update, kind: log_group, name: /aws/lambda/twinops-staging-dispatch, fields: [tags]}
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
from ansible.module_utils.twinops.aws.module import OPTIONS, RETENTION_DAYS, converge, failure
from ansible.module_utils.twinops.errors import TwinopsError
from ansible.module_utils.twinops.resources import LogGroup, Scope

SPEC = {**OPTIONS, "retention_days": {"type": "int", "default": 90, "choices": RETENTION_DAYS}}


def desired(scope: Scope, params: dict) -> tuple[LogGroup, ...]:
    return estate.function_log_groups(scope, params["tags"], params["retention_days"])


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    try:
        result = converge(module.params, lambda scope: desired(scope, module.params), check_mode=module.check_mode)
    except TwinopsError as error:
        module.fail_json(**failure(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
