"""Workflow specs: what ``workflows/<name>/workflow.yml`` may say, checked before anything is touched. Pure.

:func:`parse_workflow` finds every mistake in one go and says where it is, what was expected and what is there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import data_sources
from .errors import SpecError
from .locks import RENEW, parse_lock
from .runs import CONCURRENCY, QUEUE
from .schedule import UTC, rate_h, schedule_mistake, timezone_mistake

NOTEBOOK = "notebook.ipynb"
ENTRYPOINTS = ("run.py", NOTEBOOK)
NOTEBOOK_PACKAGES = ("papermill", "ipykernel")
"""What executes a notebook."""
LONGEST_TIMEOUT_S = 43200
PARAMETER_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}

SHARED_LOCK = "requirements.txt"
"""In ``workflows/``: the environment of every workflow that has no lock of its own."""
TWIN = "twin"
ENGINES = (TWIN,)
TOPICS = ("workflows",)
LINK = "link"
ATTACHMENTS = (LINK, "none")

_FOLDER = re.compile(r"[a-z][a-z0-9_]{0,40}")
OF_ENVIRONMENT = "<env>"
"""In the event of a spec: stands for the environment that it is deployed to."""
METRIC = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,60}")
PLOTTED_MAX = 4
"""As many as one graph can tell apart."""
PARAMETER = re.compile(r"[a-z][a-z0-9_]{0,40}")
LOCK = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}\.txt")
_DURATION = re.compile(r"([1-9][0-9]{0,3})([hd])")
LONGEST_MISSING_H = 7 * 24
"""An alarm of CloudWatch looks back seven days at most (PutMetricAlarm, ``EvaluationPeriods``)."""
MAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
REQUIRED = ("description", "owner", "entrypoint", "timeout_s")
OPTIONAL = (
    *("schedule", "timezone", "event", "parameters", "idempotent", "concurrency", "environment", "report", "alarms"),
    *("dashboard", "data_sources", "engine"),
)
EVENT_FIELDS = ("source", "detail-type", "detail", "account", "region", "resources", "time", "id", "version")
EVENT_FILTERS = (
    "prefix",
    "suffix",
    "anything-but",
    "numeric",
    "exists",
    "cidr",
    "equals-ignore-case",
    "wildcard",
)


@dataclass(frozen=True)
class Parameter:
    """A value that an event may override; ``type`` is string, integer, number or boolean."""

    name: str
    type: str
    default: object


@dataclass(frozen=True)
class Environment:
    """The Python packages that the script has: those of ``lock``, a file beside the spec; empty: of SHARED_LOCK."""

    lock: str = ""


@dataclass(frozen=True)
class Report:
    """Where the mail about a run goes: ``topic`` is a purpose of docs/interfaces.md, "Names".

    ``attach``: with ``link`` the mail has a link that opens the report without AWS credentials, for a few hours.
    """

    topic: str = "workflows"
    attach: str = "none"


@dataclass(frozen=True)
class Performance:
    """A number of the script's ``metrics.json`` that is too low ``below`` this."""

    metric: str
    below: float


@dataclass(frozen=True)
class Alarms:
    """When to raise an alarm: a run ``failed``; none has ended for ``missing_after_h`` hours (0: never asked); a number
    that a run found is too low (``performance``)."""

    failed: bool = True
    missing_after_h: int = 0
    performance: Performance | None = None


@dataclass(frozen=True)
class Workflow:
    """A checked spec. At least one of ``schedule`` and ``event`` is set."""

    name: str
    description: str
    owner: str
    entrypoint: str
    timeout_s: int
    schedule: str | None = None
    timezone: str = UTC
    """In which the schedule is meant; a name of the IANA database."""
    event: Mapping[str, Any] | None = None
    parameters: tuple[Parameter, ...] = ()
    idempotent: bool = False
    concurrency: str = QUEUE
    """What happens while another run of it is at work: forbid (skipped), queue (waits) or allow (starts as well)."""
    environment: Environment = field(default_factory=Environment)
    report: Report = field(default_factory=Report)
    alarms: Alarms = field(default_factory=Alarms)
    dashboard: tuple[str, ...] = ()
    """Numbers of its ``metrics.json`` that the dashboard plots: ``Drift`` also stands for ``Drift.levels``."""
    data_sources: tuple[str, ...] = ()
    """Names of the environment's data sources that it reads."""
    engine: str = TWIN
    """What runs it."""

    @property
    def lock(self) -> str:
        """Path of the lock of its environment, below ``workflows/``."""
        return f"{self.name}/{self.environment.lock}" if self.environment.lock else SHARED_LOCK


