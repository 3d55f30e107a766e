"""Keeps the cloud of an environment as its roles declared it: one process reads AWS once for everything.

It runs in Ansible's own worker: packing a module with all of twinops, and starting Python for it, cost as much again as
reading and comparing a hundred workflows (docs/adr/0006).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase

sys.path.append(str(Path(__file__).parents[2] / "module_utils"))  # Ansible's own path to it is for modules only
from twinops import archives, work_tree, workers
from twinops import desired as estate
from twinops.access import ACCESS, access
from twinops.errors import SpecError, TwinopsError
from twinops.names import ENVIRONMENTS
from twinops.spec_files import load_workflows

SPEC = {
    "env": {"type": "str", "required": True, "choices": list(ENVIRONMENTS)},
    **ACCESS,
    "declared": {"type": "dict", "required": True},
    "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
    "prune": {"type": "bool", "default": False},
    "with_data": {"type": "bool", "default": False},
    "tags": {"type": "dict", "default": {}},
    "repository": {"type": "path", "required": True},
    "uncommitted": {"type": "str", "default": "fail", "choices": ["fail", "warn"]},
    "approved": {"type": "path"},
    "wait": {"type": "bool", "default": True},
    "wait_timeout": {"type": "int", "default": 900},
}

DEPLOYED_FOLDERS = ("workflows", "dispatch", "module_utils")
"""What runs of workflows fetch by commit."""


def check_declared(declared: dict) -> dict:
    """What was declared, with defaults. Raises SpecError with every mistake of every part."""
    complete, mistakes = {}, []
    for part, options in declared.items():
        if part not in estate.OPTIONS:
            mistakes.append(f"declared: {part}: expected one of {', '.join(estate.OPTIONS)}")
            continue
        given = {name: value for name, value in options.items() if value is not None}
        checked = ArgumentSpecValidator(estate.OPTIONS[part]).validate(given)
        mistakes += [f"{part}: {message}" for message in checked.error_messages]
        complete[part] = checked.validated_parameters
    if mistakes:
        raise SpecError(mistakes)
    return complete


def deployed_commit(repository: Path, uncommitted: str, warn: Callable[[str], None]) -> str:
    """The commit that runs will fetch. Raises TwinopsError, or warns, about files that would not be in it."""
    git_sha = work_tree.head(repository)
    paths = work_tree.uncommitted(repository, DEPLOYED_FOLDERS)
    if paths:
        message = work_tree.not_in_commit(repository, git_sha, paths)
        if uncommitted == "fail":
            raise TwinopsError(f"{message}. Commit it, or remove it.")
        warn(message)
    return git_sha


def read_work_tree(params: dict, declared: dict, warn: Callable[[str], None]) -> tuple[dict, dict]:
    """What the declared parts need of the work tree, as fields of the estate, and the archives to upload, by digest."""
    repository, fields = Path(params["repository"]), {}
    if "twins" in declared:
        fields["twin_script"] = archives.read_text(Path(declared["twins"]["script"]))
    if not declared.keys() & {"workflows", "observability"}:
        return fields, {}
    fields["workflows"] = load_workflows(repository)
    fields["git_sha"] = deployed_commit(repository, params["uncommitted"], warn)
    code, layer = work_tree.function_archives(repository)
    digests = estate.DispatchCode(archives.lambda_sha256(code), archives.sha256(layer))
    return {**fields, "code": digests}, {digests.code_sha256: code, digests.layer_sha256: layer}


def approved_changes(path: str | None) -> list[dict[str, Any]] | None:
    """The changes of the cloud in an approved plan (``make plan``). None where nobody asks for an approval."""
    if not path:
        return None
    try:
        return list(json.loads(Path(path).read_text(encoding="utf-8"))["cloud"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TwinopsError(f"approved: {path}: expected a plan as make plan writes it, got {error!r}") from error


def converge(params: dict, *, apply: bool, warn: Callable[[str], None]) -> dict[str, Any]:
    """Everything a person can get wrong is read and checked before the first call to AWS."""
    declared = check_declared(params["declared"])
    fields, uploads = read_work_tree(params, declared, warn)
    from twinops.aws.reconcile import Extent, reconcile, remove  # noqa: PLC0415  (loads botocore: in the worker only)
    from twinops.aws.session import Aws  # noqa: PLC0415

    aws = Aws(params["env"], **access(params))
    aws.archives.update(uploads)
    read = estate.Estate(scope=aws.scope, extra_tags=params["tags"], **fields)
    resources, extent = estate.resources(read, declared), Extent(tuple(declared), params["prune"])
    if params["state"] == "absent":
        ours = estate.belonging_to(resources, declared)
        return remove(aws, ours, apply=apply, extent=extent, with_data=params["with_data"])
    wait_timeout_s = params["wait_timeout"] if params["wait"] else 0
    approved = approved_changes(params["approved"])
    result = reconcile(aws, resources, apply=apply, extent=extent, wait_timeout_s=wait_timeout_s, approved=approved)
    for orphan in result["orphans"]:
        warn(f"{orphan['kind']} {orphan['name']}: not declared any more; -e prune=true removes it")
    return {**result, "git_sha": read.git_sha}


class ActionModule(ActionBase):
    """``cloud`` (``ansible-doc -M library cloud``)."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _, params = self.validate_argument_spec(SPEC)
        workers.work_as_a_module(self)
        warnings: list[str] = []
        try:
            result |= converge(params, apply=not self._task.check_mode, warn=warnings.append)
        except TwinopsError as error:
            result |= {"failed": True, **failure(error)}
        return {**result, "warnings": warnings} if warnings else result


def failure(error: TwinopsError) -> dict[str, Any]:
    """The message, and what was changed before."""
    done = getattr(error, "done", ())
    return {"msg": str(error), "changed": bool(done), "changes": [change.as_dict() for change in done]}
