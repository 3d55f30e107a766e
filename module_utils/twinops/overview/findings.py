"""Drift: what the cloud has that git has not said, and data that are not those of the training any more. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .model import ACT, Check, Finding

CLOUD = "cloud"


def of(
    runs: Iterable[Mapping[str, Any]], results: Mapping[str, Mapping[str, Any]], cloud_plan: Mapping[str, Any] | None
) -> tuple[tuple[Check, ...], tuple[Finding, ...]]:
    """When was looked for drift, and what was found."""
    found = _in_the_cloud(cloud_plan) if cloud_plan else []
    checks = [Check(CLOUD, str(cloud_plan["at"]), len(found))] if cloud_plan else []
    return tuple(checks), tuple(found)


def _in_the_cloud(plan: Mapping[str, Any]) -> list[Finding]:
    """What a deployment of the commit that is deployed would change."""
    return [
        Finding(CLOUD, ACT, f"{change['kind']} {change['name']}", f"would be {change['action']}d", str(plan["at"]))
        for change in plan.get("changes") or ()
    ]
