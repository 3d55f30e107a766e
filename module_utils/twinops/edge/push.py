"""What a push has a device do. The core of the module ``edge_release``, and a program that the device keeps.

A module travels with every task, and is compiled anew each time. So enrolment leaves this program on the device
(:mod:`.agent`), under the digest of its files: the action plugin asks it where the device has the very same one, and
sends the module where it does not.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from .. import slots
from ..errors import TwinopsError
from . import install, staging
from .state import Device

PARAMETERS: dict[str, dict[str, Any]] = {
    "root": {"type": "path", "required": True},
    "env": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "reverted"], "default": "present"},
    "bundle": {"type": "dict", "required": True},
    "service_manager": {"type": "str", "choices": ["systemd", "supervisord"], "required": True},
    "rollout_id": {"type": "str"},
    "reason": {"type": "str", "default": "the rollout was stopped"},
    "smoke_timeout_s": {"type": "float", "default": 60},
    "start_timeout_s": {"type": "float", "default": 60},
    "probe_s": {"type": "float", "default": 10},
    "lock_wait_s": {"type": "float", "default": 120},
    "step": {"type": "str", "choices": ["look", "apply"], "default": "apply"},
    "archive": {"type": "list", "elements": "str"},
    "maintenance_window": {"type": "str", "default": ""},
    "bandwidth_kib_s": {"type": "float", "default": 0},
}
"""The parameters of the module ``edge_release``, as Ansible describes them; documented there."""


def perform(params: Mapping[str, Any], *, apply: bool) -> dict[str, Any]:
    """The result of the task for ``params`` (:data:`PARAMETERS`); with ``apply`` false only what would be done.

    What a device may answer with is never raised: ``failed`` and ``msg`` say it.
    """
    device = Device(Path(params["root"]))
    before = device.read_state()
    try:
        result = _reverted(params, apply) if params["state"] == "reverted" else _present(params, apply)
    except (TwinopsError, OSError) as error:
        after = device.read_state()
        failed = {"failed": True, "msg": str(error), "changed": after != before, "state": after}
        return {**failed, "diff": _diff(before, after)}
    return {"diff": _diff(before, result["state"]), **result}


def _present(params: Mapping[str, Any], apply: bool) -> dict[str, Any]:
    root, bundle = Path(params["root"]), params["bundle"]
    wanted = install.Wanted(params["env"], bundle["release"], bundle["release_digest"])
    settings = _settings(params)
    found = install.look(root, wanted, settings)
    if params["step"] == "look" or not apply:
        is_due = found["action"] != slots.NOTHING
        needs = install.needs(root, wanted, bundle["files"]) if found["action"] in (slots.INSTALL, slots.UNDO) else {}
        return {"changed": is_due, "lacking": [], "bases": {}, "received": [], **found, **needs}
    try:
        changed, state = install.install(
            root, wanted, settings, rollout_id=params["rollout_id"], archive=_parts(root, params["archive"])
        )
    except install.WholeFilesNeededError as error:
        lacking = install.needs(root, wanted, bundle["files"])["lacking"]
        return {**found, "changed": False, "whole": error.digests, "why": str(error), "lacking": lacking}
    return {"changed": changed, "action": found["action"], "state": state}


def _reverted(params: Mapping[str, Any], apply: bool) -> dict[str, Any]:
    root, digest = Path(params["root"]), params["bundle"]["release_digest"]
    if not apply:
        state = Device(root).read_state()
        return {"changed": state["release_digest"] == digest, "state": state}
    changed, state = install.revert(
        root, digest, _settings(params), rollout_id=params["rollout_id"], reason=params["reason"]
    )
    return {"changed": changed, "state": state}


def _settings(params: Mapping[str, Any]) -> install.Settings:
    return install.Settings(
        service_manager=params["service_manager"],
        smoke_timeout_s=params["smoke_timeout_s"],
        start_timeout_s=params["start_timeout_s"],
        probe_s=params["probe_s"],
        lock_wait_s=params["lock_wait_s"],
        maintenance_window=params["maintenance_window"] or "",
    )


def _parts(root: Path, names: Sequence[str] | None) -> list[Path] | None:
    if names is None:
        return None
    return [staging.part(Device(root).incoming, name) for name in names]


def _diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("release", "release_digest", "slot", "phase")
    return {"before": {key: before[key] for key in keys}, "after": {key: after[key] for key in keys}}


# -- as a program -------------------------------------------------------------------------------------------------


def main(stdin: BinaryIO) -> int:
    """Answers one request with the result as one line of JSON.

    A request is a line of JSON ``{"params", "apply", "attached": [[name, size in bytes], ...]}``, followed by the
    bytes of the attached parts of an archive, which would else have been put into ``incoming/`` before.
    """
    request = json.loads(stdin.readline())
    params = request["params"]
    incoming = Device(Path(params["root"])).incoming
    try:
        for name, size_bytes in request["attached"]:
            staging.receive(stdin, incoming, name, size_bytes)
    except (TwinopsError, OSError) as error:
        result: dict[str, Any] = {"failed": True, "msg": str(error), "changed": False}
    else:
        result = perform(params, apply=request["apply"])
    sys.stdout.write(json.dumps(result) + "\n")
    return 0