def parse_workflow(
    data: object, where: str, files: Collection[str], read_lock: Callable[[str], str | None] | None = None
) -> Workflow:
    """The workflow that ``data`` (parsed YAML) describes.

    ``where`` is the path of the spec, ``<...>/<workflow name>/workflow.yml``; ``files`` names the files beside it.
    ``read_lock`` gives the text of a lock file by its path (beginning as ``where`` does), or ``None`` if it cannot be
    read; without it the content of locks is not looked at.

    :raises SpecError: every mistake, one a line
    """
    mistakes = [f"{where}: {mistake}" for mistake in _mistakes(data, where, files)]
    if read_lock and isinstance(data, dict):
        mistakes += _lock_mistakes(data, where, read_lock)
    if mistakes or not isinstance(data, dict):
        raise SpecError(mistakes)
    return Workflow(
        name=_folder(where),
        description=data["description"].strip(),
        owner=data["owner"],
        entrypoint=data["entrypoint"],
        timeout_s=data["timeout_s"],
        schedule=data.get("schedule"),
        timezone=data.get("timezone", UTC),
        event=data.get("event"),
        parameters=tuple(
            Parameter(name, parameter["type"], parameter["default"])
            for name, parameter in data.get("parameters", {}).items()
        ),
        idempotent=data.get("idempotent", False),
        concurrency=data.get("concurrency", QUEUE),
        environment=Environment(**data.get("environment", {})),
        report=Report(**data.get("report", {})),
        alarms=_alarms(data.get("alarms", {})),
        dashboard=tuple(data.get("dashboard", ())),
        data_sources=tuple(data.get("data_sources", ())),
        engine=data.get("engine", TWIN),
    )


def _alarms(data: Mapping[str, Any]) -> Alarms:
    missing_after = data.get("missing_after")
    return Alarms(
        failed=data.get("failed", True),
        missing_after_h=_hours(missing_after) if missing_after else 0,
        performance=Performance(**data["performance"]) if "performance" in data else None,
    )


def _hours(duration: str) -> int:
    """Hours of a duration like 26h or 3d; 0 for what is none."""
    match = _DURATION.fullmatch(duration)
    return int(match[1]) * (24 if match[2] == "d" else 1) if match else 0


