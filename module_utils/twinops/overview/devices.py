"""Devices: which release each of them has, and how it is, from its own facts and from the ledger. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from .. import deployments, runs
from ..deployments import Period
from .model import FAILED, HEALTHY, NO_RELEASE, SILENT, STARTING, UNKNOWN, UNREACHABLE, WAITING, Device

SILENT_AFTER = timedelta(hours=1)
"""A device that has said nothing for so long is silent: several times the interval between two of its facts."""

BY_DEVICE, BY_LEDGER = "device", "ledger"
_HEALTH_OF_STATE = {"failed": FAILED, "unreachable": UNREACHABLE, "waiting": WAITING}
"""What the last rollout found; that a release was committed says nothing about today."""

Event = Mapping[str, Any]


def fleet(
    waves: Mapping[str, str], events: Iterable[Event], facts: Mapping[str, Mapping[str, Any]], now: str
) -> tuple[Device, ...]:
    """The devices of the inventory (device → wave), in its order."""
    of: dict[str, list[Event]] = {}
    for event in events:
        of.setdefault(event["device"], []).append(event)
    return tuple(_device(name, wave, of.get(name, []), facts.get(name), now) for name, wave in waves.items())


def _device(name: str, wave: str, events: Sequence[Event], facts: Mapping[str, Any] | None, now: str) -> Device:
    period = next(iter(deployments.periods(events)[-1:]), None)
    if facts:
        return _as_it_says(name, wave, facts, period, now)
    return _as_recorded(name, wave, events, period)


def _as_recorded(name: str, wave: str, events: Sequence[Event], period: Period | None) -> Device:
    """From the ledger alone: what ran on it when a rollout last asked, and what that rollout found."""
    last = max(events, key=lambda event: event.get("recorded_at", ""), default=None)
    seen = max((event["valid_from"] for event in events if event.get("valid_from")), default="")
    health = _HEALTH_OF_STATE.get(last["state"], UNKNOWN) if last else UNKNOWN
    if last and not period and health == UNKNOWN:
        health = NO_RELEASE
    note = last["reason"] if last and health in (FAILED, UNREACHABLE, WAITING) else ""
    return Device(
        name,
        wave,
        release=period.release if period else "",
        release_digest=period.release_digest if period else "",
        model_digest=period.model_digest if period else "",
        git_sha=period.git_sha if period else "",
        since=period.since if period else "",
        health=health,
        last_seen=seen,
        told_by=BY_LEDGER if events else "",
        notes=(note,) if note else (),
    )


def _as_it_says(name: str, wave: str, facts: Mapping[str, Any], period: Period | None, now: str) -> Device:
    """From its facts: the answer of ``twinops-edge status`` and when it was given."""
    seen = str(facts.get("at") or "")
    since = period.since if period and period.release_digest == facts.get("release_digest") else ""
    return Device(
        name,
        wave,
        release=facts.get("release") or "",
        release_digest=facts.get("release_digest") or "",
        model_digest=facts.get("model_sha256") or "",
        git_sha=facts.get("git_sha") or (period.git_sha if since and period else ""),
        since=since,
        health=SILENT if _is_silent(seen, now) else _said_health(facts),
        last_seen=seen,
        told_by=BY_DEVICE,
        notes=tuple(_notes(facts)),
    )


def _is_silent(seen: str, now: str) -> bool:
    try:
        return runs.parse(now) - runs.parse(seen) > SILENT_AFTER
    except ValueError:
        return True  # whoever tells no time cannot be said to have been seen


def _said_health(facts: Mapping[str, Any]) -> str:
    if not facts.get("release"):
        return NO_RELEASE
    said = (facts.get("health") or {}).get("status")
    if said is None:
        return FAILED  # it reports, and its release does not answer
    return {"ok": HEALTHY, "starting": STARTING}.get(str(said), FAILED)


def _notes(facts: Mapping[str, Any]) -> Iterator[str]:
    health = facts.get("health") or {}
    waiting = facts.get("waiting") or {}
    if waiting:
        yield f"waits with {waiting.get('release')} for its maintenance window, {waiting.get('window')} UTC"
    for title, text in (
        ("", facts.get("reason")),
        ("", health.get("reason")),
        ("upload: ", health.get("upload_error")),
    ):
        if text:
            yield f"{title}{text}"
    if health.get("spool_dropped"):
        yield f"{health['spool_dropped']} decisions dropped"
    yield from (str(text) for text in facts.get("problems") or ())
