"""Groups of schedules of EventBridge Scheduler: what can be tagged there."""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

from ...plan import Change, Observed
from ...resources import ScheduleGroup
from ..owned import tags as tags_of
from ..session import Aws, absent_as_none, until_accepted
from .tags import as_pairs, from_pairs

SERVICES = ("scheduler",)
WORKERS = 1
READ_BACK = False

_MISSING = "ResourceNotFoundException"
_DELETING = "DELETING"
_DELETION_S = 120


def observe(aws: Aws, names: Collection[str]) -> dict[str, Observed]:
    return aws.found(lambda name: _observe(aws, name), names)


def _observe(aws: Aws, name: str) -> Observed | None:
    """One that is being deleted counts as gone: it cannot be kept any more."""
    scheduler = aws.client("scheduler")
    group = absent_as_none(scheduler.get_schedule_group, _MISSING, Name=name)
    if group is None or group["State"] == _DELETING:
        return None
    tags = tags_of(
        aws, group["Arn"], lambda: from_pairs(scheduler.list_tags_for_resource(ResourceArn=group["Arn"])["Tags"])
    )
    return Observed(ScheduleGroup(name=name, tags=tags), handles={"arn": group["Arn"]})


def create(aws: Aws, change: Change) -> None:
    """Waits for the end of a group of the same name that AWS still deletes."""
    group = cast(ScheduleGroup, change.desired)
    until_accepted(
        lambda: aws.client("scheduler").create_schedule_group(Name=group.name, Tags=as_pairs(group.tags)),
        ("ConflictException",),
        timeout_s=_DELETION_S,
    )


def update(aws: Aws, change: Change) -> None:
    arn, group = cast(Observed, change.observed).handles["arn"], cast(ScheduleGroup, change.desired)
    aws.client("scheduler").tag_resource(ResourceArn=arn, Tags=as_pairs(group.tags))


def delete(aws: Aws, change: Change) -> None:
    absent_as_none(aws.client("scheduler").delete_schedule_group, _MISSING, Name=change.name)
