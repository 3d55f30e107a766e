"""Whether an AWS service may publish to a topic: by the topic's policy, and that of its key.

ministack delivers for services without asking.
"""

from __future__ import annotations

import logging
from typing import Any

from ministack.core import iam_evaluator
from ministack.services import eventbridge, kms, sns

from sandbox.emulator.events import rule_arn
from sandbox.settings import ACCOUNT, REGION

logger = logging.getLogger("sandbox.topics")

# Services for which SNS knows the owner of what publishes: the policy it gives a topic by default allows these.
WITH_OWNER = ("cloudwatch.amazonaws.com",)


def install() -> None:
    """Ask before EventBridge publishes."""
    publish = eventbridge._dispatch_to_sns

    def dispatch(arn: str, payload: str) -> None:
        if may_publish(arn, "events.amazonaws.com", rule_arn.get()):
            publish(arn, payload)

    eventbridge._dispatch_to_sns = dispatch


def may_publish(topic_arn: str, service: str, source_arn: str) -> bool:
    """Whether a service may publish to a topic for one of this account's resources; why not is logged."""
    topic = sns._topic_by_arn_any_scope(topic_arn)
    if topic is None:
        return False
    attributes = topic["attributes"]
    if not _allows(attributes.get("Policy"), "sns:Publish", topic_arn, service, source_arn):
        logger.error("%s: its policy does not let %s publish for %s", topic_arn, service, source_arn)
        return False
    key_id = attributes.get("KmsMasterKeyId") or ""
    key = kms._resolve_key(key_id)
    if key_id and key is None:
        logger.error("%s: the policy of its key %s lets no service use it", topic_arn, key_id)
        return False
    for action in ("kms:GenerateDataKey", "kms:Decrypt") if key else ():
        if not _allows(key["Policy"], action, key["Arn"], service, source_arn):
            logger.error("%s: the policy of its key %s does not allow %s to %s", topic_arn, key["Arn"], action, service)
            return False
    return True


def _allows(policy: Any, action: str, resource_arn: str, service: str, source_arn: str) -> bool:
    context = iam_evaluator.EvalContext(
        principal_arn="*",
        principal_type="Service",
        principal_account="",
        action=action,
        resource_arn=resource_arn,
        region=REGION,
        service_context={
            "aws:sourcearn": source_arn,
            "aws:sourceaccount": ACCOUNT,
            **({"aws:sourceowner": ACCOUNT} if service in WITH_OWNER else {}),
        },
    )
    decision = iam_evaluator.evaluate_resource_policy(policy, context, service=service)
    return bool(decision.decision == "Allow")
