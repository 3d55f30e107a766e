"""What ran on a device when, from what the ledger and the device itself say about its releases. Pure.

*Valid time* (``valid_from``) is when something became so on the device, by its clock; *record time* (``recorded_at``)
is when the ledger learnt it. So the ledger also answers what was known at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from . import runs
from .errors import TwinopsError

Event = Mapping[str, Any]
"""A deployment as the ledger has it (docs/interfaces.md, "Ledger")."""

_SAID_BY_A_RELEASE = ("release", "release_digest", "model_digest", "git_sha", "data_version")


@dataclass(frozen=True)
class Period:
    """A time in which a device ran one release. ``until`` is empty while it does."""

    release: str
    release_digest: str
    model_digest: str
    git_sha: str
    data_version: str
    since: str
    rollout_id: str
    """The rollout that brought it, or brought it back; empty where the device fetched it by itself."""
    recorded_at: str
    """When the ledger learnt it; empty where only the device knows yet."""
    why: str = ""
    """Why the device came back to it, where it did."""
    until: str = ""


def periods(events: Iterable[Event], *, known_at: str = "") -> list[Period]:
    """The times of a device, oldest first. With ``known_at`` only from what was recorded by then.

    A device that was taken back runs again what it ran before. A release that did not get through its probe ran for
    seconds; it has no time here.
    """
    known = [event for event in events if event.get("valid_from") and _known(event, known_at)]
    committed: list[Event] = []
    found: list[Period] = []
    for event in sorted(known, key=lambda event: event["valid_from"]):
        if event["state"] == "committed":
            committed.append(event)
        elif event["state"] == "rolled_back" and committed and _same(event, committed[-1]):
            committed.pop()
        else:
            continue
        if found:
            found[-1] = replace(found[-1], until=event["valid_from"])
        if committed:
            found.append(_period(committed[-1], event))
    return found


def at(found: Sequence[Period], moment: str) -> Period | None:
    """The time that ``moment`` (as :func:`moment_of` gives it) lies in; ``None`` where no release ran."""
    return next((each for each in found if each.since <= moment and (not each.until or moment < each.until)), None)


def with_history(events: Sequence[Event], history: Iterable[Mapping[str, Any]]) -> list[Event]:
    """The ledger's events, and those of a device's own history that the ledger has not learnt yet."""
    known = {(event.get("valid_from"), event["release_digest"]) for event in events}
    said = {event["release_digest"]: event for event in events}
    return [*events, *(_event(entry, said) for entry in history if (entry["at"], entry["release_digest"]) not in known)]


def moment_of(text: str, name: str) -> str:
    """A person's time in the form of the ledger, comparable as text.

    :raises TwinopsError: not ISO 8601, or without a time zone; ``name`` is the variable that it stood in
    """
    try:
        moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise TwinopsError(f"{name}: expected a time with its zone, such as 2026-11-23T04:00:00Z, got {text!r}")
    return runs.timestamp(moment.astimezone(timezone.utc))


def _known(event: Event, known_at: str) -> bool:
    return not known_at or "" < event.get("recorded_at", "") <= known_at


def _same(event: Event, other: Event) -> bool:
    return bool(event["release_digest"] == other["release_digest"])


def _event(entry: Mapping[str, Any], said: Mapping[str, Event]) -> Event:
    """An entry of a device's history; what else is known of its release the ledger has said of another event."""
    of_release = {name: said.get(entry["release_digest"], {}).get(name, "") for name in _SAID_BY_A_RELEASE}
    named = {"release": entry["release"], "release_digest": entry["release_digest"]}
    return {
        **of_release,
        **named,
        "state": entry["outcome"],
        "reason": entry["reason"] or "",
        "rollout_id": entry["rollout_id"] or "",
        "valid_from": entry["at"],
    }


def _period(runs_now: Event, event: Event) -> Period:
    return Period(
        **{name: runs_now.get(name, "") for name in _SAID_BY_A_RELEASE},
        since=event["valid_from"],
        rollout_id=event.get("rollout_id", ""),
        recorded_at=event.get("recorded_at", ""),
        why=event.get("reason", "") if event["state"] == "rolled_back" else "",
    )
