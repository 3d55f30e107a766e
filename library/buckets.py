#!/usr/bin/python
"""Keep the S3 buckets of an environment as declared."""

from __future__ import annotations

DOCUMENTATION = r"""
module: buckets
short_description: Keep the S3 buckets of an environment as declared
description:
  - Each bucket is versioned, encrypted, closed to the public and to plain HTTP, and expires old versions.
  - Buckets with objects are never removed.
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
  buckets:
    description: The buckets.
    type: list
    elements: dict
    required: true
    suboptions:
      purpose:
        description: What it is for; the name of the bucket follows from it.
        type: str
        required: true
        choices: [models, reports, data]
      noncurrent_days:
        description: Days for which replaced and deleted versions of objects can be recovered.
        type: int
        default: 365
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
- name: Ensure the report bucket exists
  buckets:
    env: staging
    buckets:
      - purpose: reports
        noncurrent_days: 90
"""

RETURN = r"""
changes:
  description: What was changed, or in check mode would be, in order.
  returned: always
  type: list
  elements: dict
  sample:
    - {action: update, kind: bucket, name: twinops-staging-reports-111122223333, fields: [tags]}
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
from ansible.module_utils.twinops.desired import BucketSpec
from ansible.module_utils.twinops.errors import TwinopsError
from ansible.module_utils.twinops.resources import Bucket, Scope

BUCKET = {
    "purpose": {"type": "str", "required": True, "choices": ["models", "reports", "data"]},
    "noncurrent_days": {"type": "int", "default": 365},
}
SPEC = {**OPTIONS, "buckets": {"type": "list", "elements": "dict", "required": True, "options": BUCKET}}


def desired(scope: Scope, params: dict) -> tuple[Bucket, ...]:
    return estate.buckets(scope, params["tags"], [BucketSpec(**bucket) for bucket in params["buckets"]])


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    try:
        result = converge(module.params, lambda scope: desired(scope, module.params), check_mode=module.check_mode)
    except TwinopsError as error:
        module.fail_json(**failure(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
