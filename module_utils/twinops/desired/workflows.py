"""What starts workflow runs: a rule for events and times in UTC, a schedule for times in a zone of its own, and the
functions that serve all workflows. See docs/adr/0011.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from .. import data_sources, policies
from ..errors import SpecError
from ..resources import Function, Layer, LogGroup, Queue, Resource, Rule, Schedule, ScheduleGroup
from ..runs import SCHEDULED_EVENT
from ..schedule import UTC
from ..spec import for_environment
from .common import Estate, Options, Workflow
from .observability import RETENTION_DAYS

PART = "workflows"

OPTIONS = {
    "runtime": {"type": "str", "default": "python3.12"},
    "retention_days": {"type": "int", "default": 365, "choices": RETENTION_DAYS},
    "data_sources": data_sources.LIST,
}

INPUT_TEMPLATE_LIMIT = 8192
"""Characters of the input template of a rule's target (AWS)."""

DEAD_LETTER_RETENTION_S = 14 * 24 * 3600  # the longest AWS offers: a person has to look at them
FUNCTION_TIMEOUT_S = 60
FUNCTION_MEMORY_MB = 512
MAX_EVENT_AGE_S = 3600
DELIVERY_RETRIES = 185  # the most that Scheduler tries, and what rules do by default; its age ends it before
WATCH_EVERY = "rate(2 minutes)"


def resources(estate: Estate, options: Options) -> tuple[Resource, ...]:
    """Raises SpecError for a workflow whose rule AWS would not take, or that reads a source which nobody declared."""
    _check_data_sources(estate, options)
    log_groups = [workflow_log_group(estate, each, options["retention_days"]) for each in estate.workflows]
    rules = [rule(estate, each) for each in estate.workflows if each.event or not has_own_zone(each)]
    return (*dispatcher(estate, options["runtime"]), *log_groups, *rules, *schedules(estate))


def has_own_zone(workflow: Workflow) -> bool:
    """Whether its schedule is one that rules, which know UTC only, cannot keep."""
    return bool(workflow.schedule) and workflow.timezone != UTC


def _check_data_sources(estate: Estate, options: Options) -> None:
    known = {source.name for source in data_sources.parse(options["data_sources"])}
    mistakes = [
        mistake
        for workflow in estate.workflows
        for mistake in data_sources.check_known(workflow.data_sources, known, f"workflows/{workflow.name}/workflow.yml")
    ]
    if mistakes:
        raise SpecError(mistakes)


def workflow_log_group(estate: Estate, workflow: Workflow, retention_days: int) -> LogGroup:
    return LogGroup(
        name=estate.scope.names.workflow_log_group(workflow.name),
        tags=estate.tags(PART, workflow.name),
        retention_days=retention_days,
    )


def rule(estate: Estate, workflow: Workflow) -> Rule:
    """The rule of a workflow. Its input names the workflow, so that one function serves them all.

    Raises SpecError if the input is larger than AWS takes.
    """
    scope, template = estate.scope, input_template(workflow, estate.git_sha)
    if len(template) > INPUT_TEMPLATE_LIMIT:
        where = f"workflows/{workflow.name}/workflow.yml"
        raise SpecError([f"{where}: expected an input template of at most {INPUT_TEMPLATE_LIMIT}, got {len(template)}"])
    return Rule(
        name=scope.names.rule(workflow.name),
        tags=estate.tags(PART, workflow.name),
        description=workflow.description,
        enabled=True,
        schedule="" if has_own_zone(workflow) else workflow.schedule or "",
        pattern=for_environment(workflow.event or {}, scope.env),
        target=scope.function_arn("dispatch"),
        input_paths={"id": "$.id", "time": "$.time", "type": "$.detail-type", "detail": "$.detail"},
        input_template=template,
        dead_letters=scope.dead_letters_arn,
    )


def input_template(workflow: Workflow, git_sha: str) -> str:
    """What EventBridge sends to the dispatcher. ``<…>`` are filled in by EventBridge, which quotes strings itself."""
    pairs = [
        f'"workflow": {json.dumps(workflow.name)}',
        '"event_id": <id>',
        '"time": <time>',
        '"detail-type": <type>',
        '"detail": <detail>',
        *(f'"{key}": {json.dumps(value)}' for key, value in _of_spec(workflow, git_sha).items()),
    ]
    return "{" + ", ".join(pairs) + "}"


def schedules(estate: Estate) -> tuple[Resource, ...]:
    """The schedules of workflows with a zone of their own, and their group; nothing where there is no such workflow."""
    zoned = [each for each in estate.workflows if has_own_zone(each)]
    if not zoned:
        return ()
    group = ScheduleGroup(name=estate.scope.names.schedule_group, tags=estate.tags(PART))
    return (group, *(schedule(estate, each) for each in zoned))


