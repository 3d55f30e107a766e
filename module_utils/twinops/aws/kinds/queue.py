"""SQS queues."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, cast

from ...plan import Change, Observed
from ...policies import canonical
from ...resources import Queue
from ..owned import tags as tags_of
from ..session import Aws, absent_as_none, until_accepted

SERVICES = ("sqs",)
WORKERS = 4
READ_BACK = False

_MISSING = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")


def observe(aws: Aws, names: Collection[str]) -> dict[str, Observed]:
    return aws.found(lambda name: _observe(aws, name), names)


def _observe(aws: Aws, name: str) -> Observed | None:
    sqs = aws.client("sqs")
    url = f"{sqs.meta.endpoint_url}/{aws.scope.account}/{name}"  # AWS's own form, without asking for it
    wanted = ["MessageRetentionPeriod", "SqsManagedSseEnabled", "Policy"]
    found = absent_as_none(sqs.get_queue_attributes, *_MISSING, QueueUrl=url, AttributeNames=wanted)
    if found is None:
        return None
    attributes = found.get("Attributes", {})
    return Observed(
        Queue(
            name=name,
            tags=tags_of(aws, aws.scope.arn("sqs", name), lambda: sqs.list_queue_tags(QueueUrl=url).get("Tags", {})),
            retention_s=int(attributes.get("MessageRetentionPeriod", 0)),
            encrypted=attributes.get("SqsManagedSseEnabled") == "true",
            policy=canonical(json.loads(attributes["Policy"])) if attributes.get("Policy") else {},
        ),
        handles={"url": url},
    )


def create(aws: Aws, change: Change) -> None:
    queue = cast(Queue, change.desired)
    # A name can be used again only a minute after its queue was deleted.
    until_accepted(
        lambda: aws.client("sqs").create_queue(
            QueueName=queue.name, Attributes=_attributes(queue), tags=dict(queue.tags)
        ),
        ("QueueDeletedRecently",),
        timeout_s=75,
    )


def update(aws: Aws, change: Change) -> None:
    queue, url = cast(Queue, change.desired), _url(change)
    if set(change.fields) - {"tags"}:
        aws.client("sqs").set_queue_attributes(QueueUrl=url, Attributes=_attributes(queue))
    if "tags" in change.fields:
        aws.client("sqs").tag_queue(QueueUrl=url, Tags=dict(queue.tags))


def delete(aws: Aws, change: Change) -> None:
    absent_as_none(aws.client("sqs").delete_queue, *_MISSING, QueueUrl=_url(change))


def _attributes(queue: Queue) -> dict[str, str]:
    return {
        "MessageRetentionPeriod": str(queue.retention_s),
        "SqsManagedSseEnabled": str(queue.encrypted).lower(),
        "Policy": json.dumps(queue.policy),
    }


def _url(change: Change) -> Any:
    return cast(Observed, change.observed).handles["url"]
