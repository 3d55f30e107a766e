"""A pipeline and its jobs, and what happens next. Pure, but for reading and writing the record."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from twinops.edge import durable

CREATED, RUNNING, MANUAL = "created", "running", "manual"
SUCCESS, WARNING, FAILED, SKIPPED = "success", "warning", "failed", "skipped"
ALWAYS = "always"
"""``when`` of a job that runs however those that it needs have ended."""
ENDED = {SUCCESS, WARNING, FAILED, SKIPPED}

SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
DEFAULT_TIMEOUT_S = 3600


@dataclass
class Job:
    """One job. ``message`` says why it is as it is, where the log does not."""

    name: str
    stage: str
    when: str
    needs: list[str]
    may_block: bool  # a manual job with allow_failure: false holds the pipeline
    environment: str = ""
    resource_group: str = ""
    id_tokens: dict[str, str] = field(default_factory=dict)  # variable -> audience
    retries: int = 0
    retry_when: list[str] = field(default_factory=list)
    timeout_s: int = DEFAULT_TIMEOUT_S
    artifacts: list[str] = field(default_factory=list)
    artifacts_when: str = "on_success"
    status: str = CREATED
    message: str = ""
    approved_by: str = ""
    attempts: int = 0
    started_at: float = 0
    waited_s: float = 0
    ended_at: float = 0


@dataclass
class Pipeline:
    """What one push, merge request or schedule started."""

    number: int
    source: str
    ref: str
    commit: str
    before: str  # what rules:changes compares with; empty: everything has changed
    user: str
    jobs: list[Job] = field(default_factory=list)
    runner: int = 0  # process id of who runs it; 0 when nobody does

    @property
    def status(self) -> str:
        statuses = {job.status for job in self.jobs}
        if FAILED in statuses:
            return FAILED
        if statuses & {CREATED, RUNNING} and not self._is_blocked():
            return RUNNING
        return MANUAL if self._is_blocked() else SUCCESS

    def _is_blocked(self) -> bool:
        return any(job.status == MANUAL and job.may_block for job in self.jobs)

    def job(self, name: str) -> Job:
        return next(job for job in self.jobs if job.name == name)

    def needed_by(self, job: Job) -> list[Job]:
        """Jobs that have to end first. A matrix is needed as a whole, a job that is not in the pipeline not at all."""
        return [each for each in self.jobs if each.name in job.needs or base(each.name) in job.needs]

    def save(self, folder: Path) -> None:
        record = path(folder, self.number)
        record.parent.mkdir(parents=True, exist_ok=True)
        durable.write_file(record, (json.dumps({**asdict(self), "status": self.status}, indent=1) + "\n").encode())


def path(folder: Path, number: int) -> Path:
    """The record of a pipeline."""
    return folder / f"pipelines/{number}.json"


def load(folder: Path, number: int) -> Pipeline:
    described = json.loads(path(folder, number).read_text())
    jobs = [Job(**job) for job in described.pop("jobs")]
    described.pop("status")
    return Pipeline(**described, jobs=jobs)


def base(name: str) -> str:
    """``test: [3.11]`` is one of the jobs ``test``."""
    return re.sub(r": \[.*\]$", "", name)


def parse(listed: Iterable[dict[str, Any]], described: dict[str, Any]) -> list[Job]:
    """The jobs that gitlab-ci-local listed (``--list-json``), with what only the whole file (``--preview``) says."""
    return [_job(each, described.get(each["name"]) or described[base(each["name"])]) for each in listed]


def _job(listed: dict[str, Any], described: dict[str, Any]) -> Job:
    environment, retry = described.get("environment") or "", described.get("retry") or 0
    artifacts = described.get("artifacts") or {}
    rules: dict[str, Any] = retry if isinstance(retry, dict) else {"max": retry}
    when = rules.get("when", ["always"])
    return Job(
        name=listed["name"],
        stage=listed["stage"],
        when=listed["when"],
        needs=[need["job"] for need in listed.get("needs") or []],
        may_block=listed["allow_failure"] is False,
        environment=environment["name"] if isinstance(environment, dict) else environment,
        resource_group=described.get("resource_group") or "",
        id_tokens={name: token["aud"] for name, token in (described.get("id_tokens") or {}).items()},
        retries=int(rules.get("max", 0)),
        retry_when=[when] if isinstance(when, str) else list(when),
        timeout_s=seconds(described.get("timeout")),
        artifacts=list(artifacts.get("paths", [])),
        artifacts_when=artifacts.get("when", "on_success"),
    )


def seconds(text: str | None) -> int:
    """``1 hour 30 minutes`` as GitLab writes durations."""
    if not text:
        return DEFAULT_TIMEOUT_S
    parts = re.findall(r"(\d+)\s*([a-z]+)", text.lower())
    found = sum(int(number) * SECONDS.get(unit.rstrip("s"), 0) for number, unit in parts)
    return found or DEFAULT_TIMEOUT_S


def advance(pipeline: Pipeline) -> list[Job]:
    """Settle what needs no work (skipped, waiting for a person); returns the jobs to start now."""
    starting = []
    moved = True
    while moved:
        moved = False
        for job in pipeline.jobs:
            before = job.status
            if job.status == CREATED and all(each.status in ENDED for each in pipeline.needed_by(job)):
                starting += _settle(job, pipeline)
            moved = moved or job.status != before
    return starting


def _settle(job: Job, pipeline: Pipeline) -> list[Job]:
    broken = [each.name for each in pipeline.needed_by(job) if each.status in (FAILED, SKIPPED)]
    if broken and job.when != ALWAYS:
        job.status, job.message = SKIPPED, f"needs {', '.join(broken)}"
    elif job.when == MANUAL and not job.approved_by:
        job.status = MANUAL
    else:
        job.status = RUNNING
        return [job]
    return []


def will_take(pipeline: Pipeline, resource_group: str) -> bool:
    """Whether it has a job in a resource group that is at work or comes by itself."""
    return any(job.resource_group == resource_group and job.status in (CREATED, RUNNING) for job in pipeline.jobs)


def play(pipeline: Pipeline, name: str, by: str) -> None:
    """A person starts a manual job, or starts one again that has ended badly; what depended on it follows."""
    job = pipeline.job(name)
    if job.status not in (MANUAL, FAILED):
        raise ValueError(f"{name}: expected a job that waits for a person or has failed, it is {job.status}")
    job.status, job.message, job.approved_by = CREATED, "", by
    for each in pipeline.jobs:
        if each.status == SKIPPED:
            each.status, each.message = CREATED, ""


def take_over(pipeline: Pipeline) -> list[str]:
    """What a runner that was killed has left at work: these jobs have failed. Returns their names."""
    lost = [job for job in pipeline.jobs if job.status == RUNNING]
    for job in lost:
        job.status, job.message = FAILED, "its runner was lost; run it again, it goes on from where it was"
    pipeline.runner = 0
    return [job.name for job in lost]
