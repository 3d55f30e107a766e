"""The dashboard of an environment, generated from the specs of its workflows.

As useful for hundreds of workflows as for one: the graphs ask for the twenty that stand out (Metrics Insights, which
AWS evaluates), and the widgets of alarms hold a hundred each, as many as CloudWatch shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..metrics import BACKUP_TOOK_OVER, RUN_DURATION, RUN_FAILED, WORKFLOW
from ..resources import Json, Scope
from ..schedule import UTC
from .common import Workflow

ALARMS_A_WIDGET = 100
"""CloudWatch, "Dashboard body structure and syntax", ``alarms`` of an alarm widget."""
SHOWN_WORKFLOWS = 20
WIDTH = 24
HALF = WIDTH // 2
PERIOD_S = 300
DAY_S = 86_400
SHOWN_MEASURED = 100
"""Graphs of what scripts found; a dashboard takes 500 widgets."""

Widget = dict[str, Any]


def body(
    scope: Scope,
    workflows: Sequence[Workflow],
    *,
    functions: Iterable[str],
    alarms: Iterable[str],
    workflow_alarms: Sequence[str],
) -> Json:
    """The body as PutDashboard takes it, decoded. CloudWatch places the widgets, in this order.

    ``alarms`` and ``workflow_alarms``: names of the alarms on the machinery, and on single workflows.
    """
    return {
        "widgets": [
            _alarms(scope, f"twinops {scope.env}: alarms", list(alarms)),
            _runs(scope),
            _machinery(scope, functions),
            _top(scope, "Failed runs", f"SUM({RUN_FAILED})"),
            _top(scope, "Longest runs (s)", f"MAX({RUN_DURATION})"),
            *_measured(scope, workflows),
            *_alarms_of_workflows(scope, workflow_alarms),
            _table(scope, workflows),
        ]
    }


def _alarms(scope: Scope, title: str, names: Iterable[str]) -> Widget:
    arns = [scope.arn("cloudwatch", f"alarm:{name}") for name in names]
    return {"type": "alarm", "width": WIDTH, "height": 3, "properties": {"title": title, "alarms": arns}}


def _alarms_of_workflows(scope: Scope, names: Sequence[str]) -> list[Widget]:
    starts = range(0, len(names), ALARMS_A_WIDGET)
    widgets = [_alarms(scope, "Alarms of workflows", names[start : start + ALARMS_A_WIDGET]) for start in starts]
    return [{**widget, "height": 6} for widget in widgets]


def _graph(scope: Scope, title: str, metrics: list[Any], statistic: str = "Sum") -> Widget:
    properties = {
        "title": title,
        "region": scope.region,
        "view": "timeSeries",
        "period": PERIOD_S,
        "stat": statistic,
        "metrics": metrics,
    }
    return {"type": "metric", "width": HALF, "height": 6, "properties": properties}


def _runs(scope: Scope) -> Widget:
    """All workflows together: each run publishes one RunFailed, 0 or 1."""
    ended = [scope.names.metric_namespace, RUN_FAILED, {"stat": "SampleCount", "label": "ended"}]
    return _graph(scope, "Runs of all workflows", [ended, [".", ".", {"label": "failed"}]])


def _machinery(scope: Scope, functions: Iterable[str]) -> Widget:
    of_functions = [
        ["AWS/Lambda", metric, "FunctionName", function] for function in functions for metric in ("Errors", "Throttles")
    ]
    took_over = [scope.names.metric_namespace, BACKUP_TOOK_OVER]
    queue = ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", scope.names.dead_letters]
    return _graph(scope, "Machinery", [*of_functions, took_over, [*queue, {"stat": "Maximum"}]])


def _top(scope: Scope, title: str, aggregate: str) -> Widget:
    """The workflows with the highest values; a list of all would be unreadable, and longer than a widget may be."""
    function = aggregate.partition("(")[0]
    source = f'SCHEMA("{scope.names.metric_namespace}", {WORKFLOW})'
    order = f"GROUP BY {WORKFLOW} ORDER BY {function}() DESC LIMIT {SHOWN_WORKFLOWS}"
    query = f"SELECT {aggregate} FROM {source} {order}"  # noqa: S608 (Metrics Insights, and nobody's input)
    return _graph(scope, title, [[{"expression": query, "id": "top"}]])


def _measured(scope: Scope, workflows: Sequence[Workflow]) -> list[Widget]:
    """A graph for each workflow of what its scripts found, a value a day; of the first by name."""
    asking = sorted((each for each in workflows if each.dashboard), key=lambda each: each.name)
    return [_graph_of_numbers(scope, each) for each in asking[:SHOWN_MEASURED]]


def _graph_of_numbers(scope: Scope, workflow: Workflow) -> Widget:
    """CloudWatch's search finds ``Drift.levels`` by ``Drift``, and exactly what is in quotes."""
    metrics = f'{{"{scope.names.metric_namespace}",{WORKFLOW}}} {WORKFLOW}="{workflow.name}"'
    searches = [f"SEARCH('{metrics} MetricName={name}', 'Average')" for name in workflow.dashboard]
    lines = [[{"expression": search, "id": f"found{number}"}] for number, search in enumerate(searches, start=1)]
    graph = _graph(scope, f"{workflow.name}: {', '.join(workflow.dashboard)}", lines, "Average")
    return {**graph, "properties": {**graph["properties"], "period": DAY_S}}


def _table(scope: Scope, workflows: Sequence[Workflow]) -> Widget:
    rows = [_row(scope, each) for each in sorted(workflows, key=lambda each: each.name)]
    head = ["| workflow | what it does | starts | missing after | owner |", "|---|---|---|---|---|"]
    height = min(3 + len(rows), 24)  # more rows scroll
    return {
        "type": "text",
        "width": WIDTH,
        "height": height,
        "properties": {"markdown": "\n".join([*head, *rows])},
    }


def _row(scope: Scope, workflow: Workflow) -> str:
    zone = "" if workflow.timezone == UTC else f" {workflow.timezone}"
    starts = [f"{workflow.schedule}{zone}"] if workflow.schedule else []
    starts += ["by event"] if workflow.event else []
    missing = f"{workflow.alarms.missing_after_h} h" if workflow.alarms.missing_after_h else ""
    log = scope.names.workflow_log_group(workflow.name).replace("/", "$252F")  # as the console writes it
    cells = [
        f"[{workflow.name}](#logsV2:log-groups/log-group/{log})",
        *map(_cell, (workflow.description, ", ".join(starts), missing, workflow.owner)),
    ]
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("*", "\\*")
