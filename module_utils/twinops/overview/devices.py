"""Devices: which release each of them has, and how it is, from its own facts and from the ledger. Pure.

Facts are text from a stranger: whoever holds a device writes them. What is not of the form that is expected counts as
not told, and every text is bounded.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from .. import deployments, runs
from ..deployments import Period
from ..rollout import WAVES
from ..run_table import duration
from .model import FAILED, HEALTHY, NO_RELEASE, SILENT, STARTING, UNKNOWN, UNREACHABLE, WAITING, Device

INTERVALS_MISSED = 3
"""A device is silent when so many of its reports are missing."""
INTERVAL_S = 600
LONGEST_INTERVAL_S = 6 * 3600
"""However seldom a device says that it reports."""
CLOCK_TOLERANCE_S = 120
LOW_DISK = 0.05
LONGEST_TEXT = 300
MOST_NOTES = 6

BY_DEVICE, BY_LEDGER = "device", "ledger"
_HEALTH_OF_STATE = {"failed": FAILED, "unreachable": UNREACHABLE, "waiting": WAITING}
"""What the last rollout found; that a release was committed says nothing about today."""

Event = Mapping[str, Any]


def fleet(
    waves: Mapping[str, str], events: Iterable[Event], facts: Mapping[str, Mapping[str, Any]], now: str
) -> tuple[Device, ...]:
    """The devices of the inventory (device → wave), wave after wave, by name."""
    of: dict[str, list[Event]] = {}
    for event in events:
        of.setdefault(event["device"], []).append(event)
    ordered = sorted(waves.items(), key=lambda item: (WAVES.index(item[1]), _natural(item[0])))
    return tuple(_device(name, wave, of.get(name, []), facts.get(name), now) for name, wave in ordered)


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts device-1000 behind device-999."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


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
    """From its facts: the answer of ``twinops-edge status``, and when the cloud heard it."""
    heard_at = str(facts["heard_at"])
    digest = _text(facts, "release_digest")
    is_known = period is not None and period.release_digest == digest
    return Device(
        name,
        wave,
        release=_text(facts, "release"),
        release_digest=digest,
        model_digest=_text(facts, "model_sha256"),
        git_sha=_text(facts, "git_sha"),
        since=period.since if period and is_known else _since(facts),
        health=SILENT if _is_silent(facts, heard_at, now) else _said_health(facts),
        last_seen=heard_at,
        told_by=BY_DEVICE,
        notes=tuple(itertools.islice(_notes(facts, heard_at), MOST_NOTES)),
    )


def _since(facts: Mapping[str, Any]) -> str:
    """When the release that it runs was committed, by its own history: the ledger learns of pulls only later."""
    digest = _text(facts, "release_digest")
    entries = [entry for entry in _list(facts, "history") if isinstance(entry, Mapping)]
    own = [_text(entry, "at") for entry in entries if _text(entry, "release_digest") == digest]
    return own[-1] if own and _moment(own[-1]) else ""


def _is_silent(facts: Mapping[str, Any], heard_at: str, now: str) -> bool:
    interval_s = min(_number(facts, "interval_s") or INTERVAL_S, LONGEST_INTERVAL_S)
    missed = timedelta(seconds=INTERVALS_MISSED * max(interval_s, INTERVAL_S))
    return runs.parse(now) - runs.parse(heard_at) > missed


def _said_health(facts: Mapping[str, Any]) -> str:
    if not _text(facts, "release"):
        return NO_RELEASE
    if _is_damaged(facts):
        return FAILED
    said = _text(_part(facts, "health"), "status")  # without one it reports, and its release does not answer
    return {"ok": HEALTHY, "starting": STARTING}.get(said, FAILED)


def _is_damaged(facts: Mapping[str, Any]) -> bool:
    on_disk, signed = _text(facts, "model_file_sha256"), _text(facts, "model_sha256")
    return bool(on_disk and signed and on_disk != signed)


def _notes(facts: Mapping[str, Any], heard_at: str) -> Iterator[str]:
    health, waiting, target = (_part(facts, name) for name in ("health", "waiting", "target"))
    if _is_damaged(facts):
        yield "the model on its disk is not the one that was signed"
    if target:
        yield f"on the way to {_text(target, 'release')}: {_text(facts, 'phase')}"
    if waiting:
        yield f"waits with {_text(waiting, 'release')} for its maintenance window, {_text(waiting, 'window')} UTC"
    yield from filter(None, (_text(facts, "reason"), _text(health, "reason")))
    if _text(health, "upload_error"):
        yield f"upload: {_text(health, 'upload_error')}"
    if _number(health, "spool_dropped"):
        yield f"{_number(health, 'spool_dropped'):,.0f} decisions dropped"
    reported_at = _moment(_text(facts, "reported_at"))
    if reported_at and abs(ahead_s := (reported_at - runs.parse(heard_at)).total_seconds()) > CLOCK_TOLERANCE_S:
        yield f"its clock is {duration(abs(ahead_s))} {'ahead' if ahead_s > 0 else 'behind'}"
    free, total = (_number(_part(facts, "disk"), name) for name in ("free_bytes", "total_bytes"))
    if total and free is not None and free < LOW_DISK * total:
        yield f"its disk is {1 - free / total:.0%} full"
    yield from (problem[:LONGEST_TEXT] for problem in _list(facts, "problems") if isinstance(problem, str))


def _text(mapping: Mapping[str, Any], name: str) -> str:
    value = mapping.get(name)
    return value[:LONGEST_TEXT] if isinstance(value, str) else ""


def _number(mapping: Mapping[str, Any], name: str) -> float | None:
    value = mapping.get(name)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None  # type: ignore[arg-type]


def _part(mapping: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = mapping.get(name)
    return value if isinstance(value, Mapping) else {}


def _list(mapping: Mapping[str, Any], name: str) -> Sequence[Any]:
    value = mapping.get(name)
    return value if isinstance(value, list) else ()


def _moment(text: str) -> datetime | None:
    try:
        return runs.parse(text)
    except ValueError:
        return None
