"""EventBridge rules with one target."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection
from typing import Any, cast

from ...errors import TwinopsError
from ...plan import Change, Observed
from ...resources import Rule
from ..owned import tags as tags_of
from ..session import Aws, absent_as_none
from .listing import common_prefix
from .tags import as_pairs, from_pairs

SERVICES = ("events",)
WORKERS = 4
READ_BACK = False

TARGET_ID = "dispatch"

_MISSING = "ResourceNotFoundException"


def observe(aws: Aws, names: Collection[str]) -> dict[str, Observed]:
    """Rules by listing, as there may be hundreds; targets and tags of each."""
    listed = [rule for rule in _rules(aws, common_prefix(names)) if rule["Name"] in names]
    observed = aws.each(lambda rule: _observe(aws, rule), listed)
    return {found.resource.name: found for found in observed}


def _observe(aws: Aws, rule: dict[str, Any]) -> Observed:
    events = aws.client("events")
    targets = events.list_targets_by_rule(Rule=rule["Name"])["Targets"]
    transformer = targets[0].get("InputTransformer", {}) if targets else {}
    return Observed(
        Rule(
            name=rule["Name"],
            tags=tags_of(
                aws, rule["Arn"], lambda: from_pairs(events.list_tags_for_resource(ResourceARN=rule["Arn"])["Tags"])
            ),
            description=rule.get("Description", ""),
            enabled=rule.get("State") == "ENABLED",
            schedule=rule.get("ScheduleExpression", ""),
            pattern=json.loads(rule.get("EventPattern") or "{}"),
            target=", ".join(target["Arn"] for target in targets),
            input_paths=transformer.get("InputPathsMap", {}),
            input_template=transformer.get("InputTemplate", ""),
            dead_letters=targets[0].get("DeadLetterConfig", {}).get("Arn", "") if targets else "",
        ),
        handles={"arn": rule["Arn"], "target_ids": [target["Id"] for target in targets]},
    )


def create(aws: Aws, change: Change) -> None:
    rule = cast(Rule, change.desired)
    _put_rule(aws, rule, tags=rule.tags)
    _put_target(aws, rule)


def update(aws: Aws, change: Change) -> None:
    rule, fields, observed = cast(Rule, change.desired), set(change.fields), cast(Observed, change.observed)
    if fields & {"description", "enabled", "schedule", "pattern"}:
        _put_rule(aws, rule)
    if fields & {"target", "input_paths", "input_template", "dead_letters"}:
        strangers = [each for each in observed.handles["target_ids"] if each != TARGET_ID]
        if strangers:
            _all_entries(aws.client("events").remove_targets, Rule=rule.name, Ids=strangers)
        _put_target(aws, rule)
    if "tags" in fields:
        aws.client("events").tag_resource(ResourceARN=observed.handles["arn"], Tags=as_pairs(rule.tags))


def delete(aws: Aws, change: Change) -> None:
    events, targets = aws.client("events"), cast(Observed, change.observed).handles["target_ids"]
    if targets:
        absent_as_none(lambda: _all_entries(events.remove_targets, Rule=change.name, Ids=targets), _MISSING)
    absent_as_none(events.delete_rule, _MISSING, Name=change.name)


def _rules(aws: Aws, prefix: str) -> list[dict[str, Any]]:
    pages = aws.client("events").get_paginator("list_rules").paginate(NamePrefix=prefix)
    return [rule for page in pages for rule in page["Rules"]]


def _put_rule(aws: Aws, rule: Rule, tags: Any = None) -> None:
    request: dict[str, Any] = {
        "Name": rule.name,
        "Description": rule.description,
        "State": "ENABLED" if rule.enabled else "DISABLED",
    }
    if rule.schedule:
        request["ScheduleExpression"] = rule.schedule
    if rule.pattern:
        request["EventPattern"] = json.dumps(rule.pattern)
    if tags:  # AWS takes them only while it makes the rule
        request["Tags"] = as_pairs(tags)
    aws.client("events").put_rule(**request)


def _put_target(aws: Aws, rule: Rule) -> None:
    transformer = {"InputPathsMap": dict(rule.input_paths), "InputTemplate": rule.input_template}
    target = {
        "Id": TARGET_ID,
        "Arn": rule.target,
        "InputTransformer": transformer,
        "DeadLetterConfig": {"Arn": rule.dead_letters},
    }
    _all_entries(aws.client("events").put_targets, Rule=rule.name, Targets=[target])


def _all_entries(call: Callable[..., dict[str, Any]], **request: Any) -> None:
    """Repeat a call that EventBridge answers with 200 though some of its entries failed ("too many at the same time").

    Raises TwinopsError when they still do.
    """
    for pause_s in (0.5, 2, 5, None):
        failed = call(**request).get("FailedEntries", [])
        if not failed:
            return
        if pause_s is None:
            why = ", ".join(f"{each.get('ErrorCode')}: {each.get('ErrorMessage')}" for each in failed)
            raise TwinopsError(f"rule {request['Rule']}: targets: {why}; rerun")
        time.sleep(pause_s)
