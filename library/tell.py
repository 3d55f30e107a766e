#!/usr/bin/python
# Copyright: twinops contributors
# SPDX-License-Identifier: Apache-2.0
"""Mail a message to those who are told about an environment."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tell
short_description: Mail a message to those who are told about an environment
description:
  - Publishes the message on the environment's topic, whose subscribers C(notifications_mail_to) names.
extends_documentation_fragment: [aws]
options:
  subject:
    description: What it is about, in one line; cut after 99 characters, which is what SNS takes.
    type: str
    required: true
  text:
    description: The message; cut after 200,000 characters, as SNS takes 256 KiB.
    type: str
    required: true
author:
  - twinops
attributes:
  check_mode:
    support: full
    description: Says that it would, and tells nobody.
"""

EXAMPLES = r"""
- name: Tell people that something differs from git
  tell:
    env: staging
    subject: "twinops staging: something differs from git"
    text: "{{ lookup('file', 'build/plans/staging.md') }}"
"""

RETURN = r"""
message_id:
  description: What SNS calls the message.
  returned: when not in check mode
  type: str
  sample: 0c8b6a8e-5f0b-5d2e-8a0c-37a2b1a6c5c1
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.twinops.access import ACCESS, access
from ansible.module_utils.twinops.aws import session
from ansible.module_utils.twinops.errors import TwinopsError
from ansible.module_utils.twinops.mails import SUBJECT_CHARACTERS
from ansible.module_utils.twinops.names import ENVIRONMENTS, Names

try:
    from botocore.exceptions import BotoCoreError, ClientError
except ImportError:  # session.py has said so, by raising, before this matters
    BotoCoreError = ClientError = TwinopsError

TEXT_CHARACTERS = 200_000

SPEC = {
    "env": {"type": "str", "required": True, "choices": list(ENVIRONMENTS)},
    "subject": {"type": "str", "required": True},
    "text": {"type": "str", "required": True},
    **ACCESS,
}


def tell(params: dict) -> dict:
    sns = session.client("sns", **access(params))
    topic = "arn:%s:sns:%s:%s:%s" % (
        sns.meta.partition,
        sns.meta.region_name,
        session.account_id(**access(params)),
        Names(params["env"]).topic,
    )
    subject = params["subject"].encode("ascii", "replace").decode()[:SUBJECT_CHARACTERS]
    sent = sns.publish(TopicArn=topic, Subject=subject, Message=params["text"][:TEXT_CHARACTERS])
    return {"changed": True, "message_id": sent["MessageId"]}


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    if module.check_mode:
        module.exit_json(changed=True)
    try:
        result = tell(module.params)
    except (TwinopsError, BotoCoreError, ClientError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
