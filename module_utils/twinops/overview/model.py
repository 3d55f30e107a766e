"""The parts of the status document. As JSON, field by field, they are its schema (page/status.schema.json).

Times are ISO 8601 UTC with ``Z``, as in the ledger; an empty text or ``None`` is "not known".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

VERSION = 1

OK, WATCH, ACT, NONE = "ok", "watch", "act", "none"
"""Tones, of a page and of what is on it: fine, keep an eye on it, something has to be done, nothing to judge."""

# health of a device
HEALTHY = "ok"
FAILED = "failed"
STARTING = "starting"
SILENT = "silent"
UNREACHABLE = "unreachable"
WAITING = "waiting"
NO_RELEASE = "no release"
UNKNOWN = "unknown"
TONE_OF_HEALTH: Mapping[str, str] = {
    HEALTHY: OK,
    FAILED: ACT,
    SILENT: WATCH,
    UNREACHABLE: WATCH,
    STARTING: NONE,
    WAITING: NONE,
    NO_RELEASE: NONE,
    UNKNOWN: NONE,
}


@dataclass(frozen=True)
class Source:
    """Something that was read. ``state``: ok, absent (there is nothing of it yet) or failed."""

    name: str
    holds: str
    """What of the page comes from it."""
    state: str
    problem: str = ""


@dataclass(frozen=True)
class Item:
    """Something that a person should look at. ``section``: where on the page; ``health``: which devices of it."""

    tone: str
    text: str
    detail: str = ""
    section: str = ""
    health: str = ""


@dataclass(frozen=True)
class Answer:
    """Is everything fine, and if not, where do I look."""

    tone: str
    headline: str
    items: tuple[Item, ...] = ()


@dataclass(frozen=True)
class Deployed:
    """The release that the environment has: that of its newest completed rollout."""

    release: str
    release_digest: str
    model_digest: str
    git_sha: str
    data_version: str
    at: str
    rollout_id: str
    signed_by: tuple[str, ...] = ()
    """Names of the keys that signed it."""
    approved_by: str = ""


@dataclass(frozen=True)
class Deployment:
    """The last deployment of the whole environment, as its job has recorded it.

    ``state``: deployed, failed, refused (nobody had approved what it would have changed) or running.
    """

    commit: str
    state: str
    by: str
    started_at: str
    ended_at: str
    message: str = ""
    pipeline: str = ""


@dataclass(frozen=True)
class Device:
    """One device of the inventory."""

    name: str
    wave: str
    release: str = ""
    release_digest: str = ""
    model_digest: str = ""
    git_sha: str = ""
    since: str = ""
    """When this release began on it, by its clock."""
    health: str = UNKNOWN
    last_seen: str = ""
    told_by: str = ""
    """``device``: its facts; ``ledger``: what the last rollout found; empty: nobody has told anything."""
    notes: tuple[str, ...] = ()

    @property
    def tone(self) -> str:
        return TONE_OF_HEALTH[self.health]


@dataclass(frozen=True)
class Wave:
    """A wave of a rollout and its gate: passed, failed, held, running, pending or not reached."""

    name: str
    gate: str
    devices: Mapping[str, int]
    """State of a device in the rollout → how many."""
    started_at: str = ""
    ended_at: str = ""


@dataclass(frozen=True)
class Rollout:
    """An attempt to bring a release to the fleet. ``state``: running, completed, blocked or superseded."""

    rollout_id: str
    release: str
    release_digest: str
    model_digest: str
    git_sha: str
    state: str
    reason: str
    started_at: str
    ended_at: str
    waves: tuple[Wave, ...]


@dataclass(frozen=True)
class Run:
    """A run of a workflow, shortened."""

    run_id: str
    state: str
    git_sha: str
    claimed_at: str
    started_at: str = ""
    ended_at: str = ""
    duration_s: float | None = None
    attempt: int = 1
    reason: str = ""
    report: str = ""
    """``s3://`` address of its report."""


@dataclass(frozen=True)
class Workflow:
    """A workflow of the repository or of the ledger, and its newest runs, newest first.

    ``state``: ok, running, failed, missing (it has not run for longer than it may) or never.
    """

    name: str
    description: str
    schedule: str
    state: str
    tone: str
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Finding:
    """A difference: between git and the cloud, or between the data of today and those of the training."""

    kind: str
    """``cloud`` or ``data``."""
    tone: str
    what: str
    detail: str
    at: str


@dataclass(frozen=True)
class Check:
    """A look for drift: when it was, and whether it found something."""

    kind: str
    at: str
    findings: int


@dataclass(frozen=True)
class Alarm:
    """A CloudWatch alarm that is on."""

    name: str
    reason: str
    since: str


@dataclass(frozen=True)
class Quality:
    """What one evaluation found of the release that most devices ran."""

    at: str
    run_id: str
    release: str
    macro_f1: float | None = None
    missed_alarm_rate: float | None = None
    false_alarm_rate: float | None = None
    alarm_rate: float | None = None
    label_coverage: float | None = None
    decisions: float | None = None


@dataclass(frozen=True)
class Document:
    """The status of one environment."""

    schema: int
    env: str
    created_at: str
    commit: str
    """Of the work tree that made it."""
    sources: tuple[Source, ...]
    answer: Answer
    deployed: Deployed | None = None
    deployment: Deployment | None = None
    devices: tuple[Device, ...] = ()
    rollouts: tuple[Rollout, ...] = ()
    workflows: tuple[Workflow, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    drift_checks: tuple[Check, ...] = ()
    drift: tuple[Finding, ...] = ()
    quality: tuple[Quality, ...] = ()


@dataclass(frozen=True)
class Read:
    """What was read of an environment, as its sources have it. What could not be read is empty; ``sources`` says so."""

    env: str
    created_at: str
    commit: str
    sources: tuple[Source, ...]
    waves: Mapping[str, str] = field(default_factory=dict)
    """Device of the inventory → wave."""
    specs: tuple[Any, ...] = ()
    """Workflows (:class:`twinops.spec.Workflow`)."""
    runs: tuple[Mapping[str, Any], ...] = ()
    """Newest first."""
    rollouts: tuple[Mapping[str, Any], ...] = ()
    """Newest first."""
    deployments: tuple[Mapping[str, Any], ...] = ()
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Device → its newest facts (docs/interfaces.md, "Facts"), and ``heard_at``: when they came."""
    alarms: tuple[Mapping[str, Any], ...] = ()
    """As CloudWatch describes them, those that are on."""
    results: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Run → file → content, of the newest runs of workflows that judge."""
    plan: Mapping[str, Any] | None = None
    """What a deployment would change, as a job of the pipeline found it, and ``at``: when."""
    deployment: Mapping[str, Any] | None = None
    """What a job of the pipeline has recorded of the last one."""
    signed_by: tuple[str, ...] = ()
    promotions: Mapping[str, str] = field(default_factory=dict)
    """Digest of a model → who made it the champion last."""
