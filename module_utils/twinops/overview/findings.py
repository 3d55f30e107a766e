"""Drift: what the cloud has that git has not said, and data that are not those of the training any more. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .model import ACT, NONE, WATCH, Check, Finding

CLOUD, DATA = "cloud", "data"
REPORT, RESULT = "drift_report", "drift.json"
"""The workflow that compares data, and the file in which it tells what it found (docs/workflows.md)."""
TONE_OF_VERDICT = {"drift": WATCH, "warn": NONE}
MOST_FINDINGS = 50
MOST_NAMES = 8


def of(
    runs: Iterable[Mapping[str, Any]], results: Mapping[str, Mapping[str, Any]], plan: Mapping[str, Any] | None
) -> tuple[tuple[Check, ...], tuple[Finding, ...]]:
    """When was looked for drift, and what was found."""
    checks: list[Check] = []
    findings: list[Finding] = []
    if plan:
        found = _in_the_cloud(plan)
        checks.append(Check(CLOUD, str(plan["at"]), len(found)))
        findings += found
    reports = (run for run in runs if run["workflow"] == REPORT and RESULT in results.get(run["run_id"], {}))
    compared = next(reports, None)
    if compared:
        at = compared.get("ended_at") or compared["claimed_at"]
        try:
            found = _in_the_data(results[compared["run_id"]][RESULT], at)
        except (KeyError, TypeError, AttributeError) as error:  # a workflow of an older or newer commit wrote it
            found = [Finding(DATA, WATCH, f"{RESULT} has another form than expected", repr(error), at)]
        checks.append(Check(DATA, at, sum(finding.tone == WATCH for finding in found)))
        findings += found[:MOST_FINDINGS]
    return tuple(checks), tuple(findings)


def _in_the_cloud(plan: Mapping[str, Any]) -> list[Finding]:
    """What a deployment would change, and what it would leave there although nobody declares it any more."""
    at = str(plan["at"])
    changes = [(ACT, change, _difference(change)) for change in plan["cloud"]]
    orphans = [
        (WATCH, orphan, "is there, and not in git; -e prune=true removes it") for orphan in plan.get("orphans", ())
    ]
    return [
        Finding(CLOUD, tone, f"{one['kind']} {one['name']}", detail, at) for tone, one, detail in [*changes, *orphans]
    ]


def _difference(change: Mapping[str, Any]) -> str:
    if change["action"] == "update":
        return f"differs in {', '.join(change['fields'])}"
    return {"create": "is in git, and not there", "delete": "is there, and not in git"}[change["action"]]


def _in_the_data(result: Mapping[str, Any], at: str) -> list[Finding]:
    """The fleet and devices whose sensors do not read what the champion was trained on; drift before warnings."""
    fleet = {"verdict": result["fleet"]["verdict"], "drift": result["fleet"]} if result.get("fleet") else None
    judged = {**({"the fleet": fleet} if fleet else {}), **result.get("devices", {})}
    found = [
        Finding(DATA, TONE_OF_VERDICT[one["verdict"]], f"{name}: {one['verdict']}", _columns(one), at)
        for name, one in judged.items()
        if one["verdict"] in TONE_OF_VERDICT
    ]
    return sorted(found, key=lambda finding: finding.tone != WATCH)


def _columns(one: Mapping[str, Any]) -> str:
    drift = one.get("drift") or {}
    told = (
        ("drifted", drift.get("drifted") or ()),
        ("changed a little", drift.get("small_changes") or ()),
        ("constant", drift.get("constant") or ()),
        ("missing", [*(drift.get("missing") or ()), *(one.get("missing_reported") or ())]),
    )
    return "; ".join(f"{what}: {_some(list(dict.fromkeys(names)))}" for what, names in told if names)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more
