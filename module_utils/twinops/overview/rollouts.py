"""Rollouts as a timeline: wave after wave, each with its gate. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .. import rollout as rules
from .model import Rollout, Wave

PASSED, GATE_FAILED, HELD, RUNNING = "passed", "failed", "held", "running"
PENDING, NOT_REACHED = "pending", "not reached"
NO_WAVE = "no wave"
"""Of devices that the inventory does not have any more."""


def timeline(
    rollouts: Iterable[Mapping[str, Any]], deployments: Iterable[Mapping[str, Any]], wave_of: Mapping[str, str]
) -> tuple[Rollout, ...]:
    """The rollouts in the order given. ``wave_of``: device → wave, of the inventory."""
    times: dict[str, list[Mapping[str, Any]]] = {}
    for event in deployments:
        times.setdefault(str(event.get("rollout_id", "")), []).append(event)
    return tuple(_rollout(item, times.get(item["rollout_id"], []), wave_of) for item in rollouts)


def _rollout(item: Mapping[str, Any], events: Sequence[Mapping[str, Any]], wave_of: Mapping[str, str]) -> Rollout:
    devices = json.loads(item.get("devices") or "{}")
    members: dict[str, dict[str, str]] = {}
    for device, state in devices.items():
        members.setdefault(wave_of.get(device, NO_WAVE), {})[device] = state
    waves = [name for name in (*rules.WAVES, NO_WAVE) if name in members]
    gates = _gates(item, waves, members)
    return Rollout(
        rollout_id=item["rollout_id"],
        release=item["release"],
        release_digest=item.get("release_digest", ""),
        model_digest=item.get("model_digest", ""),
        git_sha=item.get("git_sha", ""),
        state=item["state"],
        reason=item.get("reason", ""),
        started_at=item.get("started_at", ""),
        ended_at=item.get("ended_at", ""),
        waves=tuple(_wave(name, gates[name], members[name], events) for name in waves),
    )


def _wave(name: str, gate: str, members: Mapping[str, str], events: Iterable[Mapping[str, Any]]) -> Wave:
    at = sorted(event["valid_from"] for event in events if event["device"] in members and event.get("valid_from"))
    counted = dict(Counter(members.values()).most_common())
    return Wave(name, gate, counted, started_at=at[0] if at else "", ended_at=at[-1] if at else "")


def _gates(
    item: Mapping[str, Any], waves: Sequence[str], members: Mapping[str, Mapping[str, str]]
) -> Mapping[str, str]:
    """Wave → how its gate stands. The ledger names the last wave that was begun or judged."""
    if item["state"] == rules.COMPLETED:
        return dict.fromkeys(waves, PASSED)
    reached = waves.index(item["wave"]) if item.get("wave") in waves else 0
    here, beyond = GATE_FAILED, NOT_REACHED
    if item["state"] == rules.SUPERSEDED:
        here = NOT_REACHED
    elif item["state"] == rules.RUNNING:
        here, beyond = RUNNING, PENDING
        if item.get("reason"):
            here = HELD
        elif waves and "pending" not in members[waves[reached]].values():  # judged, and nothing was wrong
            reached += 1
    return {
        name: PASSED if number < reached else here if number == reached else beyond for number, name in enumerate(waves)
    }
