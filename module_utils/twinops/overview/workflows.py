"""Workflows by how their newest runs ended. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from .. import runs as states
from .model import ACT, NONE, OK, WATCH, Run, Workflow

SHOWN = 14
"""Runs of a workflow on the page."""

FINE, RUNNING, FAILED, MISSING, NEVER = "ok", "running", "failed", "missing", "never"
_AT_WORK = (states.CLAIMED, states.QUEUED, states.RUNNING)
_NO_JUDGEMENT = (states.SKIPPED, states.CANCELLED)
_TONE = {FINE: OK, RUNNING: NONE, FAILED: ACT, MISSING: WATCH, NEVER: NONE}


def overview(specs: Iterable[Any], runs: Iterable[Mapping[str, Any]], now: str) -> tuple[Workflow, ...]:
    """Every workflow of the repository, then those only the ledger knows. ``runs``: newest first."""
    by_name = {spec.name: spec for spec in specs}
    of: dict[str, list[Mapping[str, Any]]] = {name: [] for name in by_name}
    for run in runs:
        of.setdefault(run["workflow"], []).append(run)
    return tuple(_workflow(name, by_name.get(name), found, now) for name, found in of.items())


def _workflow(name: str, spec: Any, found: Sequence[Mapping[str, Any]], now: str) -> Workflow:
    state = _state(spec, found, now)
    shown = tuple(_run(run) for run in found[:SHOWN])
    schedule = (spec.schedule or "") if spec else ""
    description = spec.description if spec else "Not in the repository any more."
    return Workflow(name, description, schedule, state, _TONE[state], shown)


def _state(spec: Any, found: Sequence[Mapping[str, Any]], now: str) -> str:
    """How the last run that ended did; a repeated run that is at work does not hide that the one before failed."""
    if not found:
        return NEVER
    ended = next((run for run in found if run["state"] not in (*_AT_WORK, *_NO_JUDGEMENT)), None)
    if ended and ended["state"] != states.SUCCEEDED:
        return FAILED
    if any(run["state"] in _AT_WORK for run in found):
        return RUNNING
    after_h = spec.alarms.missing_after_h if spec else 0
    if after_h and states.parse(now) - states.parse(found[0]["claimed_at"]) > timedelta(hours=after_h):
        return MISSING
    return FINE


def _run(run: Mapping[str, Any]) -> Run:
    return Run(
        run_id=run["run_id"],
        state=run["state"],
        git_sha=run.get("git_sha", ""),
        claimed_at=run["claimed_at"],
        started_at=run.get("started_at", ""),
        ended_at=run.get("ended_at", ""),
        duration_s=run.get("duration_s"),
        attempt=run.get("epoch", 1),
        reason="" if run["state"] == states.SUCCEEDED else run.get("reason", ""),
        report=f"s3://{run['report_bucket']}/{run['report_key']}" if run.get("report_key") else "",
    )
