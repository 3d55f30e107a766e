"""A plan: what a deployment of one environment would change, as it is approved, kept and compared. Pure.

``{"environment", "commit", "at", "release": {"version", "digest", "waiting"}, "cloud": [change, ...], "waves": {wave:
[device, ...]}, "unreachable": [device, ...], "orphans", "warnings", "digest"}``; a change is what
``twinops.approval.plain`` makes of it. The digest is over environment, commit, release and cloud: what is approved.
Devices are left out of it: one that is off for a minute does not make another plan.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from twinops import approval

from pipeline.tools import PipelineError

Plan = Mapping[str, Any]
APPROVABLE = re.compile(r"[0-9a-f]{12,64}")
"""As much of a digest as nobody hits by chance; a page shows twelve digits."""


def of_record(record: Mapping[str, Any], *, environment: str, commit: str, at: str) -> dict[str, Any]:
    """The plan that a run in check mode found ``at`` a time (``plugins/callback/plan_file.py``)."""
    failures = record["failures"]
    if failures or record["cloud"] is None:
        reasons = [f"{each['host']}: {each['task']}: {each['message']}" for each in failures]
        raise PipelineError("\n".join(["no plan, because its run failed:", *reasons]))
    tasks = record["tasks"]
    bundle, rollout = _task_of("release_bundle", tasks), _task_of("rollout_ledger", tasks)
    found = {
        "environment": environment,
        "commit": commit,
        "at": at,
        "release": {name: bundle.get(key) for name, key in RELEASE.items()},
        "cloud": record["cloud"].get("plan", []),
        "waves": {wave: sorted(devices) for wave, devices in rollout.get("waves", {}).items()},
        "unreachable": sorted({task["host"] for task in tasks if task.get("unreachable")}),
        "orphans": record["cloud"].get("orphans", []),
        "warnings": [str(warning) for task in [record["cloud"], *tasks] for warning in task.get("warnings", [])],
    }
    clean: dict[str, Any] = approval.without_secrets(found)
    return {**clean, "digest": digest(clean)}


def _task_of(action: str, tasks: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    return next((task for task in tasks if task["action"] == action), {})


RELEASE = {"version": "release", "digest": "release_digest", "waiting": "waiting"}


def digest(plan: Plan) -> str:
    """What somebody who approves the plan approves."""
    release = {"version": plan["release"]["version"]}
    return approval.digest({**{name: plan[name] for name in ("environment", "commit", "cloud")}, "release": release})


def differs(plan: Plan) -> bool:
    """Whether something is not as git says."""
    return bool(plan["cloud"] or plan["orphans"] or any(plan["waves"].values()))


def read(path: Path) -> dict[str, Any]:
    """A plan that nobody has touched since it was made. Raises PipelineError."""
    try:
        plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        expected, found = plan["digest"], digest(plan)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PipelineError(f"{path}: expected a plan as `make plan` writes it, got {error!r}") from error
    if expected != found:
        raise PipelineError(f"{path}: expected the plan with digest {expected[:12]}, its content has {found[:12]}")
    return plan


def check_approved(plan: Plan, *, environment: str, commit: str, approved_digest: str = "") -> None:
    """Refuse a plan that was not made for this deployment. Raises PipelineError that says what to do."""
    if plan["environment"] != environment:
        raise PipelineError(f"plan: expected one of {environment}, got one of {plan['environment']}")
    if plan["commit"] != commit:
        raise PipelineError(
            f"plan: it was made for commit {plan['commit'][:12]}, and this is {commit[:12]}; nothing was changed. "
            "Make a new plan, and have it approved."
        )
    if approved_digest and not APPROVABLE.fullmatch(approved_digest):
        raise PipelineError(f"digest: expected 12 to 64 hexadecimal digits of a plan, got {approved_digest!r}")
    if approved_digest and not plan["digest"].startswith(approved_digest):
        raise PipelineError(
            f"plan: {approved_digest} was approved, and this is {plan['digest'][:12]}; nothing was changed. "
            "Look at the plan, and approve its digest."
        )
