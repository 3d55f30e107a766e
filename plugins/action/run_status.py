"""Shows the latest runs, or the log of one as it comes: a module could print only once, when it has ended."""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

sys.path.append(str(Path(__file__).parents[2] / "module_utils"))  # Ansible's own path to it is for modules only
from twinops import runs, workers
from twinops.access import ACCESS, access
from twinops.errors import TwinopsError
from twinops.names import ENVIRONMENTS, Names
from twinops.run_table import table

if TYPE_CHECKING:
    from twinops.aws.ledger import Ledger

SPEC = {
    "env": {"type": "str", "required": True, "choices": list(ENVIRONMENTS)},
    "limit": {"type": "int", "default": 20},
    "workflow": {"type": "str"},
    "state": {"type": "str", "choices": list(runs.TRANSITIONS)},
    "log": {"type": "str"},
    "follow": {"type": "str"},
    **ACCESS,
}


def show(text: str) -> None:
    """Print as a whole."""
    with workers.uninterrupted():
        Display().display(text)


def show_runs(params: dict[str, Any], ledger: Ledger) -> dict[str, Any]:
    """Print the table."""
    wanted = {name: params[name] for name in ("workflow", "state") if params[name]}
    found = ledger.runs(limit=params["limit"], **wanted)
    waiting = {run["workflow"] for run in found if run["state"] == runs.QUEUED}
    lines = table(found, {workflow: ledger.turns.turn(workflow) for workflow in waiting}, datetime.now(timezone.utc))
    show("\n".join(lines))
    return {"runs": found, "lines": lines}


class ActionModule(ActionBase):
    """``run_status`` (``ansible-doc -M library run_status``)."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _, params = self.validate_argument_spec(SPEC, mutually_exclusive=[["log", "follow"]])
        workers.work_as_a_module(self)
        return {**result, "changed": False, **answer(params)}


def answer(params: dict[str, Any]) -> dict[str, Any]:
    """What the task returns, after everything was printed."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  (in the worker only)
    from twinops.aws.clients import client  # noqa: PLC0415
    from twinops.aws.ledger import Ledger  # noqa: PLC0415
    from twinops.aws.run_log import RunLog  # noqa: PLC0415
    from twinops.aws.session import explain  # noqa: PLC0415

    ledger = Ledger(Names(params["env"]).ledger, client("dynamodb", **access(params)))
    run_id = params["log"] or params["follow"]
    try:
        if not run_id:
            return show_runs(params, ledger)
        log = RunLog(ledger, client("logs", **access(params)), run_id)
        for line in log.follow() if params["follow"] else log.printed():
            show(line)
        return {"runs": [run for run in [ledger.run(run_id)] if run]}
    except TwinopsError as error:
        return {"failed": True, "msg": str(error)}
    except (BotoCoreError, ClientError) as error:
        return {"failed": True, "msg": str(explain(error, f"log of run {run_id}"))}
