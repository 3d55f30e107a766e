"""What shows how the environment is doing: logs that expire, alarms, and one dashboard.

Who is told what: every run that ends is mailed once, also one that nobody could start, so an alarm that only repeats it
tells nobody. What no run can mail (the machinery broke, a schedule never fired) mails the topic. ``alarm_actions`` are
for paging: they are told of each missing workflow, and, once for all else, by the composite alarm.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..metrics import BACKUP_TOOK_OVER, RUN_FAILED, WORKFLOW
from ..resources import Alarm, CompositeAlarm, Dashboard, LogGroup, Resource
from ..spec import Performance
from .common import Estate, Options, Workflow
from .dashboard import body

PART = "observability"

RETENTION_DAYS = [
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731),
    *(1096, 1827, 2192, 2557, 2922, 3288, 3653),
]
"""What CloudWatch Logs offers."""

OPTIONS = {
    "retention_days": {"type": "int", "default": 90, "choices": RETENTION_DAYS},
    "alarm_actions": {"type": "list", "elements": "str", "default": []},
}

FUNCTIONS = ("dispatch", "backup", "watchdog")

PERIOD_S = 300
DAY_H = 24
LONGEST_WARM_UP_MIN = 2880
"""CloudWatch, PutMetricAlarm, ``WarmUpPeriodDurationInMinutes``."""


def resources(estate: Estate, options: Options) -> tuple[Resource, ...]:
    """Log groups of the functions (Lambda's own would keep everything for ever), alarms, and the dashboard."""
    names, pages = estate.scope.names, tuple(sorted(set(options["alarm_actions"])))
    log_groups = [
        LogGroup(names.function_log_group(purpose), estate.tags(PART), options["retention_days"])
        for purpose in FUNCTIONS
    ]
    alarms = [*machinery_alarms(estate), any_run_failed(estate)]
    composite = workflow_failed(estate, pages)
    of_workflows = [alarm for each in estate.workflows for alarm in workflow_alarms(estate, each, pages)]
    dashboard = Dashboard(
        name=names.dashboard,
        tags={},
        body=body(
            estate.scope,
            estate.workflows,
            functions=[names.function(purpose) for purpose in FUNCTIONS],
            alarms=[composite.name, *(each.name for each in alarms)],
            workflow_alarms=[each.name for each in of_workflows],
        ),
    )
    return (*log_groups, *alarms, *of_workflows, composite, dashboard)


def workflow_alarms(estate: Estate, workflow: Workflow, pages: tuple[str, ...]) -> list[Alarm]:
    """What the spec of a workflow asks for under ``alarms``."""
    asked = workflow.alarms
    return [
        *([_failed_alarm(estate, workflow)] if asked.failed else []),
        *([_missing_alarm(estate, workflow, pages)] if asked.missing_after_h else []),
        *([_performance_alarm(estate, workflow, asked.performance)] if asked.performance else []),
    ]


def _failed_alarm(estate: Estate, workflow: Workflow) -> Alarm:
    """In alarm for the five minutes in which a run failed: it shows, on the dashboard and to those who ask."""
    names = estate.scope.names
    source = (names.metric_namespace, RUN_FAILED, {WORKFLOW: workflow.name})
    text = f"A run of {workflow.name} failed. The run has mailed what happened and where its log is."
    name = names.workflow_alarm("failed", workflow.name)
    return _count_alarm(estate, name, text, source, workflow=workflow.name)


def _missing_alarm(estate: Estate, workflow: Workflow, pages: tuple[str, ...]) -> Alarm:
    """In alarm while no run has ended, well or badly, for as long as the spec says: missing data is the news.

    CloudWatch looks at some periods more than it was told, so that it may come some periods late, never early. Beyond
    a day it wants periods of an hour.
    """
    names, hours = estate.scope.names, workflow.alarms.missing_after_h
    period_s = PERIOD_S if hours <= DAY_H else 3600
    periods = hours * 3600 // period_s
    return Alarm(
        name=names.workflow_alarm("missing", workflow.name),
        tags=estate.tags(PART, workflow.name),
        description=(
            f"No run of {workflow.name} has ended for {hours} h. "
            f"See why: ansible-playbook playbooks/status.yml -l {estate.scope.env}; look at the rule "
            f"{names.rule(workflow.name)} and at the log of {names.function('dispatch')}."
        ),
        namespace=names.metric_namespace,
        metric=RUN_FAILED,  # 0 or 1 at the end of each run: how often it was published is what counts here
        dimensions={WORKFLOW: workflow.name},
        statistic="SampleCount",
        period_s=period_s,
        periods=periods,
        datapoints=periods,
        comparison="LessThanThreshold",
        threshold=1.0,
        missing_data="breaching",
        enabled=True,
        actions={"ALARM": tuple(sorted({estate.scope.topic_arn, *pages}))},
        warm_up_min=min(hours * 60, LONGEST_WARM_UP_MIN),
    )


def _performance_alarm(estate: Estate, workflow: Workflow, asked: Performance) -> Alarm:
    """In alarm from the run that found a number too low until one finds it good again: once, however many runs follow.

    It mails nobody, as the run has mailed its report; its change of state is the event that starts ``retrain``.
    """
    names = estate.scope.names
    return Alarm(
        name=names.workflow_alarm("performance", workflow.name),
        tags=estate.tags(PART, workflow.name),
        description=f"{asked.metric} is below {asked.below:g}, says the last run of {workflow.name}: see its report.",
        namespace=names.metric_namespace,
        metric=asked.metric,
        dimensions={WORKFLOW: workflow.name},
        statistic="Minimum",
        period_s=PERIOD_S,
        periods=1,
        datapoints=1,
        comparison="LessThanThreshold",
        threshold=float(asked.below),
        missing_data="ignore",  # between two runs nothing is measured, and nothing has changed
        enabled=True,
        actions={},
    )


def machinery_alarms(estate: Estate) -> list[Alarm]:
    """What no run can say itself, because it did not start."""
    names = estate.scope.names
    errors = {
        # A single failure is what the backup is for, and one of the backup is mailed as that of its run.
        "dispatch": ("The dispatcher has been failing for 15 minutes; the backup starts the runs: see its log.", 3),
        "watchdog": ("The watchdog broke, so nobody looks after lost runs: see its log.", 1),
    }
    throttled = "AWS throttles the function, so runs start late: ask AWS for more concurrency."
    return [
        *(
            _function_alarm(estate, purpose, "Errors", text, periods=periods)
            for purpose, (text, periods) in errors.items()
        ),
        *(_function_alarm(estate, purpose, "Throttles", throttled) for purpose in FUNCTIONS),
        _function_alarm(estate, "backup", "Errors", "The backup failed: see its log.", mails=False),
        _count_alarm(
            estate,
            names.alarm("backup-took-over"),
            f"The dispatcher could not start a run, the backup took over: see the log of {names.function('dispatch')}.",
            (names.metric_namespace, BACKUP_TOOK_OVER, {}),
        ),
        _count_alarm(
            estate,
            names.alarm("dead-letters"),
            f"In the queue {names.dead_letters} is what nobody could deliver: read why, mend it, start the run by "
            "hand, delete the message.",
            ("AWS/SQS", "ApproximateNumberOfMessagesVisible", {"QueueName": names.dead_letters}),
            mails=True,
        ),
    ]


def any_run_failed(estate: Estate) -> Alarm:
    """A run of any workflow failed: on the metric that has no workflow, so that one alarm watches hundreds."""
    names = estate.scope.names
    text = "A run of some workflow failed. The run has mailed what happened and where its log is."
    return _count_alarm(estate, names.alarm("run-failed"), text, (names.metric_namespace, RUN_FAILED, {}))


def workflow_failed(estate: Estate, pages: tuple[str, ...]) -> CompositeAlarm:
    """A run failed, or one that should have started did not. The rule is as long for one workflow as for 500.

    (AWS: at most 100 alarms and 10,240 characters.)
    """
    names = estate.scope.names
    watched = [names.alarm(each) for each in ("run-failed", "watchdog-errors", "dead-letters")]
    return CompositeAlarm(
        name=names.composite_alarm("workflow-failed"),
        tags=estate.tags(PART),
        description="A run failed, or could not be started. What exactly: see the mails and the alarms in the rule.",
        rule=" OR ".join(f'ALARM("{name}")' for name in watched),
        enabled=True,
        actions={"ALARM": pages} if pages else {},
    )


def _function_alarm(
    estate: Estate, purpose: str, metric: str, description: str, *, periods: int = 1, mails: bool = True
) -> Alarm:
    names = estate.scope.names
    source = ("AWS/Lambda", metric, {"FunctionName": names.function(purpose)})
    name = names.alarm(f"{purpose}-{metric.lower()}")
    return _count_alarm(estate, name, description, source, mails=mails, periods=periods)


def _count_alarm(
    estate: Estate,
    name: str,
    description: str,
    source: tuple[str, str, Mapping[str, str]],
    *,
    workflow: str = "",
    mails: bool = False,
    periods: int = 1,
) -> Alarm:
    """In alarm when a metric (namespace, name, dimensions) that counts trouble is above 0 in ``periods`` in a row."""
    namespace, metric, dimensions = source
    return Alarm(
        name=name,
        tags=estate.tags(PART, workflow),
        description=description,
        namespace=namespace,
        metric=metric,
        dimensions=dimensions,
        statistic="Maximum",  # also of a level, such as the length of a queue, which must not be added up
        period_s=PERIOD_S,
        periods=periods,
        datapoints=periods,
        comparison="GreaterThanThreshold",
        threshold=0.0,
        missing_data="notBreaching",  # AWS publishes nothing where nothing happens
        enabled=True,
        actions={"ALARM": (estate.scope.topic_arn,)} if mails else {},
    )
