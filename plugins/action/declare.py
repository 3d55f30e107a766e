"""Notes what a role declares of its part of the environment; ``cloud`` makes all of it real at once.

A role's task costs a fork instead of a process that loads boto3 and reads AWS. Nothing is checked here: the module
checks everything that was declared, so that all mistakes are reported together.
"""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

FACT = "twinops_declared"


class ActionModule(ActionBase):
    """``declare: {<part>: {<option>: <value>}}``"""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        for part, options in self._task.args.items():
            if not isinstance(options, dict):
                raise AnsibleActionFail(f"declare: {part}: expected a mapping of options, got {options!r}")
        earlier = (task_vars or {}).get(FACT, {})
        return result | {"changed": False, "ansible_facts": {FACT: {**earlier, **self._task.args}}}
