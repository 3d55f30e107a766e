"""The JSON Schema of a workflow spec, by which editors complete and check one while it is written. Pure.

It says what a schema can say of what :mod:`twinops.spec` checks. That a file is there, that a schedule names a day that
exists, that there is such a time zone, what fits together: only the parser knows that. ``python -m
twinops.spec_schema`` prints it (``make schema``).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from . import data_sources, spec
from .runs import CONCURRENCY, QUEUE
from .schedule import TIMEZONE, UTC

Schema = dict[str, Any]

RATE = r"rate\((1 (minute|hour|day)|([2-9]|[1-9][0-9]+) (minutes|hours|days))\)"
CRON = r"cron\([^ ()]+( [^ ()]+){5}\)"
MISSING_AFTER = r"([1-9]|[1-9][0-9]|1[0-5][0-9]|16[0-8])h|[1-7]d"
"""An hour to seven days; a schema has no arithmetic."""

_EXAMPLE_CRON = "cron(0 5 * * ? *)"


def schema() -> Schema:
    """JSON Schema, draft 2020-12."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Workflow of twinops",
        "description": "workflows/<name>/workflow.yml: when a script or notebook runs on the deployment twin, and how.",
        "type": "object",
        "required": list(spec.REQUIRED),
        "anyOf": [{"required": ["schedule"]}, {"required": ["event"]}],
        "dependentSchemas": {
            "timezone": {"required": ["schedule"], "properties": {"schedule": {"pattern": r"^cron\("}}}
        },
        "additionalProperties": False,
        "properties": _fields(),
        "$defs": {"pattern": _pattern(), "condition": _condition()},
    }


def _fields() -> Schema:
    return {
        "description": _text(r"\S", "What it does, as a sentence. Shown in AWS and in its mails.", anchored=False),
        "owner": _text(spec.MAIL.pattern, "Mail address of who answers for it.", examples=["mlops@example.com"]),
        "entrypoint": _choice(spec.ENTRYPOINTS, "The file of this folder that is run. A notebook is kept as it ran."),
        "schedule": _text(
            f"{RATE}|{CRON}",
            "When it runs: rate(...), or cron(minutes hours day-of-month month day-of-week year).",
            examples=[_EXAMPLE_CRON, "rate(1 hour)"],
        ),
        "timezone": _text(
            TIMEZONE.pattern,
            "The time zone of its cron(...): one of the IANA database. An hour that a switch to daylight saving time "
            "leaves out is left out; one that comes twice counts once.",
            default=UTC,
            examples=["Europe/Berlin"],
        ),
        "event": _event(),
        "parameters": _parameters(),
        "timeout_s": {
            "description": "Seconds after which its script is ended, with everything that the script has started.",
            "type": "integer",
            "minimum": 1,
            "maximum": spec.LONGEST_TIMEOUT_S,
            "examples": [900],
        },
        "idempotent": _truth(
            "Whether a run that was lost may be repeated by itself: repeating one must do no harm.", default=False
        ),
        "concurrency": _choice(
            CONCURRENCY,
            "What a run does while another one of this workflow is at work: forbid, it is skipped; queue, it waits its "
            "turn; allow, it starts as well.",
            default=QUEUE,
        ),
        "environment": _mapping(
            "The Python packages that its script has; without it those of workflows/requirements.txt.",
            {
                "lock": _text(
                    spec.LOCK.pattern,
                    "A file of this folder with a version and hashes for every package. `make lock` writes "
                    "requirements.txt from requirements.in.",
                    examples=[spec.SHARED_LOCK],
                )
            },
        ),
        "report": _report(),
        "alarms": _alarms(),
        "dashboard": {
            "description": "What the dashboard plots of it.",
            "type": "array",
            "uniqueItems": True,
            "maxItems": spec.PLOTTED_MAX,
            "items": _text(
                spec.METRIC.pattern,
                "A name in the metrics.json of its runs; Drift also stands for Drift.levels.",
                examples=["MacroF1"],
            ),
        },
        "data_sources": {
            "description": "Which of the environment's data_access_sources it reads.",
            "type": "array",
            "uniqueItems": True,
            "items": _text(data_sources.NAME.pattern, "A name in data_access_sources of the inventory."),
        },
        "engine": _choice(spec.ENGINES, "What runs it: the deployment twin.", default=spec.TWIN),
    }


