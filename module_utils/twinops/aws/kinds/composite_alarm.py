"""CloudWatch alarms on the states of other alarms."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

from ...plan import Change, Observed
from ...resources import CompositeAlarm
from ..session import Aws
from . import alarm as alarms
from .tags import as_pairs

SERVICES = ("cloudwatch",)
WORKERS = 2
READ_BACK = False


def observe(aws: Aws, names: Collection[str]) -> dict[str, Observed]:
    return aws.found(lambda name: _observe(aws, name), names)


def _observe(aws: Aws, name: str) -> Observed | None:
    found = alarms.listing(aws, alarms.COMPOSITE).get(name)
    if found is None:
        return None
    return Observed(
        CompositeAlarm(
            name=name,
            tags=alarms.own_tags(aws, found),
            description=found.get("AlarmDescription", ""),
            rule=found.get("AlarmRule", ""),
            enabled=found["ActionsEnabled"],
            actions=alarms.actions_of(found),
        ),
        handles={"arn": found["AlarmArn"]},
    )


def create(aws: Aws, change: Change) -> None:
    composite = cast(CompositeAlarm, change.desired)
    aws.client("cloudwatch").put_composite_alarm(**_settings(composite), Tags=as_pairs(composite.tags))


def update(aws: Aws, change: Change) -> None:
    if set(change.fields) - {"tags"}:
        aws.client("cloudwatch").put_composite_alarm(**_settings(cast(CompositeAlarm, change.desired)))
    alarms.set_tags(aws, change)


delete = alarms.delete  # at most one composite alarm a call


def _settings(composite: CompositeAlarm) -> dict[str, Any]:
    return {
        "AlarmName": composite.name,
        "AlarmDescription": composite.description,
        "AlarmRule": composite.rule,
        "ActionsEnabled": composite.enabled,
        **alarms.actions_request(composite.actions),
    }
