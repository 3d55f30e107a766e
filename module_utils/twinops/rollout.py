"""A rollout as data: whether one is due, which devices it concerns, and what the ledger says about it. Pure.

Ansible keeps no state between runs. What a rollout has done is read from the devices, each time; the ledger says which
rollout it is, and that a release was blocked before.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import gate, slots
from .errors import TwinopsError
from .gate import Alarms
from .names import OWNER

WAVES = ("canary", "early", "fleet")

RUNNING = "running"
COMPLETED = "completed"
BLOCKED = "blocked"
SUPERSEDED = "superseded"
ENDS = (COMPLETED, BLOCKED)
"""Ends that others are told of."""

FINISHED_EVENT = "Rollout finished"

Status = Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """What to do. ``devices`` are those that take part, by wave; none of them when nothing is due.

    ``records_per_device``: wave -> records that a device should have processed before the wave is judged.
    ``is_trial``: the release is new to the environment, so its alarms are compared with ``baseline``.
    ``is_retry``: a gate blocked the release before, and somebody insisted; also in a run that resumes that rollout.
    """

    rollout_id: str | None
    is_resumed: bool
    is_trial: bool
    is_retry: bool
    waves: Mapping[str, tuple[str, ...]]
    due: tuple[str, ...]
    baseline: Alarms | None
    records_per_device: Mapping[str, int]
    superseded: tuple[str, ...]

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(device for wave in WAVES for device in self.waves.get(wave, ()))


def is_due(status: Status | None, release_digest: str | None) -> bool:
    """Whether a device that answered does not run the release yet."""
    if status is None or status.get("unreachable"):
        return False
    if release_digest is None or status.get("release_digest") != release_digest:
        return True
    return not slots.at_rest(status)


def make_plan(
    *,
    release: str,
    release_digest: str | None,
    current: Mapping[str, Any] | None,
    hold_out: Mapping[str, int] | None,
    waves: Mapping[str, Sequence[str]],
    statuses: Mapping[str, Status | None],
    rollouts: Sequence[Mapping[str, Any]],
    now: str,
    retry_blocked: bool,
    min_records: int,
) -> Plan:
    """Decide what this run does about ``release``. ``rollouts`` are the newest of the ledger, newest first.

    ``release_digest`` is ``None`` in check mode for a release that was not built yet.

    :raises TwinopsError: an empty canary, or a release that was blocked before
    """
    if not waves.get("canary"):
        raise TwinopsError(
            "inventory: edge_canary: expected at least one device, got none; "
            "without a canary a bad release would reach the fleet unseen"
        )
    everyone = [device for wave in WAVES for device in waves.get(wave, ())]
    due = tuple(device for device in everyone if is_due(statuses.get(device), release_digest))
    same = [rollout for rollout in rollouts if rollout["release_digest"] == release_digest]
    running = next((rollout for rollout in same[:1] if rollout["state"] == RUNNING), None)
    if not due and running is None:
        return Plan(None, False, False, False, dict.fromkeys(WAVES, ()), (), None, {}, ())
    if same and same[0]["state"] == BLOCKED and not retry_blocked:
        raise TwinopsError(
            f"{release} ({str(release_digest)[:12]}) was blocked by rollout {same[0]['rollout_id']}: "
            f"{same[0]['reason']}. Expected a release that was not blocked: fix it under a new version, "
            "or insist with -e edge_retry_blocked=true"
        )
    is_trial = release_digest is None or current is None or current["manifest_sha256"] != release_digest
    wanted = frozenset(everyone if is_trial else due)
    concerned = {wave: tuple(device for device in waves.get(wave, ()) if device in wanted) for wave in WAVES}
    return Plan(
        rollout_id=running["rollout_id"] if running else new_rollout_id(release, now),
        is_resumed=running is not None,
        is_trial=is_trial,
        is_retry=next((rollout["state"] for rollout in same if rollout["state"] in ENDS), None) == BLOCKED,
        waves=concerned,
        due=due,
        baseline=find_baseline(current, hold_out, statuses, min_records) if is_trial else None,
        records_per_device={wave: _records_per_device(concerned, wave, min_records * is_trial) for wave in WAVES},
        superseded=tuple(r["rollout_id"] for r in rollouts if r["state"] == RUNNING and r is not running),
    )


def _records_per_device(waves: Mapping[str, Sequence[str]], wave: str, min_records: int) -> int:
    """Enough for a verdict even when half of the devices do not answer."""
    return math.ceil(min_records / max(1, (len(waves_up_to(waves, wave)) + 1) // 2))


def new_rollout_id(release: str, now: str) -> str:
    """Sorts by time, and names the release for a person."""
    return f"{now.translate(str.maketrans('', '', '-:.'))}-{release}"


def find_baseline(
    current: Mapping[str, Any] | None,
    hold_out: Mapping[str, int] | None,
    statuses: Mapping[str, Status | None],
    min_records: int,
) -> Alarms | None:
    """The alarms to compare with: the champion's on the fleet, else on its hold-out, else the new release's own."""
    if current is not None:
        health = [
            status["health"]
            for status in statuses.values()
            if status and status.get("release_digest") == current["manifest_sha256"] and status.get("health")
        ]
        records = sum(int(answer["records"]) for answer in health)
        if records >= min_records:
            alarms = sum(int(answer["alarms"]) for answer in health)
            return Alarms(records, alarms, f"{current['release']} on {len(health)} devices")
        if current.get("hold_out"):
            return _held_out(current["hold_out"], current["release"])
    return _held_out(hold_out, "the release itself") if hold_out else None


def _held_out(hold_out: Mapping[str, int], whose: str) -> Alarms:
    return Alarms(int(hold_out["records"]), int(hold_out["alarms"]), f"{whose} on data held out in training")


def read_results(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Status | None]:
    """Statuses from what Ansible registered for ``edge_status`` on each device; empty for a device not asked."""
    return {
        device: {"unreachable": True} if result.get("unreachable") else result.get("device_status")
        for device, result in results.items()
    }


def waves_up_to(waves: Mapping[str, Sequence[str]], wave: str) -> list[str]:
    """The devices of all waves up to and including ``wave``."""
    return [device for name in WAVES[: WAVES.index(wave) + 1] for device in waves.get(name, ())]


def outcome(status: Status | None, release_digest: str, rollout_id: str) -> tuple[str, str, str]:
    """(state, reason, time) of a device in a rollout, as the ledger has it; time is empty where the device has none."""
    if status is None or status.get("unreachable"):
        return gate.UNREACHABLE, "no connection", ""
    wanted = (rollout_id, release_digest)
    own = [entry for entry in status.get("history") or () if (entry["rollout_id"], entry["release_digest"]) == wanted]
    if own:
        return own[-1]["outcome"], own[-1]["reason"] or "", own[-1]["at"]
    if status.get("release_digest") == release_digest:
        return "committed", "ran it before this rollout", ""
    if (status.get("waiting") or {}).get("release_digest") == release_digest:
        return gate.WAITING, f"waits for its maintenance window, {status['waiting']['window']} UTC", ""
    return "failed", f"runs {status.get('release')}, phase {status.get('phase')}", ""


def to_roll_back(devices: Sequence[str], statuses: Mapping[str, Status | None], release_digest: str) -> list[str]:
    """The devices that run the release, or were interrupted on the way to it, and so have to be taken back."""
    found = []
    for device in devices:
        status = statuses.get(device) or {}
        target = status.get("target") or {}
        if release_digest in (status.get("release_digest"), target.get("release_digest")):
            found.append(device)
    return found


def describe_end(devices: Mapping[str, str]) -> str:
    """What became of the devices of a rollout that was blocked, in a sentence or two."""
    by_state: dict[str, list[str]] = {}
    for device, state in sorted(devices.items()):
        by_state.setdefault(state, []).append(device)
    texts = {
        "rolled_back": "Rolled back: {}.",
        "committed": "Still running it: {}.",
        "failed": "Never ran it: {}.",
        "waiting": "Still waiting for their maintenance window: {}.",
        "unreachable": "Not reached: {}; the next run brings them up to date.",
    }
    return " ".join(text.format(gate.name_some(by_state[state])) for state, text in texts.items() if state in by_state)


def finished_event(rollout: Mapping[str, Any]) -> dict[str, str]:
    """The event that tells of the end of a rollout: an entry of EventBridge's ``PutEvents``."""
    told = ("release", "release_digest", "rollout_id", "state", "git_sha")
    return {
        "Source": OWNER,
        "DetailType": FINISHED_EVENT,
        "Detail": json.dumps({name: rollout[name] for name in told}),
    }


def devices_json(devices: Mapping[str, str]) -> str:
    return json.dumps(dict(sorted(devices.items())))