def _report() -> Schema:
    return _mapping(
        "How the mail about a run is sent.",
        {
            "topic": _choice(spec.TOPICS, "Who gets it: the subscribers of this topic.", default=spec.TOPICS[0]),
            "attach": _choice(
                spec.ATTACHMENTS,
                "link: the mail has a link that opens report.html for a few hours, for whoever has the mail.",
                default="none",
            ),
        },
    )


def _alarms() -> Schema:
    return _mapping(
        "When CloudWatch raises an alarm.",
        {
            "failed": _truth("When a run has failed.", default=True),
            "missing_after": _text(
                MISSING_AFTER,
                "When no run has ended for so many hours or days (7d at most); more than its schedule's pause.",
                examples=["26h", "2d"],
            ),
            "performance": {
                **_mapping(
                    "When a number that a run found is too low. The alarm is an event that a workflow may start by.",
                    {
                        "metric": _text(
                            spec.METRIC.pattern, "A name in the metrics.json of its runs.", examples=["MacroF1"]
                        ),
                        "below": {"description": "Lower than this is too low.", "type": "number", "examples": [0.9]},
                    },
                ),
                "required": ["metric", "below"],
            },
        },
    )


def _parameters() -> Schema:
    kinds = list(spec.PARAMETER_TYPES)
    return {
        "description": "What an event, or who starts it by hand, may override. The script finds it in its run.",
        "type": "object",
        "propertyNames": {"pattern": _whole(spec.PARAMETER.pattern)},
        "additionalProperties": {
            "type": "object",
            "required": ["type", "default"],
            "additionalProperties": False,
            "properties": {
                "type": _choice(kinds, "What its values are."),
                "default": {"description": "Its value where the event says nothing, of the same type."},
            },
            "allOf": [
                {
                    "if": {"properties": {"type": {"const": kind}}, "required": ["type"]},
                    "then": {"properties": {"default": {"type": kind}}},
                }
                for kind in kinds
            ],
        },
    }


def _event() -> Schema:
    condition = {"$ref": "#/$defs/condition"}
    return {
        "description": "Events that start it: an EventBridge pattern. Every leaf is a list of values or filters.",
        "type": "object",
        "minProperties": 1,
        "additionalProperties": False,
        "properties": {**dict.fromkeys(spec.EVENT_FIELDS, condition), "$or": _alternatives()},
        "examples": [{"source": ["twinops"], "detail-type": ["Rollout finished"]}],
    }


def _pattern() -> Schema:
    return {
        "type": "object",
        "properties": {"$or": _alternatives()},
        "additionalProperties": {"$ref": "#/$defs/condition"},
    }


def _condition() -> Schema:
    one_filter = {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "propertyNames": {"enum": list(spec.EVENT_FILTERS)},
    }
    values = {
        "type": "array",
        "minItems": 1,
        "items": {"anyOf": [{"type": ["string", "number", "boolean", "null"]}, one_filter]},
    }
    return {"anyOf": [values, {"$ref": "#/$defs/pattern", "minProperties": 1}]}


def _alternatives() -> Schema:
    return {
        "description": "Patterns of which one has to match.",
        "type": "array",
        "minItems": 1,
        "items": {"$ref": "#/$defs/pattern"},
    }


def _whole(pattern: str) -> str:
    return f"^({pattern})$"


def _text(pattern: str, description: str, *, anchored: bool = True, **more: Any) -> Schema:
    return {
        "description": description,
        "type": "string",
        "pattern": _whole(pattern) if anchored else pattern,
        **more,
    }


def _choice(values: Any, description: str, **more: Any) -> Schema:
    return {"description": description, "enum": list(values), **more}


def _truth(description: str, *, default: bool) -> Schema:
    return {"description": description, "type": "boolean", "default": default}


def _mapping(description: str, properties: Mapping[str, Schema]) -> Schema:
    return {
        "description": description,
        "type": "object",
        "additionalProperties": False,
        "properties": dict(properties),
    }


def as_json() -> str:
    """The schema as it is published."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(as_json())
