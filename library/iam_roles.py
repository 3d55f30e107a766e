#!/usr/bin/python
"""Keep the IAM roles of an environment as declared."""

from __future__ import annotations

DOCUMENTATION = r"""
module: iam_roles
short_description: Keep the IAM roles of an environment as declared
description:
  - Makes the five roles of an environment (C(mlops), C(dispatch), C(development-twin), C(deployment-twin),
    C(device)), each with one inline policy that is scoped by the names of the environment.
  - Repairs trust, policy, description and tags that were changed by hand.
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
  trusted_principals:
    description: ARNs that may assume the C(mlops) role. By default whoever the account's own policies allow.
    type: list
    elements: str
    default: []
  redshift:
    description: Cluster with the plant's tables. Without it, twins may not query Redshift.
    type: dict
    suboptions:
      cluster:
        description: Identifier of the cluster.
        type: str
        required: true
      database:
        description: Name of the database.
        type: str
        required: true
      db_user:
        description: Database user that workflows query as.
        type: str
        required: true
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
- name: Ensure the roles of staging
  iam_roles:
    env: staging
    trusted_principals: ["arn:aws:iam::111122223333:role/developers"]
"""

RETURN = r"""
changes:
  description: What was changed, or in check mode would be, in order.
  returned: always
  type: list
  elements: dict
  sample:
    - {action: update, kind: role, name: twinops-staging-device, fields: [tags]}
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
from ansible.module_utils.twinops.policies import Redshift
from ansible.module_utils.twinops.resources import Role, Scope

REDSHIFT = {
    "cluster": {"type": "str", "required": True},
    "database": {"type": "str", "required": True},
    "db_user": {"type": "str", "required": True},
}
SPEC = {
    **OPTIONS,
    "trusted_principals": {"type": "list", "elements": "str", "default": []},
    "redshift": {"type": "dict", "options": REDSHIFT},
}


def desired(scope: Scope, params: dict) -> tuple[Role, ...]:
    redshift = Redshift(**params["redshift"]) if params["redshift"] else None
    return estate.roles(scope, params["tags"], params["trusted_principals"], redshift)


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    try:
        result = converge(module.params, lambda scope: desired(scope, module.params), check_mode=module.check_mode)
    except TwinopsError as error:
        module.fail_json(**failure(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
