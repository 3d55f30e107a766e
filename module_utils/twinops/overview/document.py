"""The status document: everything that was read, judged and put in order. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from .. import rollout as rollout_rules
from . import answer as answers
from . import devices, findings, quality, rollouts, workflows
from .model import VERSION, Alarm, Deployed, Deployment, Document, Read

ROLLOUTS_SHOWN = 12


def assemble(read: Read) -> Document:
    """The document about what was read."""
    fleet = devices.fleet(read.waves, read.deployments, read.facts, read.created_at)
    attempts = rollouts.timeline(read.rollouts[:ROLLOUTS_SHOWN], read.deployments, read.waves)
    flows = workflows.overview(read.specs, read.runs, read.created_at)
    deployed = _deployed(read.rollouts, read.signed_by, read.promotions)
    alarms = tuple(_alarm(alarm) for alarm in read.alarms)
    checks, drift = findings.of(read.runs, read.results, None if _is_applied(read) else read.plan)
    deployment = _deployment(read.deployment) if read.deployment else None
    said = answers.answer(
        devices=fleet,
        deployed=deployed,
        deployment=deployment,
        rollouts=attempts,
        workflows=flows,
        alarms=alarms,
        drift=drift,
        sources=read.sources,
        now=read.created_at,
    )
    return Document(
        schema=VERSION,
        env=read.env,
        created_at=read.created_at,
        commit=read.commit,
        sources=read.sources,
        answer=said,
        deployed=deployed,
        deployment=deployment,
        devices=fleet,
        rollouts=attempts,
        workflows=flows,
        alarms=alarms,
        drift_checks=checks,
        drift=drift,
        quality=quality.trend(read.runs, read.results),
    )


def as_json(document: Document) -> dict[str, Any]:
    """The document as plain JSON."""
    return asdict(document)


def _deployed(
    found: Iterable[Mapping[str, Any]], signed_by: Sequence[str], promotions: Mapping[str, str]
) -> Deployed | None:
    item = next((rollout for rollout in found if rollout["state"] == rollout_rules.COMPLETED), None)
    if item is None:
        return None
    return Deployed(
        release=item["release"],
        release_digest=item["release_digest"],
        model_digest=item.get("model_digest", ""),
        git_sha=item.get("git_sha", ""),
        data_version=item.get("data_version", ""),
        at=item.get("ended_at", ""),
        rollout_id=item["rollout_id"],
        signed_by=tuple(signed_by),
        approved_by=promotions.get(item.get("model_digest", ""), ""),
    )


def _is_applied(read: Read) -> bool:
    """Whether a deployment has begun with the plan: then it says what was different, not what is.

    What one that failed on the devices has done to the cloud stays done; how far it came is in nobody's record.
    """
    plan, record = read.plan or {}, read.deployment or {}
    return record.get("state") != "refused" and bool(plan.get("digest")) and record.get("plan") == plan["digest"]


def _deployment(record: Mapping[str, Any]) -> Deployment:
    fields = ("commit", "state", "by", "started_at", "ended_at", "message", "pipeline")
    return Deployment(**{name: str(record.get(name) or "") for name in fields})


def _alarm(alarm: Mapping[str, Any]) -> Alarm:
    return Alarm(alarm["name"], alarm.get("reason", ""), alarm.get("since", ""))
