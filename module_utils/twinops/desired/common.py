"""What the parts of an environment have in common: the scope they are for, what was read for them, and their tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..names import PART_TAG
from ..resources import Json, Scope
from ..spec import Alarms

WORKFLOW_TAG = "twinops:workflow"
"""Marks what belongs to one workflow, so that what a removed folder leaves behind can be found."""

Options = Mapping[str, Any]
"""What a role declares of its part, checked and completed by the part's ``OPTIONS``."""


class Workflow(Protocol):
    """What an environment needs to know of a workflow; ``twinops.spec.Workflow`` has it."""

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def owner(self) -> str: ...
    @property
    def schedule(self) -> str | None: ...
    @property
    def event(self) -> Mapping[str, object] | None: ...
    @property
    def timeout_s(self) -> int: ...
    @property
    def idempotent(self) -> bool: ...
    @property
    def alarms(self) -> Alarms: ...


@dataclass(frozen=True)
class DispatchCode:
    """Digests of the two archives of the functions."""

    code_sha256: str
    layer_sha256: str


@dataclass(frozen=True)
class Estate:
    """What the parts of an environment are computed from, besides what each role declares.

    ``git_sha``: the commit that is deployed; ``workflows`` and ``code``: what was read from its work tree;
    ``twin_script``: the script that twins run at every start. They are empty where no declared part needs them.
    """

    scope: Scope
    extra_tags: Json = field(default_factory=dict)
    git_sha: str = ""
    workflows: tuple[Workflow, ...] = ()
    code: DispatchCode = DispatchCode("", "")
    twin_script: str = ""

    def tags(self, part: str, workflow: str = "") -> dict[str, str]:
        """Tags of the spec, under those by which twinops recognises its own."""
        tags = {key: str(value) for key, value in self.extra_tags.items()}
        tags.update(self.scope.names.tags)
        tags[PART_TAG] = part
        return {**tags, WORKFLOW_TAG: workflow} if workflow else tags
