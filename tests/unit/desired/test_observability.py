"""Alarms and the dashboard: who is told what, for one workflow and for hundreds."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest
from twinops.names import ENVIRONMENTS
from twinops.resources import Alarm, CompositeAlarm, Dashboard, LogGroup, Scope
from twinops.spec import Alarms, Performance, Workflow

from tests.unit.desired.support import SCOPE, WORKFLOW, part

PAGE = "arn:aws:sns:eu-central-1:111122223333:on-call"
LONGEST_NAME = "w" * 37
MANY = tuple(
    dataclasses.replace(WORKFLOW, name=f"{LONGEST_NAME}_{number:03}", alarms=Alarms(missing_after_h=168))
    for number in range(500)
)


def made(**changed: Any) -> tuple[Any, ...]:
    return part("observability", {"alarm_actions": [PAGE]}, **changed)


def alarms(**asked: Any) -> dict[str, Alarm]:
    workflow = dataclasses.replace(WORKFLOW, alarms=Alarms(**asked))
    return {
        each.name.removeprefix("twinops-staging-"): each
        for each in made(workflows=(workflow,))
        if isinstance(each, Alarm)
    }


def composite(workflows: tuple[Workflow, ...], scope: Scope = SCOPE) -> CompositeAlarm:
    (found,) = (each for each in made(workflows=workflows, scope=scope) if isinstance(each, CompositeAlarm))
    return found


def dashboard(workflows: tuple[Workflow, ...]) -> Dashboard:
    (found,) = (each for each in made(workflows=workflows) if isinstance(each, Dashboard))
    return found


def test_a_workflow_has_the_alarms_that_its_spec_asks_for() -> None:
    assert "failed-drift_report" in alarms()
    assert "missing-drift_report" not in alarms()
    assert "failed-drift_report" not in alarms(failed=False)
    assert "missing-drift_report" in alarms(failed=False, missing_after_h=26)


def test_what_a_run_mails_itself_is_not_mailed_again() -> None:
    found = alarms(missing_after_h=26)
    told = {name: alarm.actions.get("ALARM", ()) for name, alarm in found.items()}
    assert told.pop("failed-drift_report") == ()
    for quiet in ("run-failed", "backup-errors", "backup-took-over"):
        assert told.pop(quiet) == ()
    assert told.pop("missing-drift_report") == (PAGE, SCOPE.topic_arn)
    assert told
    assert set(told.values()) == {(SCOPE.topic_arn,)}, "the machinery mails; the composite alarm pages"
    assert composite((WORKFLOW,)).actions == {"ALARM": (PAGE,)}


def test_nobody_is_paged_by_default() -> None:
    (found,) = (each for each in part("observability", {}) if isinstance(each, CompositeAlarm))
    assert found.actions == {}


@pytest.mark.parametrize(("hours", "period_s"), [(1, 300), (24, 300), (25, 3600), (168, 3600)])
def test_a_missing_alarm_looks_back_as_far_as_it_says_within_what_cloudwatch_allows(hours: int, period_s: int) -> None:
    alarm = alarms(missing_after_h=hours)["missing-drift_report"]
    assert alarm.period_s == period_s
    assert alarm.period_s * alarm.periods == hours * 3600
    assert alarm.datapoints == alarm.periods
    assert hours * 3600 <= (86_400 if period_s < 3600 else 604_800), "CloudWatch: a day, or a week for hours"
    assert alarm.warm_up_min == min(hours * 60, 2880), "nothing can be missing before it could have been there"


def test_a_performance_alarm_lasts_until_a_run_finds_the_number_good_again() -> None:
    alarm = alarms(performance=Performance("MacroF1", 0.9))["performance-drift_report"]
    assert (alarm.metric, alarm.dimensions, alarm.statistic) == ("MacroF1", {"Workflow": "drift_report"}, "Minimum")
    assert (alarm.comparison, alarm.threshold, alarm.missing_data) == ("LessThanThreshold", 0.9, "ignore")
    assert alarm.actions == {}, "the run has mailed its report"


def test_missing_data_is_news_only_where_runs_are_missing() -> None:
    treated = {name: alarm.missing_data for name, alarm in alarms(missing_after_h=26).items()}
    assert treated.pop("missing-drift_report") == "breaching"
    assert set(treated.values()) == {"notBreaching"}


def test_alarms_of_a_workflow_go_with_it() -> None:
    found = alarms(missing_after_h=26)
    marked = {name for name, alarm in found.items() if alarm.tags.get("twinops:workflow") == "drift_report"}
    assert marked == {"failed-drift_report", "missing-drift_report"}


def test_the_composite_alarm_is_on_alarms_that_exist() -> None:
    rule = composite((WORKFLOW,)).rule
    children = re.findall(r'ALARM\("twinops-staging-([^"]+)"\)', rule)
    assert set(children) <= set(alarms())
    assert " OR ".join(f'ALARM("twinops-staging-{child}")' for child in children) == rule


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_five_hundred_workflows_fit_into_what_cloudwatch_takes(env: str) -> None:
    scope = dataclasses.replace(SCOPE, env=env)
    rule = composite(MANY, scope).rule
    assert rule == composite((), scope).rule
    assert len(rule) <= 10_240
    assert rule.count("ALARM(") <= 100
    names = [each.name for each in made(workflows=MANY, scope=scope) if isinstance(each, Alarm)]
    assert len(set(names)) == len(names) > 1000
    assert max(map(len, names)) <= 255


def test_the_dashboard_of_five_hundred_workflows_is_one_that_cloudwatch_takes() -> None:
    widgets = dashboard(MANY).body["widgets"]
    assert len(widgets) <= 500
    shown = [alarm for widget in widgets for alarm in widget["properties"].get("alarms", [])]
    assert len(shown) == len(set(shown)) > 1000
    for widget in widgets:
        assert len(widget["properties"].get("alarms", [])) <= 100
        assert len(widget["properties"].get("metrics", [])) <= 500
    assert widgets[-1]["properties"]["markdown"].count("\n| [") == 500


def test_the_dashboard_is_the_same_text_whatever_the_order_of_the_specs() -> None:
    other = dataclasses.replace(WORKFLOW, name="another", description="Tells *what* | why.")
    table = dashboard((WORKFLOW, other)).body["widgets"][-1]
    assert table == dashboard((other, WORKFLOW)).body["widgets"][-1]
    rows = table["properties"]["markdown"].splitlines()[2:]
    assert [row.split("]")[0] for row in rows] == ["| [another", "| [drift_report"]
    assert r"Tells \*what\* \| why." in rows[0]
    assert json.loads(json.dumps(dashboard((WORKFLOW,)).body)) == dashboard((WORKFLOW,)).body


def test_the_dashboard_plots_what_a_workflow_asks_for() -> None:
    asking = dataclasses.replace(WORKFLOW, dashboard=("DriftDistance", "DriftingDevices"))
    widgets = dashboard((asking, dataclasses.replace(WORKFLOW, name="another"))).body["widgets"]
    (graph,) = [
        each["properties"] for each in widgets if each["properties"].get("title", "").startswith("drift_report")
    ]
    assert graph["title"] == "drift_report: DriftDistance, DriftingDevices"
    assert [line[0]["expression"] for line in graph["metrics"]] == [
        f"SEARCH('{{\"twinops/staging\",Workflow}} Workflow=\"drift_report\" MetricName={name}', 'Average')"
        for name in ("DriftDistance", "DriftingDevices")
    ]


def test_graphs_of_five_hundred_workflows_are_as_many_as_cloudwatch_takes() -> None:
    widgets = dashboard(tuple(dataclasses.replace(each, dashboard=("MacroF1",)) for each in MANY)).body["widgets"]
    assert len(widgets) <= 500
    assert sum(each["properties"].get("title", "").endswith(": MacroF1") for each in widgets) == 100


def test_the_watchdog_has_a_log_that_expires_too() -> None:
    groups = {each.name for each in made() if isinstance(each, LogGroup)}
    assert groups == {f"/aws/lambda/twinops-staging-{purpose}" for purpose in ("dispatch", "backup", "watchdog")}
