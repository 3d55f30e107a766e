"""Pushes to a device what it lacks of a release, over the connection that is open anyway, then runs the transaction.

One task a device: ask (one short module run), push one archive, install. A device that lacks nothing is asked only.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

KEEP_ARCHIVES = 8


class ActionModule(ActionBase):
    """``edge_release`` with files."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments, variables = dict(self._task.args), task_vars or {}
        bundle = arguments.get("bundle")
        if not isinstance(bundle, dict) or "release" not in bundle:
            raise AnsibleActionFail(
                "edge_release: bundle: expected the result of release_bundle; is the control host within --limit?"
            )
        if not bundle.get("release_digest"):
            if not self._task.check_mode:
                raise AnsibleActionFail(f"edge_release: bundle: {bundle['release']} is not published")
            return result | {"changed": True, "msg": f"would install {bundle['release']} once it is published"}
        survey = variables.get("edge_gate_survey") or {}
        if self._task.check_mode and (survey.get("device_status") or {}).get("phase") == "not enrolled":
            return result | {"changed": True, "msg": f"would install {bundle['release']} once it is enrolled"}
        if arguments.get("state") == "reverted":
            return result | self._module({**arguments, "bundle": slim(bundle)}, variables)
        found = self._module({**arguments, "bundle": slim(bundle), "step": "look"}, variables)
        if found.get("failed") or not found["changed"] or self._task.check_mode:
            return result | found | {"bytes_sent": 0}
        archive = pack(Path(bundle["repository"]), delivery(bundle, found["lacking"]))
        remote = f"{arguments['root']}/incoming/{archive.name}"
        self._connection.put_file(str(archive), remote)
        installed = self._module({**arguments, "bundle": slim(bundle), "archive": remote}, variables)
        return result | installed | {"bytes_sent": archive.stat().st_size}

    def _module(self, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self._execute_module(
            module_name="edge_release", module_args=arguments, task_vars=variables
        )
        return answer


def slim(bundle: dict[str, Any]) -> dict[str, Any]:
    """What the device needs to know of the bundle."""
    files = {digest: {"size_bytes": file["size_bytes"]} for digest, file in bundle["files"].items()}
    return {"release": bundle["release"], "release_digest": bundle["release_digest"], "files": files}


def delivery(bundle: dict[str, Any], lacking: list[str]) -> list[str]:
    """Paths in the repository: the metadata, always, and the files that the device lacks."""
    return sorted([*bundle["metadata"], *(bundle["files"][digest]["path"] for digest in lacking)])


def pack(repository: Path, paths: list[str]) -> Path:
    """One archive of ``paths``, made once and shared by all devices that lack the same."""
    content = {path: (repository / path).read_bytes() for path in paths}
    name = hashlib.sha256(b"\0".join(part for path in paths for part in (path.encode(), content[path]))).hexdigest()
    folder = repository / "push"
    archive = folder / f"{name}.tar.gz"
    if archive.is_file():
        return archive
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for path in paths:
            member = tarfile.TarInfo(path)
            member.size = len(content[path])
            tar.addfile(member, io.BytesIO(content[path]))
    folder.mkdir(exist_ok=True)
    temporary = folder / f".{name}.{id(buffer)}.new"
    temporary.write_bytes(buffer.getvalue())
    temporary.replace(archive)
    for old in sorted(folder.glob("*.tar.gz"), key=lambda path: path.stat().st_mtime)[:-KEEP_ARCHIVES]:
        old.unlink(missing_ok=True)
    return archive
