"""When a device raises an alarm: when it finds something wrong with itself that it has not raised one for.

It compares its readings with its own of a day on which nothing was wrong with them: it knows no other device. Raised
again is what was not there for a while, and after a day what still is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from ..diagnosis import ALARMS, FEWEST_READINGS, OF_SENSORS, Finding, Heard, diagnose, time_of

SOURCE, DETAIL_TYPE = "twinops.device", "Device alarm"
RAISED_AGAIN_AFTER = USUAL_FOR = timedelta(days=1)
MOST_ALARMS = 20


def examine(facts: Mapping[str, Any], memory: Mapping[str, Any]) -> tuple[list[Finding], list[Finding], dict[str, Any]]:
    """(what is wrong, what of it to raise an alarm for, the memory for the next time if that was done).

    ``memory``: ``{"raised": {"<kind> <subject>": time}, "usual": facts with nothing but readings, "usual_at": time}``.
    """
    now = time_of(facts.get("reported_at")) or datetime.now(timezone.utc)
    usual = memory.get("usual")
    found = diagnose(Heard(facts, now), now, [usual] if isinstance(usual, Mapping) else [])[:MOST_ALARMS]
    raised: dict[str, str] = {}
    news = []
    before = memory.get("raised") if isinstance(memory.get("raised"), Mapping) else {}
    for finding in found:
        name = f"{finding.kind} {finding.subject}".strip()
        at = time_of(before.get(name)) if isinstance(before, Mapping) else None
        if at is None or now - at >= RAISED_AGAIN_AFTER:
            news.append(finding)
            at = now
        raised[name] = at.isoformat()
    return found, news, {"raised": raised, **_usual(facts, memory, now, found)}


def _usual(
    facts: Mapping[str, Any], memory: Mapping[str, Any], now: datetime, found: Sequence[Finding]
) -> dict[str, Any]:
    """The readings to compare with: those of a sound moment, renewed once a day, so that nothing creeps in unseen."""
    usual_at = time_of(memory.get("usual_at"))
    is_sound = not any(finding.kind in (*OF_SENSORS, ALARMS) for finding in found)
    readings = facts.get("readings")
    # A service that has just started has seen too few records to tell what is usual.
    is_due = usual_at is None or now - usual_at >= USUAL_FOR
    if isinstance(readings, Mapping) and readings.get("records", 0) >= FEWEST_READINGS and is_sound and is_due:
        kept = {name: value for name, value in readings.items() if name != "recent"}
        return {"usual": {"readings": kept}, "usual_at": now.isoformat()}
    return {name: memory[name] for name in ("usual", "usual_at") if name in memory}


def event(facts: Mapping[str, Any], news: Sequence[Finding]) -> dict[str, Any]:
    """The detail of the event that is put on the bus; ``parameters`` are those of the run that it starts."""
    return {
        "device": facts.get("device"),
        "env": facts.get("env"),
        "alarms": [{"kind": one.kind, "subject": one.subject, "title": one.title} for one in news],
        "parameters": {"device": facts.get("device")},
    }
