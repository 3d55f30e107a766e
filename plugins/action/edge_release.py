"""Pushes to a device what it lacks of a release, over the connection that is open anyway, then runs the transaction.

One task a device: ask, push one archive, install. A device that lacks nothing is asked only. Where a delta did not do,
whole files follow. Who is asked is the program that the device keeps; where it has not the one of this work tree, or
where it cannot be spoken to (no pipelining), the module is sent to do the same.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase

sys.path.append(str(Path(__file__).parents[2] / "module_utils"))  # Ansible's own path to it is for modules only
from twinops import windows
from twinops.edge import agent, push
from twinops.errors import SpecError
from twinops.publishing import delivery

ATTACHED_BYTES = 4 << 20
"""At most so much of an archive travels with the request; more is put into files before, which interruptions leave."""
NO_PROGRAM = (2, 126, 127)
"""Exit codes, without an answer, of a shell that has no such interpreter and of Python that has no such program."""


class ActionModule(ActionBase):
    """``edge_release`` with files."""

    _may_ask_program = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments, self._variables = dict(self._task.args), task_vars or {}
        bundle, bandwidth_kib_s = arguments.get("bundle"), _bandwidth(arguments.pop("bandwidth_kib_s", 0))
        _check_window(arguments.get("maintenance_window") or "")
        if not isinstance(bundle, dict) or "release" not in bundle:
            raise AnsibleActionFail(
                "edge_release: bundle: expected the result of release_bundle; is the control host within --limit?"
            )
        if not bundle.get("release_digest"):
            if not self._task.check_mode:
                raise AnsibleActionFail(f"edge_release: bundle: {bundle['release']} is not published")
            return result | {"changed": True, "msg": f"would install {bundle['release']} once it is published"}
        survey = self._variables.get("edge_gate_survey") or {}
        if self._task.check_mode and (survey.get("device_status") or {}).get("phase") == "not enrolled":
            return result | {"changed": True, "msg": f"would install {bundle['release']} once it is enrolled"}
        arguments["bundle"] = slim(bundle)
        if arguments.get("state") == "reverted":
            return result | self._ask(arguments)
        found = self._ask({**arguments, "step": "look"})
        if found.get("failed") or not found["changed"] or self._task.check_mode:
            return result | found | {"bytes_sent": 0}
        if found["action"] == "wait":
            return result | self._ask(arguments) | {"bytes_sent": 0}
        return result | self._deliver(arguments, bundle, found, bandwidth_kib_s)

    def _deliver(
        self, arguments: dict[str, Any], bundle: Mapping[str, Any], found: dict[str, Any], bandwidth_kib_s: float
    ) -> dict[str, Any]:
        """Push and install; once more with whole files where the deltas did not do."""
        repository = Path(bundle["repository"])
        deltas = delivery.choose_deltas(repository, bundle, found["bases"])
        bytes_sent = 0
        while True:
            paths = delivery.paths(bundle, found["lacking"], deltas)
            parts = delivery.pack(repository, paths, delivery.part_bytes(bandwidth_kib_s))
            missing = [part for part in parts if part.name not in found["received"]]
            missing_bytes = sum(part.stat().st_size for part in missing)
            if not self._may_ask_program or bandwidth_kib_s or missing_bytes > ATTACHED_BYTES:
                self._push(missing, f"{arguments['root']}/incoming", bandwidth_kib_s)
                missing = []
            bytes_sent += missing_bytes
            installed = self._ask({**arguments, "archive": [part.name for part in parts]}, missing)
            if not installed.get("whole") or not deltas:
                return installed | {"bytes_sent": bytes_sent, "deltas": len(deltas)}
            found, deltas = {**found, "lacking": installed["lacking"], "received": []}, {}

    def _push(self, parts: Sequence[Path], folder: str, bandwidth_kib_s: float) -> None:
        if bandwidth_kib_s and self._connection.transport == "ssh":
            for program in ("sftp", "scp"):  # whichever of them Ansible takes; both count in Kbit/s
                extra = self._connection.get_option(f"{program}_extra_args") or ""
                limit = max(1, round(bandwidth_kib_s * 8192 / 1000))
                self._connection.set_option(f"{program}_extra_args", f"{extra} -l {limit}".strip())
        for part in parts:
            self._connection.put_file(str(part), f"{folder}/{part.name}")

    def _ask(self, arguments: dict[str, Any], attached: Sequence[Path] = ()) -> dict[str, Any]:
        """What the device answers. Parts are ``attached`` only after its program has answered before."""
        self._may_ask_program = self._may_ask_program and self._is_pipelining_enabled("new")
        if self._may_ask_program:
            answer = self._program(arguments, attached)
            if answer is not None:
                return answer
            self._may_ask_program = False
        return self._module(arguments)

    def _program(self, arguments: dict[str, Any], attached: Sequence[Path]) -> dict[str, Any] | None:
        """The answer of the program that the device keeps; ``None`` where it has not this one."""
        checked = ArgumentSpecValidator(push.PARAMETERS).validate(arguments)
        if checked.error_messages:
            raise AnsibleActionFail(f"edge_release: {'; '.join(checked.error_messages)}")
        sizes = [(part.name, part.stat().st_size) for part in attached]
        request = {"params": checked.validated_parameters, "apply": not self._task.check_mode, "attached": sizes}
        data = b"".join([json.dumps(request).encode(), b"\n", *(part.read_bytes() for part in attached)])
        root = str(arguments["root"])
        command = shlex.join([f"{root}/venv/bin/python", "-I", f"{root}/{agent.push_program()[0]}"])
        environment = self._compute_environment_string()
        done = self._low_level_execute_command(
            f"{environment} {command}".strip(),
            in_data=data,
            executable="/bin/sh",  # its own would be followed by a sleep
        )
        lines = [line for line in done["stdout"].splitlines() if line.startswith("{")]
        if lines:
            return dict(json.loads(lines[-1]))
        if done["rc"] in NO_PROGRAM and not attached:
            return None
        raise AnsibleActionFail(
            f"edge_release: the program on the device gave no answer, exit code {done['rc']}: {done['stderr'][-500:]}"
        )

    def _module(self, arguments: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self._execute_module(
            module_name="edge_release", module_args=arguments, task_vars=self._variables
        )
        return answer


def slim(bundle: dict[str, Any]) -> dict[str, Any]:
    """What the device needs to know of the bundle."""
    files = {
        digest: {"size_bytes": file["size_bytes"], "name": file["name"]} for digest, file in bundle["files"].items()
    }
    return {"release": bundle["release"], "release_digest": bundle["release_digest"], "files": files}


def _bandwidth(value: Any) -> float:
    try:
        bandwidth_kib_s = float(value or 0)
    except (TypeError, ValueError):
        bandwidth_kib_s = -1
    if not 0 <= bandwidth_kib_s < float("inf"):
        raise AnsibleActionFail(f"edge_bandwidth_kib_s: expected KiB/s, or 0 for no limit, got {value!r}")
    return bandwidth_kib_s


def _check_window(text: str) -> None:
    try:
        windows.check(text, "edge_maintenance_window")
    except SpecError as error:
        raise AnsibleActionFail(str(error)) from error
