"""Rules and the functions that serve them."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

from twinops.desired import workflows
from twinops.resources import Function, Resource, Role, Rule, Schedule, ScheduleGroup
from twinops.spec import Workflow

from dispatch.claims import claim_of
from tests.unit.desired.support import GIT_SHA, SCOPE, WORKFLOW, estate, part


def test_input_of_a_rule_is_json_once_eventbridge_filled_it_in() -> None:
    rule = workflows.rule(estate(), WORKFLOW)
    event = {"id": '"e-1"', "time": '"2026-01-01T00:00:00Z"', "type": '"Rollout finished"', "detail": '{"a": 1}'}
    filled = re.sub(r"<(\w+)>", lambda match: event[match[1]], rule.input_template)
    assert json.loads(filled) == {
        "workflow": "drift_report",
        "event_id": "e-1",
        "time": "2026-01-01T00:00:00Z",
        "detail-type": "Rollout finished",
        "detail": {"a": 1},
        "git_sha": "0" * 40,
        "timeout_s": 600,
        "idempotent": False,
        "concurrency": "queue",
    }
    assert set(re.findall(r"<(\w+)>", rule.input_template)) == set(rule.input_paths)


ZONED = dataclasses.replace(WORKFLOW, schedule="cron(0 5 * * ? *)", timezone="Europe/Berlin", event=None)


def of_kind(kind: type[Resource], *specs: Workflow) -> list[Any]:
    return [each for each in part("workflows", {}, workflows=specs) if isinstance(each, kind)]


def names_of_rules(*specs: Workflow) -> list[str]:
    return [each.name for each in of_kind(Rule, *specs) if each.name != SCOPE.names.watchdog_rule]


def test_a_schedule_in_utc_is_kept_by_a_rule_and_costs_no_group() -> None:
    for spec in (WORKFLOW, dataclasses.replace(ZONED, timezone="UTC")):
        (rule,) = (each for each in of_kind(Rule, spec) if each.name == "twinops-staging-drift_report")
        assert rule.schedule == spec.schedule
        assert of_kind(Schedule, spec) == of_kind(ScheduleGroup, spec) == []


def test_a_schedule_in_a_zone_of_its_own_has_no_rule() -> None:
    (schedule,), (group,) = of_kind(Schedule, ZONED), of_kind(ScheduleGroup, ZONED)
    assert names_of_rules(ZONED) == []
    assert (schedule.expression, schedule.timezone) == ("cron(0 5 * * ? *)", "Europe/Berlin")
    assert (schedule.name, schedule.group) == ("twinops-staging-drift_report", group.name)
    assert (schedule.flexible_window, schedule.target) == ("OFF", SCOPE.function_arn("dispatch"))
    assert schedule.dead_letters == SCOPE.dead_letters_arn
    assert group.tags["twinops:part"] == "workflows"


def test_one_that_events_start_as_well_has_both_and_its_rule_no_schedule() -> None:
    both = dataclasses.replace(ZONED, event={"source": ["twinops"]})
    assert len(of_kind(Schedule, both)) == 1
    (rule,) = (each for each in of_kind(Rule, both) if each.name == "twinops-staging-drift_report")
    assert (rule.schedule, rule.pattern) == ("", {"source": ["twinops"]})


def test_input_of_a_schedule_is_a_tick_of_a_rule_and_the_same_at_every_attempt() -> None:
    (schedule,) = of_kind(Schedule, ZONED)
    assert set(re.findall(r"<([^>]+)>", schedule.input)) == {"aws.scheduler.scheduled-time"}, "no id of an attempt"
    event = json.loads(schedule.input.replace("<aws.scheduler.scheduled-time>", "2026-03-29T03:00:00Z"))
    tick = workflows.input_template(ZONED, GIT_SHA)
    for name, value in {"id": "e-1", "time": "2026-03-29T03:00:00Z", "type": "Scheduled Event", "detail": {}}.items():
        tick = tick.replace(f"<{name}>", json.dumps(value))
    assert {**json.loads(tick), "event_id": "drift_report@2026-03-29T03:00:00Z"} == event
    assert claim_of(event, "staging")["run_id"] == claim_of(json.loads(tick), "staging")["run_id"]


def test_scheduler_acts_only_for_the_schedules_of_the_environment() -> None:
    (role,) = (each for each in part("env", {}) if each.name == "twinops-staging-scheduler")
    assert isinstance(role, Role)
    (statement,) = role.trust["Statement"]
    assert statement["Principal"] == {"Service": ["scheduler.amazonaws.com"]}
    group = "arn:aws:scheduler:eu-central-1:111122223333:schedule-group/twinops-staging-workflows"
    assert statement["Condition"]["ArnEquals"] == {"aws:SourceArn": [group]}
    assert of_kind(Schedule, ZONED)[0].role.endswith(f"role/{role.name}")


def test_what_a_spec_says_about_tags_does_not_hide_the_owner() -> None:
    rule = workflows.rule(estate(extra_tags={"twinops:owner": "me", "cost-centre": 4711}), WORKFLOW)
    assert rule.tags == {
        "cost-centre": "4711",
        "twinops:owner": "twinops",
        "twinops:environment": "staging",
        "twinops:part": "workflows",
        "twinops:workflow": "drift_report",
    }


def test_each_takes_what_the_one_before_cannot_do_and_the_queue_the_rest() -> None:
    functions = {each.name: each for each in part("workflows", {}) if isinstance(each, Function)}
    dispatch, backup = functions["twinops-staging-dispatch"], functions["twinops-staging-backup"]
    assert dispatch.on_failure == SCOPE.function_arn("backup")
    assert backup.on_failure == SCOPE.function_arn("watchdog")
    assert (dispatch.retries, dispatch.timeout_s) == (1, 60)
    assert dispatch.permissions == {
        "rules": ("events.amazonaws.com", "arn:aws:events:eu-central-1:111122223333:rule/twinops-staging-*")
    }
    assert list(functions)[:2] == ["twinops-staging-backup", "twinops-staging-dispatch"], "a destination comes first"


def test_the_watchdog_is_called_by_its_rule_only() -> None:
    made = part("workflows", {}, workflows=())
    (watchdog,) = (each for each in made if isinstance(each, Function) and each.name.endswith("-watchdog"))
    (rule,) = (each for each in made if isinstance(each, Rule))
    assert (watchdog.handler, watchdog.on_failure) == ("dispatch.handler.watchdog", SCOPE.dead_letters_arn)
    assert (rule.schedule, rule.target) == ("rate(2 minutes)", SCOPE.function_arn("watchdog"))
    assert watchdog.permissions == {"tick": ("events.amazonaws.com", SCOPE.arn("events", f"rule/{rule.name}"))}
    assert json.loads(rule.input_template.replace("<time>", '"2026-01-01T00:00:00Z"')) == {
        "watchdog": "tick",
        "time": "2026-01-01T00:00:00Z",
    }
    assert "-" in rule.name.removeprefix("twinops-staging-"), "no workflow's rule can have this name"


def test_an_event_of_an_environment_does_not_start_what_another_has() -> None:
    detail = {
        "alarmName": ["twinops-<env>-performance-a", {"prefix": "x-<env>-"}],
        "n": [1, None, {"numeric": [">", 0]}],
    }
    spec = dataclasses.replace(WORKFLOW, event={"source": ["aws.cloudwatch"], "detail": detail})
    named = {"alarmName": ["twinops-staging-performance-a", {"prefix": "x-staging-"}], "n": detail["n"]}
    assert workflows.rule(estate(), spec).pattern == {"source": ["aws.cloudwatch"], "detail": named}
