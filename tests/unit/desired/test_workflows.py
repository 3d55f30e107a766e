"""Rules and the functions that serve them."""

from __future__ import annotations

import json
import re

from twinops.desired import workflows
from twinops.resources import Function, Rule

from tests.unit.desired.support import SCOPE, WORKFLOW, estate, part


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
