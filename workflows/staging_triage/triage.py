"""Which device has what, compared with which others. No I/O: what devices reported in, a :class:`Triage` each out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from toolbox.fleet import Facts, Finding, Heard, diagnosis

FEWEST_PEERS = 2
MOST_ALARMS = 20
FIELDS = ("kind", "title", "action")
OWN_PAST = timedelta(hours=1)
"""How old what a device said must be to be compared with, where there are no other devices: younger may be as wrong."""


@dataclass(frozen=True)
class Triage:
    """What was found out about a device."""

    device: str
    heard: Heard
    is_silent: bool
    findings: tuple[Finding, ...]
    references: tuple[Facts, ...]
    """What it was compared with."""
    compared_with: str
    """The same in words."""

    @property
    def state(self) -> str:
        """``ok``, ``watch`` or ``act``."""
        return self.findings[0].severity if self.findings else "ok"


def peers(device: str, heard: Mapping[str, Heard], now: datetime) -> list[str]:
    """The other devices whose services work, so that what they say is what is usual."""
    return [
        name
        for name, one in sorted(heard.items())
        if name != device and not one.is_silent(now) and diagnosis.is_sound(one.facts)
    ]


def examine(
    device: str,
    heard: Mapping[str, Heard],
    now: datetime,
    *,
    digests: frozenset[str],
    history: Sequence[Heard] = (),
) -> Triage:
    """What is wrong with ``device``, of all that was ``heard``; ``history`` is its own, oldest first.

    It is compared with the other devices; where there are too few of them, with what it said itself earlier.
    """
    others = peers(device, heard, now)
    references = [heard[name].facts for name in others]
    compared_with = f"{len(others)} other devices" if len(others) > 1 else "nothing: there are no other devices"
    if len(others) < FEWEST_PEERS:
        past = [one.facts for one in history if now - one.at >= OWN_PAST and diagnosis.is_sound(one.facts)]
        references = past or references
        compared_with = f"its own reports of {len(past)} hours" if past else compared_with
    found = diagnosis.diagnose(heard[device], now, references, digests=digests)
    begins = _begins(found, history, references)
    dated = [_with_begin(finding, begins.get((finding.kind, finding.subject))) for finding in found]
    dated += _said_by_itself(heard[device].facts, found, compared_with)
    silent = heard[device].is_silent(now)
    return Triage(device, heard[device], silent, tuple(dated), tuple(references), compared_with)


def _said_by_itself(facts: Facts, found: Sequence[Finding], compared_with: str) -> list[Finding]:
    """What the device has found out about itself, and that the comparison with others does not show.

    It compares with its own readings of a sound moment: so it may know better, or its machine may be in another state.
    """
    known = {(one.kind, one.subject) for one in found}
    said = facts.get("alarms")
    mine = []
    for one in said[:MOST_ALARMS] if isinstance(said, list) else []:
        if not isinstance(one, Mapping) or not all(
            isinstance(one.get(key), str) for key in ("kind", "title", "action")
        ):
            continue
        kind, subject = one["kind"], str(one.get("subject") or "")
        if (kind, subject) not in known:
            evidence = one.get("evidence")
            texts = [text for text in evidence if isinstance(text, str)] if isinstance(evidence, list) else []
            doubt = (
                f"the device says so, beside its own earlier readings; compared with {compared_with} it does not show"
            )
            mine.append(
                Finding(kind, diagnosis.WATCH, one["title"], (*texts, doubt), one["action"], subject, _conversion(one))
            )
    return mine


def _conversion(said: Mapping[str, Any]) -> tuple[float, float] | None:
    numbers = said.get("conversion")
    if isinstance(numbers, list) and len(numbers) == 2 and all(isinstance(one, (int, float)) for one in numbers):
        return float(numbers[0]), float(numbers[1])
    return None


def _begins(
    found: Sequence[Finding], history: Sequence[Heard], references: Sequence[Facts]
) -> dict[tuple[str, str], datetime]:
    """Since when without a break the device's reports show the findings of sensors, by their kind and subject."""
    going_on = {(one.kind, one.subject) for one in found if one.kind in diagnosis.OF_SENSORS}
    begins: dict[tuple[str, str], datetime] = {}
    for one in reversed(history):
        if not going_on:
            break
        going_on &= {(other.kind, other.subject) for other in diagnosis.diagnose(one, one.at, references)}
        begins.update(dict.fromkeys(going_on, one.at))
    return begins


def _with_begin(finding: Finding, begin: datetime | None) -> Finding:
    """The finding, and since when the device reports what shows it."""
    if begin is None:
        return finding
    began = f"its reports show it since {begin:%d %B %H:%M} UTC"
    return replace(finding, evidence=(*finding.evidence, began))


def never_heard(device: str, now: datetime) -> Triage:
    """Of a device that a rollout knows, and that has not reported within a month."""
    finding = Finding(
        diagnosis.SILENT,
        diagnosis.ACT,
        "It has never reported, or not for a month",
        ("the last rollout knows it",),
        "Enrol it (`ansible-playbook playbooks/edge.yml -l <device>`), or look at its network.",
    )
    return Triage(device, Heard({}, now), True, (finding,), (), "nothing")


def known_devices(rollouts: Sequence[Mapping[str, Any]]) -> list[str]:
    """The devices of the newest rollout."""
    return sorted(json.loads(rollouts[0]["devices"])) if rollouts else []


def allowed_digests(rollouts: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Digests of the releases that a device may run: of the last completed rollout, and of one at work.

    ``rollouts``: newest first, as the ledger has them.
    """
    completed = [one["release_digest"] for one in rollouts if one["state"] == "completed"][:1]
    return frozenset([*completed, *(one["release_digest"] for one in rollouts if one["state"] == "running")])


def as_items(findings: Sequence[Finding]) -> list[dict[str, str]]:
    """Findings as the ledger and ``findings.json`` have them."""
    return [
        {"kind": one.kind, "subject": one.subject, "severity": one.severity, "title": one.title} for one in findings
    ]


def numbers(triages: Sequence[Triage]) -> dict[str, float]:
    """The numbers for CloudWatch: how many devices were looked at, need something, and are silent."""
    return {
        "DevicesExamined": float(len(triages)),
        "DevicesWithFindings": float(sum(bool(one.findings) for one in triages)),
        "DevicesSilent": float(sum(one.is_silent for one in triages)),
    }
