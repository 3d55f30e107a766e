"""Observed state as conditions: ``Ready``, and, only while something is not normal, ``Reconciling`` or ``Stalled``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

READY = "Ready"
RECONCILING = "Reconciling"
STALLED = "Stalled"


@dataclass(frozen=True)
class Condition:
    """One statement about one resource.

    ``reason`` is one word for programs, ``message`` a sentence for people. ``passes`` is true where waiting is enough,
    such as a notebook that starts; false where a person has to act, such as a mail that has to be confirmed.
    """

    type: str
    kind: str
    name: str
    reason: str
    message: str
    passes: bool = False


def summary(conditions: Iterable[Condition]) -> list[dict[str, object]]:
    """The abnormal conditions as plain dicts, followed by one ``Ready`` for the whole set."""
    abnormal = [asdict(condition) for condition in conditions]
    reasons = sorted({str(condition["reason"]) for condition in abnormal})
    ready = {"type": READY, "status": not abnormal, "reason": ", ".join(reasons) or "AsDeclared"}
    return [*abnormal, ready]
