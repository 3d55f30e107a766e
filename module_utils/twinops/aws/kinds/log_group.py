"""CloudWatch log groups."""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

from ...plan import Change, Observed
from ...resources import LogGroup
from ..owned import tags as tags_of
from ..session import Aws, absent_as_none
from .listing import common_prefix

SERVICES = ("logs",)
WORKERS = 4
READ_BACK = False

_MISSING = "ResourceNotFoundException"


def observe(aws: Aws, names: Collection[str]) -> dict[str, Observed]:
    """One listing for all below the same folder (/aws/lambda, /twinops/<env>).

    One for all together, by ``logGroupNamePattern``, would not do: AWS leaves the retention out of its answer.
    """
    folders: dict[str, list[str]] = {}
    for name in names:
        folders.setdefault(name.split("/")[1], []).append(name)
    found = [
        (name, days)
        for members in folders.values()
        for name, days in _retentions(aws, common_prefix(members)).items()
        if name in names
    ]
    own = aws.each(lambda group: tags_of(aws, _arn(aws, group[0]), lambda: _tags(aws, group[0])), found)
    return {name: Observed(LogGroup(name, its, days)) for (name, days), its in zip(found, own)}


def create(aws: Aws, change: Change) -> None:
    logs, group = aws.client("logs"), cast(LogGroup, change.desired)
    try:
        # With its tags: a group without them would not be recognised as ours if we were interrupted here.
        logs.create_log_group(logGroupName=group.name, tags=dict(group.tags))
    except logs.exceptions.ResourceAlreadyExistsException:  # Lambda made it for a function that ran meanwhile
        logs.tag_resource(resourceArn=_arn(aws, group.name), tags=dict(group.tags))
    logs.put_retention_policy(logGroupName=group.name, retentionInDays=group.retention_days)


def update(aws: Aws, change: Change) -> None:
    logs, group = aws.client("logs"), cast(LogGroup, change.desired)
    if "retention_days" in change.fields:
        logs.put_retention_policy(logGroupName=group.name, retentionInDays=group.retention_days)
    if "tags" in change.fields:
        logs.tag_resource(resourceArn=_arn(aws, group.name), tags=dict(group.tags))


def delete(aws: Aws, change: Change) -> None:
    absent_as_none(aws.client("logs").delete_log_group, _MISSING, logGroupName=change.name)


def _retentions(aws: Aws, prefix: str) -> dict[str, int]:
    """Name -> days for every group below ``prefix``; 0 means for ever."""
    pages = aws.client("logs").get_paginator("describe_log_groups").paginate(logGroupNamePrefix=prefix)
    groups = (group for page in pages for group in page["logGroups"])
    return {group["logGroupName"]: group.get("retentionInDays", 0) for group in groups}


def _tags(aws: Aws, name: str) -> dict[str, str]:
    answer = absent_as_none(aws.client("logs").list_tags_for_resource, _MISSING, resourceArn=_arn(aws, name))
    return dict((answer or {}).get("tags", {}))


def _arn(aws: Aws, name: str) -> str:
    return aws.scope.arn("logs", f"log-group:{name}")
