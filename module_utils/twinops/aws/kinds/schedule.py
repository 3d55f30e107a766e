"""Schedules of EventBridge Scheduler, all in one group: they have no tags, their names say whose they are."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

from ...plan import Change, Observed
from ...resources import Schedule
from ..owned import Owned
from ..session import Aws, absent_as_none, until_accepted

SERVICES = ("scheduler",)
WORKERS = 4
READ_BACK = False
PARTS = ("workflows",)

_MISSING = "ResourceNotFoundException"
_ROLE_NOT_KNOWN_YET = ("must allow AWS EventBridge Scheduler to assume the role",)
_PROPAGATION_S = 30


def observe(aws: Aws, names: Collection[str]) -> dict[str, Observed]:
    """One by one: the listing has neither the expression nor the input."""
    return aws.found(lambda name: _observe(aws, name), names)


def _observe(aws: Aws, name: str) -> Observed | None:
    found = absent_as_none(aws.client("scheduler").get_schedule, _MISSING, Name=name, GroupName=_group(aws))
    if found is None:
        return None
    target = found["Target"]
    retries = target.get("RetryPolicy", {})
    return Observed(
        Schedule(
            name=name,
            tags={},
            group=found["GroupName"],
            description=found.get("Description", ""),
            enabled=found.get("State") == "ENABLED",
            expression=found["ScheduleExpression"],
            timezone=found.get("ScheduleExpressionTimezone", "UTC"),
            flexible_window=found["FlexibleTimeWindow"]["Mode"],
            target=target["Arn"],
            role=target["RoleArn"],
            input=target.get("Input", ""),
            max_event_age_s=retries.get("MaximumEventAgeInSeconds", 86400),
            retries=retries.get("MaximumRetryAttempts", 185),
            dead_letters=target.get("DeadLetterConfig", {}).get("Arn", ""),
        )
    )


def list_owned(aws: Aws) -> list[Owned]:
    """Those in the environment's group. Where the tags tell of no group, none is declared, and nobody is asked."""
    if aws.scope.schedule_group_arn not in aws.tagged():
        return []
    prefix = aws.scope.names.prefix
    pages = aws.client("scheduler").get_paginator("list_schedules").paginate(GroupName=_group(aws), NamePrefix=prefix)
    names = [found["Name"] for page in pages for found in page["Schedules"]]
    return [Owned((Schedule.kind, name), PARTS[0], name.removeprefix(prefix)) for name in names]


def create(aws: Aws, change: Change) -> None:
    _put(aws, change, aws.client("scheduler").create_schedule)


def update(aws: Aws, change: Change) -> None:
    """AWS replaces the whole: what is left out gets its default."""
    _put(aws, change, aws.client("scheduler").update_schedule)


def delete(aws: Aws, change: Change) -> None:
    absent_as_none(aws.client("scheduler").delete_schedule, _MISSING, Name=change.name, GroupName=_group(aws))


def _put(aws: Aws, change: Change, call: Any) -> None:
    """Waits for IAM, which makes a new role known only after a while."""
    schedule = cast(Schedule, change.desired)
    until_accepted(lambda: call(**_request(schedule)), _ROLE_NOT_KNOWN_YET, timeout_s=_PROPAGATION_S)


def _request(schedule: Schedule) -> dict[str, Any]:
    return {
        "Name": schedule.name,
        "GroupName": schedule.group,
        "Description": schedule.description,
        "State": "ENABLED" if schedule.enabled else "DISABLED",
        "ScheduleExpression": schedule.expression,
        "ScheduleExpressionTimezone": schedule.timezone,
        "FlexibleTimeWindow": {"Mode": schedule.flexible_window},
        "Target": {
            "Arn": schedule.target,
            "RoleArn": schedule.role,
            "Input": schedule.input,
            "RetryPolicy": {
                "MaximumEventAgeInSeconds": schedule.max_event_age_s,
                "MaximumRetryAttempts": schedule.retries,
            },
            "DeadLetterConfig": {"Arn": schedule.dead_letters},
        },
    }


def _group(aws: Aws) -> str:
    return aws.scope.names.schedule_group
