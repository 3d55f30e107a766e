"""Writes what a run in check mode found to be changed, as JSON: the raw material of a plan (``pipeline/plans.py``)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: plan_file
type: aggregate
short_description: Write what a run in check mode would change
description:
  - Writes the results of the tasks that would change something, and of those that failed, to the file that the
    environment variable E(TWINOPS_PLAN_FILE) names, once the run has ended.
  - Of the cloud it writes all that C(cloud) has found, whether something would change or not.
requirements: [enable in configuration, or with E(ANSIBLE_CALLBACKS_ENABLED)]
"""

OF_CLOUD = ("plan", "orphans", "warnings", "git_sha")
OF_OTHERS = ("release", "release_digest", "waiting", "waves", "diff", "warnings")


class CallbackModule(CallbackBase):  # type: ignore[misc]  # Ansible ships no types
    """Collects while the run goes on, and writes once."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "plan_file"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._cloud: dict[str, Any] | None = None
        self._tasks: list[dict[str, Any]] = []
        self._failures: list[dict[str, Any]] = []

    def v2_runner_on_ok(self, result: Any) -> None:
        found, action = result.result, result.task.action
        if action == "cloud":
            self._cloud = {name: found[name] for name in OF_CLOUD if name in found}
        elif found.get("changed") or action == "release_bundle":
            self._tasks.append({**self._where(result), **{name: found[name] for name in OF_OTHERS if name in found}})

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            self._failures.append({**self._where(result), "message": str(result.result.get("msg", ""))})

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._tasks.append({**self._where(result), "unreachable": True})

    def v2_playbook_on_stats(self, stats: Any) -> None:
        path = os.environ.get("TWINOPS_PLAN_FILE")
        if not path:
            return
        found = {"cloud": self._cloud, "tasks": self._tasks, "failures": self._failures}
        temporary = Path(f"{path}.new")
        temporary.write_text(json.dumps(found, indent=1, default=str) + "\n", encoding="utf-8")
        temporary.replace(path)

    @staticmethod
    def _where(result: Any) -> dict[str, Any]:
        return {"host": result.host.get_name(), "action": result.task.action, "task": result.task.get_name()}