def merge_parameters(workflow: Workflow, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of a workflow with what an event overrides.

    :raises SpecError: an override is unknown or has another type
    """
    known = {parameter.name: parameter for parameter in workflow.parameters}
    mistakes = []
    for name, value in overrides.items():
        if name not in known:
            mistakes.append(f"{workflow.name}: parameters.{name}: expected one of {_names(known)}, got an unknown name")
        elif not _has_type(value, known[name].type):
            mistakes.append(f"{workflow.name}: parameters.{name}: expected {_a(known[name].type)}, got {value!r}")
    if mistakes:
        raise SpecError(mistakes)
    return {name: parameter.default for name, parameter in known.items()} | dict(overrides)


def matching_event(workflow: Workflow) -> dict[str, Any]:
    """``{"source", "detail-type", "detail"}`` of an event that the workflow's pattern matches, for starting it by hand.

    :raises SpecError: the workflow has no pattern, or only a filter decides it, or AWS reserves the source
    """
    if workflow.event is None:
        raise SpecError([f"{workflow.name}: event: expected a pattern, the workflow has only a schedule"])
    fixed = sorted(set(workflow.event) - {"source", "detail-type", "detail"})
    if fixed:
        raise SpecError([f"{workflow.name}: event.{fixed[0]}: expected no condition that a put event cannot fulfil"])
    example = _example(workflow.event, f"{workflow.name}: event")
    example = {"source": "twinops", "detail-type": "Started by hand", "detail": {}} | example
    if str(example["source"]).startswith("aws."):
        raise SpecError([f"{workflow.name}: event.source: expected a source of ours, AWS reserves {example['source']}"])
    return example


def for_environment(pattern: Any, env: str) -> Any:
    """A pattern with ``<env>`` in its texts replaced: an alarm of staging must not start a workflow of production."""
    if isinstance(pattern, str):
        return pattern.replace(OF_ENVIRONMENT, env)
    if isinstance(pattern, Mapping):
        return {key: for_environment(value, env) for key, value in pattern.items()}
    return [for_environment(value, env) for value in pattern] if isinstance(pattern, (list, tuple)) else pattern


def by_aws(workflow: Workflow) -> bool:
    """Whether only AWS itself can put the events that start it."""
    sources = (workflow.event or {}).get("source", [])
    return bool(sources) and all(isinstance(one, str) and one.startswith("aws.") for one in sources)


def _example(pattern: Mapping[str, Any], where: str) -> dict[str, Any]:
    example: dict[str, Any] = {}
    for key, condition in pattern.items():
        if isinstance(condition, Mapping):
            example[key] = _example(condition, f"{where}.{key}")
            continue
        literals = [value for value in condition if not isinstance(value, Mapping)]
        if not literals:
            raise SpecError([f"{where}.{key}: expected a plain value to put into an event, got only filters"])
        example[key] = literals[0]
    return example


def _folder(where: str) -> str:
    return where.replace("\\", "/").rstrip("/").split("/")[-2] if "/" in where else ""


def _mistakes(data: object, where: str, files: Collection[str]) -> Iterator[str]:
    """Every mistake as ``field: expected ..., got ...``, in the order of the file."""
    if not _FOLDER.fullmatch(_folder(where)):
        yield f"folder: expected a name like model_evaluation ({_FOLDER.pattern}), got {_folder(where)!r}"
    if not isinstance(data, dict):
        yield f"expected a mapping of fields, got {_kind(data)}"
        return
    for key in data:
        if key not in REQUIRED + OPTIONAL:
            yield f"{key}: expected one of {_names(REQUIRED + OPTIONAL)}, got an unknown key"
    for key in REQUIRED:
        if key not in data:
            yield f"{key}: expected a value, it is missing"
    if data.get("schedule") is None and data.get("event") is None:
        yield "schedule, event: expected at least one of the two, both are missing"
    for key, check in _CHECKS.items():
        if key in data:
            yield from (f"{key}{mistake}" for mistake in check(data[key], files))
    yield from _zone_mistakes(data)
    yield from _patience_mistakes(data.get("schedule"), data.get("alarms"))


def _check_description(value: object, _files: Collection[str]) -> Iterator[str]:
    if not isinstance(value, str) or not value.strip():
        yield f": expected a sentence, got {_kind(value)}"


def _check_owner(value: object, _files: Collection[str]) -> Iterator[str]:
    if not isinstance(value, str) or not MAIL.fullmatch(value):
        yield f": expected a mail address, got {value!r}"


def _check_entrypoint(value: object, files: Collection[str]) -> Iterator[str]:
    if value not in ENTRYPOINTS:
        yield f": expected {' or '.join(ENTRYPOINTS)}, got {value!r}"
    elif value not in files:
        yield f": expected a file {value} beside the spec, there is none"


def _check_timeout(value: object, _files: Collection[str]) -> Iterator[str]:
    if not _has_type(value, "integer"):
        yield f": expected an integer, got {_kind(value)}"
    elif not 1 <= value <= LONGEST_TIMEOUT_S:  # type: ignore[operator]
        yield f": expected 1–{LONGEST_TIMEOUT_S}, got {value}"


def _check_idempotent(value: object, _files: Collection[str]) -> Iterator[str]:
    if not isinstance(value, bool):
        yield f": expected true or false, got {value!r}"


def _check_concurrency(value: object, _files: Collection[str]) -> Iterator[str]:
    if value not in CONCURRENCY:
        yield f": expected one of {_names(CONCURRENCY)}, got {value!r}"


def _check_schedule(value: object, _files: Collection[str]) -> Iterator[str]:
    if not isinstance(value, str):
        yield f": expected cron(...) or rate(...), got {_kind(value)}"
    elif mistake := schedule_mistake(value):
        yield f": {mistake}"


def _check_timezone(value: object, _files: Collection[str]) -> Iterator[str]:
    if not isinstance(value, str):
        yield f": expected a time zone of the IANA database, like Europe/Berlin, got {_kind(value)}"
    elif mistake := timezone_mistake(value):
        yield f": {mistake}"


def _zone_mistakes(data: Mapping[str, Any]) -> Iterator[str]:
    """A zone without anything in it: it would be ignored, and its author would not get to know that."""
    if "timezone" not in data:
        return
    schedule = data.get("schedule")
    if schedule is None:
        yield "timezone: expected a schedule that it is for, there is none"
    elif isinstance(schedule, str) and schedule.startswith("rate("):
        yield f"timezone: expected it with cron(...) only, got {schedule}, which is the same in every zone"


def _check_environment(value: object, files: Collection[str]) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f": expected a mapping, got {_kind(value)}"
        return
    for key, lock in value.items():
        if key != "lock":
            yield f".{key}: expected lock, got an unknown key"
        elif not isinstance(lock, str) or not LOCK.fullmatch(lock):
            yield f".lock: expected the name of a file beside the spec, like requirements.txt, got {lock!r}"
        elif lock not in files:
            yield f".lock: expected a file {lock} beside the spec, there is none ({RENEW} from a requirements.in)"


def _lock_mistakes(data: Mapping[str, Any], where: str, read_lock: Callable[[str], str | None]) -> Iterator[str]:
    """What is wrong in the lock that a spec asks for, with the path of the lock."""
    folder = where.rpartition("/")[0]
    path = f"{folder.rpartition('/')[0]}/{SHARED_LOCK}"
    environment = data.get("environment")
    if isinstance(environment, dict) and "lock" in environment:
        lock = environment["lock"]
        if not isinstance(lock, str) or not LOCK.fullmatch(lock):
            return  # which is a mistake of the spec
        path = f"{folder}/{lock}"
    text = read_lock(path)
    if text is None:
        return
    found = parse_lock(text)
    yield from (f"{path}:{mistake}" for mistake in found.mistakes)
    missing = [package for package in NOTEBOOK_PACKAGES if package not in found.packages]
    if data.get("entrypoint") == NOTEBOOK and missing:
        yield f"{path}: expected {' and '.join(missing)}, to execute {folder}/{NOTEBOOK}; missing"


def _check_engine(value: object, _files: Collection[str]) -> Iterator[str]:
    if value == "airflow":
        yield ": expected twin, got 'airflow', and Airflow is not part of this version"
    elif value not in ENGINES:
        yield f": expected {_names(ENGINES)}, got {value!r}"


def _check_report(value: object, _files: Collection[str]) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f": expected a mapping, got {_kind(value)}"
        return
    choices = {"topic": TOPICS, "attach": ATTACHMENTS}
    for key, choice in value.items():
        if key not in choices:
            yield f".{key}: expected {' or '.join(choices)}, got an unknown key"
        elif choice not in choices[key]:
            yield f".{key}: expected {' or '.join(choices[key])}, got {choice!r}"


def _check_alarms(value: object, _files: Collection[str]) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f": expected a mapping, got {_kind(value)}"
        return
    for key in value:
        if key not in ("failed", "missing_after", "performance"):
            yield f".{key}: expected failed, missing_after or performance, got an unknown key"
    if not isinstance(value.get("failed", True), bool):
        yield f".failed: expected true or false, got {value['failed']!r}"
    missing_after = value.get("missing_after", "1h")
    if not isinstance(missing_after, str) or not 1 <= _hours(missing_after) <= LONGEST_MISSING_H:
        yield f".missing_after: expected hours or days up to 7d, like 26h or 2d, got {missing_after!r}"
    if "performance" in value:
        yield from _performance_mistakes(value["performance"])


def _performance_mistakes(asked: object) -> Iterator[str]:
    if not isinstance(asked, dict) or set(asked) != {"metric", "below"}:
        yield f".performance: expected {{metric, below}}, got {_kind(asked) if not isinstance(asked, dict) else asked}"
        return
    if not isinstance(asked["metric"], str) or not METRIC.fullmatch(asked["metric"]):
        yield f".performance.metric: expected a name in metrics.json like MacroF1, got {asked['metric']!r}"
    if not _has_type(asked["below"], "number"):
        yield f".performance.below: expected a number, got {asked['below']!r}"


def _patience_mistakes(schedule: object, alarms: object) -> Iterator[str]:
    """A workflow that runs once a day is not missing after twelve hours: that alarm would never be quiet."""
    missing_after = alarms.get("missing_after") if isinstance(alarms, dict) else None
    if isinstance(schedule, str) and isinstance(missing_after, str):
        hours, pause_h = _hours(missing_after), rate_h(schedule)
        if hours and pause_h and hours <= pause_h:
            yield f"alarms.missing_after: expected more than the {pause_h:g} h of {schedule}, got {missing_after!r}"


def _check_dashboard(value: object, _files: Collection[str]) -> Iterator[str]:
    yield from _names_mistakes(value, METRIC, example="MacroF1")
    if isinstance(value, list) and len(value) > PLOTTED_MAX:
        yield f": expected at most {PLOTTED_MAX} names, got {len(value)}"


def _check_data_sources(value: object, _files: Collection[str]) -> Iterator[str]:
    yield from _names_mistakes(value, data_sources.NAME, example="plant")


def _names_mistakes(value: object, form: re.Pattern[str], *, example: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f": expected a list of names, got {_kind(value)}"
        return
    for position, name in enumerate(value):
        if not isinstance(name, str) or not form.fullmatch(name):
            yield f": expected names like {example} ({form.pattern}), got {name!r}"
        elif name in value[:position]:
            yield f": expected each name once, got {name} again"


def _check_parameters(value: object, _files: Collection[str]) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f": expected a mapping of parameters, got {_kind(value)}"
        return
    for name, parameter in value.items():
        if not isinstance(name, str) or not PARAMETER.fullmatch(name):
            yield f".{name}: expected a name like lookback_h ({PARAMETER.pattern})"
        yield from (f".{name}{mistake}" for mistake in _parameter_mistakes(parameter))


def _parameter_mistakes(parameter: object) -> Iterator[str]:
    if not isinstance(parameter, dict):
        yield f": expected {{type, default}}, got {_kind(parameter)}"
        return
    for key in parameter:
        if key not in ("type", "default"):
            yield f".{key}: expected type or default, got an unknown key"
    kind = parameter.get("type")
    if not isinstance(kind, str) or kind not in PARAMETER_TYPES:
        yield f".type: expected one of {_names(PARAMETER_TYPES)}, got {kind!r}"
    elif "default" not in parameter:
        yield ".default: expected a value, it is missing"
    elif not _has_type(parameter["default"], kind):
        yield f".default: expected {_a(kind)}, got {parameter['default']!r}"


def _check_event(value: object, _files: Collection[str]) -> Iterator[str]:
    if not isinstance(value, dict) or not value:
        yield f": expected an EventBridge pattern, got {_kind(value)}"
        return
    for key in value:
        if key not in (*EVENT_FIELDS, "$or"):
            yield f".{key}: expected one of {_names(EVENT_FIELDS)}, got an unknown key"
    yield from _pattern_mistakes(value)


def _pattern_mistakes(pattern: Mapping[Any, Any], where: str = "") -> Iterator[str]:
    """Mistakes of a pattern: every leaf is a list, its elements plain values or one known filter each."""
    for key, condition in pattern.items():
        here = f"{where}.{key}"
        if key == "$or":
            yield from _alternatives_mistakes(condition, here)
        elif isinstance(condition, dict):
            if not condition:
                yield f"{here}: expected at least one condition, got an empty mapping"
            yield from _pattern_mistakes(condition, here)
        elif not isinstance(condition, list):
            yield f"{here}: expected a list of values, got {condition!r}"
        elif not condition:
            yield f"{here}: expected at least one value, got an empty list"
        else:
            yield from _value_mistakes(condition, here)


def _alternatives_mistakes(alternatives: object, here: str) -> Iterator[str]:
    if not isinstance(alternatives, list) or not alternatives:
        yield f"{here}: expected a list of patterns, got {_kind(alternatives)}"
        return
    for number, alternative in enumerate(alternatives):
        if isinstance(alternative, dict):
            yield from _pattern_mistakes(alternative, f"{here}[{number}]")
        else:
            yield f"{here}[{number}]: expected a pattern, got {_kind(alternative)}"


def _value_mistakes(values: list[Any], here: str) -> Iterator[str]:
    for number, value in enumerate(values):
        if isinstance(value, list):
            yield f"{here}[{number}]: expected a value or a filter, got a list"
        elif isinstance(value, dict) and (len(value) != 1 or next(iter(value)) not in EVENT_FILTERS):
            yield f"{here}[{number}]: expected one filter of {_names(EVENT_FILTERS)}, got {_names(value)}"


_CHECKS = {
    "description": _check_description,
    "owner": _check_owner,
    "entrypoint": _check_entrypoint,
    "schedule": _check_schedule,
    "timezone": _check_timezone,
    "event": _check_event,
    "parameters": _check_parameters,
    "timeout_s": _check_timeout,
    "idempotent": _check_idempotent,
    "concurrency": _check_concurrency,
    "environment": _check_environment,
    "report": _check_report,
    "alarms": _check_alarms,
    "dashboard": _check_dashboard,
    "data_sources": _check_data_sources,
    "engine": _check_engine,
}


def _has_type(value: object, kind: str) -> bool:
    if isinstance(value, bool):  # a bool is an int to Python, not to the person who wrote the spec
        return kind == "boolean"
    return isinstance(value, PARAMETER_TYPES[kind])


def _kind(value: object) -> str:
    """A value's type in the words of YAML."""
    if value is None:
        return "nothing"
    words = {str: "text", bool: "true/false", int: "an integer", float: "a number", list: "a list", dict: "a mapping"}
    word = words.get(type(value), type(value).__name__)
    return "an empty text" if value == "" else word


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _names(names: Collection[Any]) -> str:
    return ", ".join(map(str, names)) or "no names"
