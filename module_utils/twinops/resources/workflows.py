"""What starts workflow runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from .base import Json, Resource


@dataclass(frozen=True)
class Queue(Resource):
    kind: ClassVar[str] = "queue"

    retention_s: int
    encrypted: bool
    policy: Json


@dataclass(frozen=True)
class Layer(Resource):
    """A Lambda layer. Versions are immutable: another ``sha256`` is another version. Layers have no tags."""

    kind: ClassVar[str] = "layer"
    taggable: ClassVar[bool] = False

    sha256: str


@dataclass(frozen=True)
class Function(Resource):
    """``layer`` is ``<name>@<sha256>``; ``permissions`` maps a statement id to (principal, source ARN)."""

    kind: ClassVar[str] = "function"
    needs: ClassVar[tuple[str, ...]] = ("role", "layer", "queue")

    description: str
    code_sha256: str
    handler: str
    runtime: str
    role: str
    layer: str
    memory_mb: int
    timeout_s: int
    environment: Mapping[str, str]
    retries: int
    max_event_age_s: int
    on_failure: str
    permissions: Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class Rule(Resource):
    """An EventBridge rule with one target, whose input names the workflow."""

    kind: ClassVar[str] = "rule"
    needs: ClassVar[tuple[str, ...]] = ("function", "queue")

    description: str
    enabled: bool
    schedule: str
    pattern: Json
    target: str
    input_paths: Mapping[str, str]
    input_template: str
    dead_letters: str


@dataclass(frozen=True)
class ScheduleGroup(Resource):
    """What has the tags of the schedules in it, which have none of their own."""

    kind: ClassVar[str] = "schedule_group"


@dataclass(frozen=True)
class Schedule(Resource):
    """A schedule of EventBridge Scheduler in ``group``; ``expression`` is meant in ``timezone``.

    ``input`` is what the target gets; Scheduler fills in its ``<aws.scheduler...>``.
    """

    kind: ClassVar[str] = "schedule"
    needs: ClassVar[tuple[str, ...]] = ("schedule_group", "role", "function", "queue")
    taggable: ClassVar[bool] = False
    immutable: ClassVar[frozenset[str]] = frozenset({"group"})

    group: str
    description: str
    enabled: bool
    expression: str
    timezone: str
    flexible_window: str
    target: str
    role: str
    input: str
    max_event_age_s: int
    retries: int
    dead_letters: str
