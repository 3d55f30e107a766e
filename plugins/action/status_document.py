"""Writes the status document of an environment: what the page is drawn from."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

sys.path.append(str(Path(__file__).parents[2] / "module_utils"))  # Ansible's own path to it is for modules only
from twinops import runs, work_tree, workers
from twinops.access import ACCESS, access
from twinops.edge import durable
from twinops.errors import TwinopsError
from twinops.names import ENVIRONMENTS
from twinops.overview import document
from twinops.spec_files import load_workflows

SPEC = {
    "env": {"type": "str", "required": True, "choices": list(ENVIRONMENTS)},
    "waves": {"type": "dict", "required": True},
    "repository": {"type": "path", "required": True},
    "artifacts": {"type": "path", "required": True},
    "dest": {"type": "path", "required": True},
    **ACCESS,
}


class ActionModule(ActionBase):
    """``status_document`` (``ansible-doc -M library status_document``)."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _, params = self.validate_argument_spec(SPEC)
        workers.work_as_a_module(self)
        try:
            made = make(params)
        except TwinopsError as error:
            return {**result, "failed": True, "msg": str(error)}
        if not self._task.check_mode:
            dest = Path(params["dest"])
            dest.parent.mkdir(parents=True, exist_ok=True)
            durable.write_file(dest, (json.dumps(made, indent=1) + "\n").encode())
        return {**result, "changed": False, "answer": made["answer"], "sources": made["sources"]}


def make(params: Mapping[str, Any]) -> dict[str, Any]:
    """The document.

    :raises TwinopsError: the work tree cannot be read; what cannot be read of AWS is said in the document
    """
    from twinops.aws import overview  # noqa: PLC0415  (loads botocore: in the worker only)
    from twinops.aws.clients import client  # noqa: PLC0415

    repository = Path(params["repository"])
    read = overview.read(
        params["env"],
        waves={device: wave for wave, devices in params["waves"].items() for device in devices},
        specs=list(load_workflows(repository)),
        commit=work_tree.head(repository),
        now=runs.now(),
        artifacts=Path(params["artifacts"]),
        client=partial(client, **access(params)),
    )
    return document.as_json(document.assemble(read))
