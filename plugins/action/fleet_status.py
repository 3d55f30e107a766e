"""Shows the devices, or what ran on one of them when: a table that Ansible's own output would tear apart."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

sys.path.append(str(Path(__file__).parents[2] / "module_utils"))  # Ansible's own path to it is for modules only
from twinops import deployments, device_table, workers
from twinops.access import ACCESS, access
from twinops.errors import TwinopsError
from twinops.names import ENVIRONMENTS, Names

if TYPE_CHECKING:
    from twinops.aws.ledger import Ledger

SPEC = {
    "env": {"type": "str", "required": True, "choices": list(ENVIRONMENTS)},
    "results": {"type": "dict", "required": True},
    "waves": {"type": "dict", "default": {}},
    "device": {"type": "str"},
    "at": {"type": "str"},
    "known_at": {"type": "str"},
    **ACCESS,
}


class ActionModule(ActionBase):
    """``fleet_status`` (``ansible-doc -M library fleet_status``)."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _, params = self.validate_argument_spec(SPEC, required_by={"at": ["device"], "known_at": ["device"]})
        workers.work_as_a_module(self)
        try:
            shown = show(params)
        except TwinopsError as error:
            return {**result, "failed": True, "msg": str(error)}
        with workers.uninterrupted():
            Display().display("\n".join(shown["lines"]))
        return {**result, "changed": False, **shown}


def show(params: Mapping[str, Any]) -> dict[str, Any]:
    """What the task returns.

    :raises TwinopsError: the ledger cannot be read, or a person asked for what there is not
    """
    from twinops.aws.clients import client  # noqa: PLC0415  (in the worker only)
    from twinops.aws.ledger import Ledger  # noqa: PLC0415

    ledger = Ledger(Names(params["env"]).ledger, client("dynamodb", **access(params)))
    return one_device(params, ledger) if params["device"] else all_devices(params, ledger)


def all_devices(params: Mapping[str, Any], ledger: Ledger) -> dict[str, Any]:
    """The table; of a device that does not answer it says what the ledger knows."""
    results = params["results"]
    silent = [device for device, result in results.items() if result.get("unreachable")]
    last_known = {device: next(iter(deployments.periods(ledger.deployments(device))[-1:]), None) for device in silent}
    waves = {device: wave for wave, devices in params["waves"].items() for device in devices}
    return {"lines": device_table.table(results, waves, last_known)}


def one_device(params: Mapping[str, Any], ledger: Ledger) -> dict[str, Any]:
    """What ran on one device at a moment, or whenever."""
    device, result = params["device"], params["results"].get(params["device"])
    moment, known_at = (
        deployments.moment_of(params[name], name) if params[name] else "" for name in ("at", "known_at")
    )
    events = ledger.deployments(device)
    if result is None and not events:
        raise TwinopsError(f"device: expected one of the inventory or of the ledger, got {device}")
    if not known_at:
        events = deployments.with_history(events, ((result or {}).get("device_status") or {}).get("history", ()))
    found = deployments.periods(events, known_at=known_at)
    if not moment:
        return {"periods": [asdict(each) for each in found], "lines": device_table.history(device, found)}
    period = deployments.at(found, moment)
    lines = device_table.answer(device, moment, period, known_at)
    return {"periods": [asdict(period)] if period else [], "lines": lines}
