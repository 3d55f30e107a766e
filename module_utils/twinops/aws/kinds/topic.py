"""SNS topics: who may publish, the key they are encrypted with, and the mail addresses that are subscribed.

An address is asked by AWS to confirm. Until it does, its subscription is a condition for people, not a change.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, cast

from ...plan import Change, Observed
from ...policies import canonical
from ...resources import Topic
from ...status import RECONCILING, Condition
from ..owned import tags as tags_of
from ..session import Aws, absent_as_none
from . import key
from .tags import as_pairs, from_pairs

SERVICES = ("sns", "kms")
WORKERS = 4
READ_BACK = True

_MISSING = ("NotFound", "NotFoundException", "ResourceNotFound", "ResourceNotFoundException")
_PENDING = "PendingConfirmation"


def observe(aws: Aws, names: Collection[str]) -> dict[str, Observed]:
    return aws.found(lambda name: _observe(aws, name), names)


def _observe(aws: Aws, name: str) -> Observed | None:
    sns, arn = aws.client("sns"), _arn(aws, name)
    found = absent_as_none(sns.get_topic_attributes, *_MISSING, TopicArn=arn)
    if found is None:
        return None
    attributes = found["Attributes"]
    subscriptions = _mail_subscriptions(sns, arn)
    pending = tuple(sorted(address for address, subscription in subscriptions.items() if subscription == _PENDING))
    return Observed(
        Topic(
            name=name,
            tags=tags_of(aws, arn, lambda: from_pairs(sns.list_tags_for_resource(ResourceArn=arn)["Tags"])),
            mail_to=tuple(sorted(subscriptions)),
            policy=canonical(json.loads(attributes["Policy"])) if attributes.get("Policy") else {},
            key=key.name_of(aws, attributes.get("KmsMasterKeyId", "")),
            unconfirmed=pending,
        ),
        handles={"arn": arn, "subscriptions": subscriptions},
        conditions=tuple(
            Condition(
                type=RECONCILING,
                kind=Topic.kind,
                name=name,
                reason=_PENDING,
                message=f"{address} has to confirm the subscription by the link in AWS's mail",
            )
            for address in pending
        ),
    )


def create(aws: Aws, change: Change) -> None:
    topic = cast(Topic, change.desired)
    attributes = {"Policy": json.dumps(topic.policy), **({"KmsMasterKeyId": _alias(topic)} if topic.key else {})}
    made = aws.client("sns").create_topic(Name=topic.name, Attributes=attributes, Tags=as_pairs(topic.tags))
    _subscribe(aws, made["TopicArn"], topic.mail_to)


def update(aws: Aws, change: Change) -> None:
    sns, topic, observed = aws.client("sns"), cast(Topic, change.desired), cast(Observed, change.observed)
    arn, current = observed.handles["arn"], observed.handles["subscriptions"]
    for field, attribute, value in (
        ("policy", "Policy", json.dumps(topic.policy)),
        ("key", "KmsMasterKeyId", _alias(topic)),
    ):
        if field in change.fields:
            sns.set_topic_attributes(TopicArn=arn, AttributeName=attribute, AttributeValue=value)
    if "mail_to" in change.fields:
        _subscribe(aws, arn, [address for address in topic.mail_to if address not in current])
        unwanted = current.keys() - set(topic.mail_to)
        for address in unwanted - set(cast(Topic, observed.resource).unconfirmed):
            sns.unsubscribe(SubscriptionArn=current[address])
    if "tags" in change.fields:
        sns.tag_resource(ResourceArn=arn, Tags=as_pairs(topic.tags))


def delete(aws: Aws, change: Change) -> None:
    absent_as_none(aws.client("sns").delete_topic, *_MISSING, TopicArn=_arn(aws, change.name))


def _alias(topic: Topic) -> str:
    return f"alias/{topic.key}" if topic.key else ""


def _mail_subscriptions(sns: Any, arn: str) -> dict[str, str]:
    """Address -> ARN of the subscription, or ``PendingConfirmation``."""
    pages = sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=arn)
    return {
        subscription["Endpoint"]: subscription["SubscriptionArn"]
        for page in pages
        for subscription in page["Subscriptions"]
        if subscription["Protocol"] == "email" and subscription["SubscriptionArn"] != "Deleted"
    }


def _subscribe(aws: Aws, arn: str, addresses: Collection[str]) -> None:
    for address in addresses:
        aws.client("sns").subscribe(TopicArn=arn, Protocol="email", Endpoint=address)


def _arn(aws: Aws, name: str) -> str:
    return aws.scope.arn("sns", name)
