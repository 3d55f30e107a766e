"""Refuses a playbook run that touches no, several or incomplete environments.

It looks only at the inventory, which is here: in a process of its own it cost as much as reading half the cloud.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

sys.path.append(str(Path(__file__).parents[2] / "module_utils"))  # Ansible's own path to it is for modules only
from twinops.errors import TwinopsError
from twinops.preflight import check_target

OPTIONS = ("environments", "inventory", "groups")


class ActionModule(ActionBase):
    """``preflight`` with what is known of the inventory."""

    _requires_connection = False
    _supports_check_mode = True
    _VALID_ARGS = frozenset(OPTIONS)

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        try:
            env = check_target(*(self._task.args[option] for option in OPTIONS))
        except TwinopsError as error:
            raise AnsibleActionFail(str(error)) from error
        return result | {"changed": False, "env": env}