def schedule(estate: Estate, workflow: Workflow) -> Schedule:
    """The schedule of a workflow in its own zone."""
    scope = estate.scope
    return Schedule(
        name=scope.names.schedule(workflow.name),
        tags={},
        group=scope.names.schedule_group,
        description=workflow.description,
        enabled=True,
        expression=workflow.schedule or "",
        timezone=workflow.timezone,
        flexible_window="OFF",
        target=scope.function_arn("dispatch"),
        role=scope.role_arn(policies.SCHEDULER),
        input=schedule_input(workflow, estate.git_sha),
        max_event_age_s=MAX_EVENT_AGE_S,
        retries=DELIVERY_RETRIES,
        dead_letters=scope.dead_letters_arn,
    )


def schedule_input(workflow: Workflow, git_sha: str) -> str:
    """What Scheduler sends to the dispatcher: the same as a rule's tick, so that both are told apart by nothing.

    The time is the one that was scheduled, at every attempt: a repeated delivery finds its run claimed. (Scheduler's
    execution id is another one at each attempt.)
    """
    scheduled = "<aws.scheduler.scheduled-time>"
    event = {
        "workflow": workflow.name,
        "event_id": f"{workflow.name}@{scheduled}",
        "time": scheduled,
        "detail-type": SCHEDULED_EVENT,
        "detail": {},
    }
    return json.dumps({**event, **_of_spec(workflow, git_sha)})


def _of_spec(workflow: Workflow, git_sha: str) -> dict[str, object]:
    """What an event has to say of the spec, for who starts its run."""
    return {
        "git_sha": git_sha,
        "timeout_s": workflow.timeout_s,
        "idempotent": workflow.idempotent,
        "concurrency": workflow.concurrency,
    }


def dispatcher(estate: Estate, runtime: str) -> tuple[Resource, ...]:
    """The one function that serves all workflows, its backup, the watchdog that looks after lost runs, their layer, and
    the queue of what none of them could deliver.

    Each is told of the failures of the one before: dispatch, backup, watchdog, queue.
    """
    scope, code = estate.scope, estate.code
    queue = Queue(
        name=scope.names.dead_letters,
        tags=estate.tags(PART),
        retention_s=DEAD_LETTER_RETENTION_S,
        encrypted=True,
        policy=policies.dead_letters(scope),
    )
    layer = Layer(name=scope.names.layer, tags={}, sha256=code.layer_sha256)
    backup = _function(estate, runtime, "backup", on_failure=scope.function_arn("watchdog"), permissions={})
    from_rules = {"rules": ("events.amazonaws.com", scope.arn("events", f"rule/{scope.names.prefix}*"))}
    dispatch = _function(estate, runtime, "dispatch", on_failure=scope.function_arn("backup"), permissions=from_rules)
    return (queue, layer, backup, dispatch, *_watchdog(estate, runtime))


def _watchdog(estate: Estate, runtime: str) -> tuple[Resource, ...]:
    scope = estate.scope
    tick = scope.arn("events", f"rule/{scope.names.watchdog_rule}")
    function = _function(
        estate,
        runtime,
        "watchdog",
        on_failure=scope.dead_letters_arn,
        permissions={"tick": ("events.amazonaws.com", tick)},
    )
    rule = Rule(
        name=scope.names.watchdog_rule,
        tags=estate.tags(PART),
        description="Has the watchdog look after runs that do not get on.",
        enabled=True,
        schedule=WATCH_EVERY,
        pattern={},
        target=scope.function_arn("watchdog"),
        input_paths={"time": "$.time"},
        input_template='{"watchdog": "tick", "time": <time>}',
        dead_letters=scope.dead_letters_arn,
    )
    return (function, rule)


def _function(
    estate: Estate,
    runtime: str,
    purpose: str,
    *,
    on_failure: str,
    permissions: Mapping[str, tuple[str, str]],
) -> Function:
    descriptions = {
        "dispatch": "Starts a workflow run on the deployment twin.",
        "backup": "Starts a run that the dispatcher could not start, or one asked for by hand.",
        "watchdog": "Looks after runs that are lost, that nobody started, or that nobody could start.",
    }
    scope, code = estate.scope, estate.code
    return Function(
        name=scope.names.function(purpose),
        tags=estate.tags(PART),
        description=descriptions[purpose],
        code_sha256=code.code_sha256,
        handler=f"dispatch.handler.{purpose}",
        runtime=runtime,
        role=scope.role_arn("dispatch"),
        layer=f"{scope.names.layer}@{code.layer_sha256}",
        memory_mb=FUNCTION_MEMORY_MB,
        timeout_s=FUNCTION_TIMEOUT_S,
        environment={
            "TWINOPS_ENV": scope.env,
            "LEDGER_TABLE": scope.names.ledger,
            "TWIN": scope.names.twin("deployment"),
            "TOPIC_ARN": scope.topic_arn,
        },
        retries=1,
        max_event_age_s=MAX_EVENT_AGE_S,
        on_failure=on_failure,
        permissions=permissions,
    )
