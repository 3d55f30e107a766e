"""Is everything fine, and if not, where to look: what the first screen says. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta

from .. import runs as run_states
from . import rollouts as gates
from . import workflows as flows
from .model import (
    ACT,
    FAILED,
    NONE,
    OK,
    SILENT,
    UNREACHABLE,
    WATCH,
    Alarm,
    Answer,
    Deployed,
    Deployment,
    Device,
    Finding,
    Item,
    Rollout,
    Source,
    Workflow,
)

ROLLOUT_STALLED_AFTER = timedelta(hours=6)
MANY_DEVICES = 0.1
"""Share of the fleet from which silent devices are no accident any more."""
LEDGER = "ledger"
"""Begins the names of the sources without which nothing is known."""
RANK = {ACT: 0, WATCH: 1, NONE: 2, OK: 3}


def answer(
    *,
    devices: Sequence[Device],
    deployed: Deployed | None,
    deployment: Deployment | None,
    rollouts: Sequence[Rollout],
    workflows: Sequence[Workflow],
    alarms: Sequence[Alarm],
    drift: Sequence[Finding],
    sources: Sequence[Source],
    now: str,
) -> Answer:
    """The worst first. An environment of which nothing is known at all is not fine: there is nothing to judge."""
    failed_sources = [source for source in sources if source.state == "failed"]
    items = [
        *_of_sources(failed_sources),
        *_of_deployment(deployment),
        *_of_rollouts(rollouts, now),
        *_of_devices(devices, deployed, rollouts),
        *_of_workflows(workflows),
        *_of_alarms(alarms, workflows),
        *_of_drift(drift),
    ]
    items.sort(key=lambda item: RANK[item.tone])
    if not items:
        if deployed or any(workflow.runs for workflow in workflows):
            return Answer(OK, _on_its_way(devices, rollouts) or _fine(devices, deployed))
        return Answer(NONE, "Nothing was deployed here yet")
    if {source.name for source in sources if source.name.startswith(LEDGER)} <= {each.name for each in failed_sources}:
        return Answer(ACT, "The ledger could not be read: how things are is not known", tuple(items))
    return Answer(items[0].tone, _headline(items), tuple(items))


def _on_its_way(devices: Sequence[Device], rollouts: Sequence[Rollout]) -> str:
    """How far a rollout is that goes well; empty where none is at work."""
    newest = next(iter(rollouts), None)
    if newest is None or newest.state != "running":
        return ""
    have = sum(device.release_digest == newest.release_digest for device in devices)
    wave = next((wave.name for wave in newest.waves if wave.gate == gates.RUNNING), "")
    return f"{newest.release} is being rolled out{f', wave {wave}' if wave else ''}: {_of(have, len(devices))} run it"


def _fine(devices: Sequence[Device], deployed: Deployed | None) -> str:
    if not deployed:
        return "All runs succeeded; no release was rolled out yet"
    have = sum(device.release_digest == deployed.release_digest for device in devices)
    return f"{deployed.release} runs on {_of(have, len(devices))}"


def _headline(items: Sequence[Item]) -> str:
    if len(items) == 1:
        return items[0].text
    urgent = sum(item.tone == ACT for item in items)
    if not urgent:
        return f"{len(items)} things to keep an eye on"
    if urgent == len(items):
        return f"{urgent} things need somebody"
    return (
        f"{_count(urgent, 'thing')} {'needs' if urgent == 1 else 'need'} somebody, {len(items) - urgent} more to watch"
    )


def _of_sources(failed: Sequence[Source]) -> Iterator[Item]:
    if failed:
        *most, last = (source.name for source in failed)
        names = f"{', '.join(most)} and {last}" if most else last
        problems = list(dict.fromkeys(source.problem for source in failed))
        more = f" (and {len(problems) - 1} other reasons)" if len(problems) > 1 else ""
        yield Item(WATCH, f"This page is incomplete: {names} could not be read", problems[0] + more, "sources")


def _of_deployment(deployment: Deployment | None) -> Iterator[Item]:
    if deployment and deployment.state in ("failed", "refused"):
        text = (
            f"The deployment of {deployment.commit[:12]} {'failed' if deployment.state == 'failed' else 'was refused'}"
        )
        yield Item(ACT, text, deployment.message, "deployed")


def _of_rollouts(rollouts: Sequence[Rollout], now: str) -> Iterator[Item]:
    """Only the newest counts: what came before it has been dealt with."""
    newest = next((rollout for rollout in rollouts if rollout.state != "superseded"), None)
    if newest is None:
        return
    left = sum(wave.devices.get("committed", 0) for wave in newest.waves) if newest.state == "blocked" else 0
    for wave in newest.waves:
        why = _why(newest, wave.name)
        if wave.gate == gates.HELD:
            yield Item(ACT, f"{newest.release} is held at wave {wave.name}", why, "rollouts")
        elif wave.gate == gates.GATE_FAILED and left:
            still = f"{_count(left, 'device')} still {'runs' if left == 1 else 'run'} it"
            yield Item(ACT, f"{newest.release} was stopped at wave {wave.name}, and {still}", why, "rollouts")
        elif wave.gate == gates.GATE_FAILED:
            text = f"{newest.release} was stopped at wave {wave.name} and taken back"
            yield Item(WATCH, text, why, "rollouts")
    begun = run_states.parse(newest.started_at)
    if newest.state == "running" and run_states.parse(now) - begun > ROLLOUT_STALLED_AFTER:
        text = f"The rollout of {newest.release} has not ended for hours"
        yield Item(WATCH, text, "Run playbooks/edge.yml again: it goes on where it stopped.", "rollouts")


def _why(rollout: Rollout, wave: str) -> str:
    """The reason, without what the line above it says already (:func:`twinops.gate.explain`)."""
    said = (f"{rollout.release} {verb} at wave {wave}: " for verb in ("stopped", "held"))
    return next((rollout.reason[len(start) :] for start in said if rollout.reason.startswith(start)), rollout.reason)


def _of_devices(devices: Sequence[Device], deployed: Deployed | None, rollouts: Sequence[Rollout]) -> Iterator[Item]:
    failed = [device for device in devices if device.health == FAILED]
    if failed:
        yield Item(ACT, f"{_of(len(failed), len(devices))} failed", _names(failed), "devices", FAILED)
    for health, verb in ((SILENT, "silent"), (UNREACHABLE, "not reached by the last rollout")):
        found = [device for device in devices if device.health == health]
        if found:
            tone = ACT if len(found) > max(1, MANY_DEVICES * len(devices)) else WATCH
            yield Item(tone, f"{_of(len(found), len(devices))} {verb}", _names(found), "devices", health)
    if deployed and not any(rollout.state == "running" for rollout in rollouts):
        others = [d for d in devices if d.release and d.release_digest != deployed.release_digest]
        if others:
            has = ", ".join(f"{n} × {name}" for name, n in Counter(device.release for device in others).most_common(3))
            text = f"{_of(len(others), len(devices))} without {deployed.release}"
            yield Item(WATCH, text, f"{has}. {_names(others)}", "devices")


def _of_workflows(workflows: Sequence[Workflow]) -> Iterator[Item]:
    for workflow in workflows:
        if workflow.state == flows.FAILED:
            last = next(run for run in workflow.runs if run.state not in ("CLAIMED", "QUEUED", "RUNNING"))
            yield Item(ACT, f"{workflow.name}: the last run ended as {last.state}", last.reason, "workflows")
        elif workflow.state == flows.MISSING:
            yield Item(WATCH, f"{workflow.name} has not run for longer than it may", workflow.schedule, "workflows")


def _of_alarms(alarms: Sequence[Alarm], workflows: Sequence[Workflow]) -> Iterator[Item]:
    """Alarms that say what a workflow's own line says already are left out."""
    told = {f"{what}-{flow.name}" for flow in workflows for what in ("failed", "missing") if flow.state == what}
    left = [alarm for alarm in alarms if not any(alarm.name.endswith(f"-{name}") for name in told)]
    for alarm in left:
        yield Item(WATCH, f"Alarm {alarm.name}", alarm.reason, "drift")


def _of_drift(drift: Sequence[Finding]) -> Iterator[Item]:
    for kind, text in (("cloud", "The cloud differs from git"), ("data", "The data of devices have drifted")):
        found = [finding for finding in drift if finding.kind == kind and finding.tone != NONE]
        if found:
            tone = min((finding.tone for finding in found), key=lambda tone: RANK[tone])
            yield Item(tone, text, "; ".join(finding.what for finding in found[:3]), "drift")


def _names(devices: Sequence[Device], limit: int = 3) -> str:
    more = f" and {len(devices) - limit} more" if len(devices) > limit else ""
    return ", ".join(device.name for device in devices[:limit]) + more


def _of(number: int, total: int) -> str:
    return f"{number:,} of {_count(total, 'device')}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
