"""Drift: what the cloud has that git has not said, and data that are not those of the training any more. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .model import ACT, Check, Finding

CLOUD = "cloud"


def of(
    runs: Iterable[Mapping[str, Any]], results: Mapping[str, Mapping[str, Any]], plan: Mapping[str, Any] | None
) -> tuple[tuple[Check, ...], tuple[Finding, ...]]:
    """When was looked for drift, and what was found."""
    found = _in_the_cloud(plan) if plan else []
    checks = [Check(CLOUD, str(plan["at"]), len(found))] if plan else []
    return tuple(checks), tuple(found)


def _in_the_cloud(plan: Mapping[str, Any]) -> list[Finding]:
    """What a deployment would change: git and the cloud say different things there."""
    return [
        Finding(CLOUD, ACT, f"{change['kind']} {change['name']}", _difference(change), str(plan["at"]))
        for change in plan["cloud"]
    ]


def _difference(change: Mapping[str, Any]) -> str:
    if change["action"] == "update":
        return f"differs in {', '.join(change['fields'])}"
    return {"create": "is in git, and not there", "delete": "is there, and not in git"}[change["action"]]
