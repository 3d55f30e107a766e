#!/usr/bin/python
"""Reads AWS, for scenarios that look at it without the code that they test."""

from __future__ import annotations

DOCUMENTATION = r"""
module: aws_read
short_description: Ask AWS how something is
description:
  - Calls operations of one AWS service and returns the answers, all pages of them. Uses boto3 and nothing of twinops,
    so that it can tell whether twinops is right.
  - Refuses every operation whose name does not say that it reads.
options:
  service:
    description: Service, as boto3 calls it.
    type: str
    required: true
  operations:
    description: Operations, as boto3's client calls them. Each starts with V(describe_), V(get_), V(head_) or V(list_).
    type: list
    elements: str
    required: true
  arguments:
    description: Arguments of each of the operations.
    type: dict
    default: {}
requirements:
  - boto3
author:
  - twinops
attributes:
  check_mode:
    support: full
    description: Only reads.
"""

EXAMPLES = r"""
- name: Read whether the bucket keeps old versions
  aws_read:
    service: s3
    operations: [get_bucket_versioning]
    arguments: {Bucket: twinops-staging-models-123456789012}
  register: bucket
"""

RETURN = r"""
answers:
  description: The answer of each operation. Times are text, as in ISO 8601; streams are their content.
  returned: success
  type: dict
  sample: {get_bucket_versioning: {Status: Enabled}}
"""

import json
from typing import Any

import boto3
from ansible.module_utils.basic import AnsibleModule
from botocore.exceptions import BotoCoreError, ClientError

SPEC = {
    "service": {"type": "str", "required": True},
    "operations": {"type": "list", "elements": "str", "required": True},
    "arguments": {"type": "dict", "default": {}},
}
READS = ("describe_", "get_", "head_", "list_")


def read(client: Any, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
    if client.can_paginate(operation):
        answer = client.get_paginator(operation).paginate(**arguments).build_full_result()
    else:
        answer = getattr(client, operation)(**arguments)
    answer.pop("ResponseMetadata", None)
    return dict(json.loads(json.dumps(answer, default=plain)))


def plain(value: Any) -> str:
    """What JSON lacks: streams and times."""
    return str(value.read().decode() if hasattr(value, "read") else value.isoformat())


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    service, operations, arguments = (module.params[name] for name in SPEC)
    writes = [operation for operation in operations if not operation.startswith(READS)]
    if writes:
        module.fail_json(msg=f"operations: expected each to start with {', '.join(READS)}, got {', '.join(writes)}")
    try:
        client = boto3.client(service)
        answers = {operation: read(client, operation, arguments) for operation in operations}
    except (BotoCoreError, ClientError) as error:
        module.fail_json(msg=f"{service}: {error}")
    module.exit_json(changed=False, answers=answers)


if __name__ == "__main__":
    main()
