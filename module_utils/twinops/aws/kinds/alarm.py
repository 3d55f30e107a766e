"""CloudWatch alarms on metrics. One listing has them all, those on other alarms (``composite_alarm``) too."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, cast

from ...plan import Change, Observed
from ...resources import Alarm
from ..owned import tags as tags_of
from ..session import Aws
from .tags import as_pairs, from_pairs

SERVICES = ("cloudwatch",)
WORKERS = 4  # AWS takes three a second
READ_BACK = False

METRIC, COMPOSITE = "MetricAlarm", "CompositeAlarm"

_ACTIONS = {"ALARM": "AlarmActions", "OK": "OKActions", "INSUFFICIENT_DATA": "InsufficientDataActions"}
_PAGE = 100  # the most that AWS gives


def observe(aws: Aws, names: Collection[str]) -> dict[str, Observed]:
    return aws.found(lambda name: _observe(aws, name), names)


def _observe(aws: Aws, name: str) -> Observed | None:
    alarm = listing(aws, METRIC).get(name)
    if alarm is None:
        return None
    periods = alarm.get("EvaluationPeriods", 0)
    return Observed(
        Alarm(
            name=name,
            tags=own_tags(aws, alarm),
            description=alarm.get("AlarmDescription", ""),
            namespace=alarm.get("Namespace", ""),
            metric=alarm.get("MetricName", ""),
            dimensions=from_pairs(alarm.get("Dimensions", []), key="Name"),
            statistic=alarm.get("Statistic") or alarm.get("ExtendedStatistic", ""),
            period_s=alarm.get("Period", 0),
            periods=periods,
            datapoints=alarm.get("DatapointsToAlarm", periods),  # what AWS takes for it where nobody said
            comparison=alarm.get("ComparisonOperator", ""),
            threshold=alarm.get("Threshold", 0.0),
            missing_data=alarm.get("TreatMissingData", "missing"),
            enabled=alarm["ActionsEnabled"],
            actions=actions_of(alarm),
        ),
        handles={"arn": alarm["AlarmArn"]},
    )


def create(aws: Aws, change: Change) -> None:
    alarm = cast(Alarm, change.desired)
    aws.client("cloudwatch").put_metric_alarm(**_settings(alarm), Tags=as_pairs(alarm.tags))


def update(aws: Aws, change: Change) -> None:
    alarm = cast(Alarm, change.desired)
    if set(change.fields) - {"tags"}:  # AWS replaces the whole alarm, but for its tags
        aws.client("cloudwatch").put_metric_alarm(**_settings(alarm))
    set_tags(aws, change)


def delete(aws: Aws, change: Change) -> None:
    aws.client("cloudwatch").delete_alarms(AlarmNames=[change.name])  # of a missing one, AWS says nothing


def listing(aws: Aws, of_type: str) -> dict[str, dict[str, Any]]:
    """Name -> alarm as AWS describes it, of all alarms of the environment that are of one type."""

    def read() -> dict[str, dict[str, dict[str, Any]]]:
        pages = (
            aws.client("cloudwatch")
            .get_paginator("describe_alarms")
            .paginate(
                AlarmNamePrefix=aws.scope.names.prefix,
                AlarmTypes=[METRIC, COMPOSITE],
                PaginationConfig={"PageSize": _PAGE},
            )
        )
        found: dict[str, dict[str, dict[str, Any]]] = {METRIC: {}, COMPOSITE: {}}
        for page in pages:
            for each in (METRIC, COMPOSITE):
                found[each].update({alarm["AlarmName"]: alarm for alarm in page.get(f"{each}s", [])})
        return found

    return aws.once("alarms", read)[of_type]


def own_tags(aws: Aws, alarm: Mapping[str, Any]) -> dict[str, str]:
    arn = alarm["AlarmArn"]
    return tags_of(
        aws, arn, lambda: from_pairs(aws.client("cloudwatch").list_tags_for_resource(ResourceARN=arn)["Tags"])
    )


def set_tags(aws: Aws, change: Change) -> None:
    """AWS takes tags with a new alarm only."""
    if "tags" in change.fields and change.desired and change.observed:
        arn = change.observed.handles["arn"]
        aws.client("cloudwatch").tag_resource(ResourceARN=arn, Tags=as_pairs(change.desired.tags))


def actions_of(alarm: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """State -> ARNs that are told of it; without states that nobody is told of."""
    return {state: tuple(sorted(alarm[key])) for state, key in _ACTIONS.items() if alarm.get(key)}


def actions_request(actions: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    return {key: sorted(actions.get(state, ())) for state, key in _ACTIONS.items()}


def _settings(alarm: Alarm) -> dict[str, Any]:
    warm_up = {"WarmUpConfiguration": {"WarmUpPeriodDurationInMinutes": alarm.warm_up_min}} if alarm.warm_up_min else {}
    return {
        "AlarmName": alarm.name,
        "AlarmDescription": alarm.description,
        "Namespace": alarm.namespace,
        "MetricName": alarm.metric,
        "Dimensions": as_pairs(alarm.dimensions, key="Name"),
        "Statistic": alarm.statistic,
        "Period": alarm.period_s,
        "EvaluationPeriods": alarm.periods,
        "DatapointsToAlarm": alarm.datapoints,
        "ComparisonOperator": alarm.comparison,
        "Threshold": alarm.threshold,
        "TreatMissingData": alarm.missing_data,
        "ActionsEnabled": alarm.enabled,
        **actions_request(alarm.actions),
        **warm_up,
    }
