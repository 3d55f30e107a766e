"""What the parts of an environment have in common: the scope they are for, what was read for them, and their tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from .. import policies
from ..errors import SpecError
from ..iam import MANAGED_POLICY_LIMIT, Document, size
from ..names import PART_TAG
from ..resources import Json, ManagedPolicy, Role, Scope
from ..spec import Alarms

WORKFLOW_TAG = "twinops:workflow"
"""Marks what belongs to one workflow, so that what a removed folder leaves behind can be found."""

Options = Mapping[str, Any]
"""What a role declares of its part, checked and completed by the part's ``OPTIONS``."""

SESSION_S = (3600, 43200)
"""What AWS offers for the length of a role's sessions."""


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
    def timezone(self) -> str: ...
    @property
    def event(self) -> Mapping[str, object] | None: ...
    @property
    def timeout_s(self) -> int: ...
    @property
    def idempotent(self) -> bool: ...
    @property
    def concurrency(self) -> str: ...
    @property
    def alarms(self) -> Alarms: ...
    @property
    def dashboard(self) -> tuple[str, ...]: ...
    @property
    def data_sources(self) -> tuple[str, ...]: ...


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


def managed_policy(estate: Estate, part: str, purpose: str, description: str, document: Document) -> ManagedPolicy:
    """A managed policy of ``part``. Raises SpecError if it is longer than AWS takes."""
    name, length = estate.scope.names.policy(purpose), size(document)
    if length > MANAGED_POLICY_LIMIT:
        raise SpecError([f"managed policy {name}: expected at most {MANAGED_POLICY_LIMIT} characters, got {length}"])
    return ManagedPolicy(name=name, tags=estate.tags(part), document=document, description=description)


def role(estate: Estate, part: str, purpose: str, document: Document, **changed: Any) -> Role:
    """A role of ``part`` within the boundary, with ``document`` as its only inline policy.

    By default it is assumed by the service that runs it; ``changed`` are other fields.
    """
    name, boundary = estate.scope.names.role(purpose), estate.scope.policy_arn(policies.BOUNDARY)
    usual = Role(
        name=name,
        tags=estate.tags(part),
        description=policies.DESCRIPTIONS[purpose],
        trust={},
        policies={name: document},
        boundary=boundary,
    )
    return replace(usual, trust=changed.pop("trust", None) or policies.trust(purpose), **changed)


def check_session(part: str, session_s: int) -> None:
    """Raises SpecError for a length of sessions that AWS does not offer."""
    if not SESSION_S[0] <= session_s <= SESSION_S[1]:
        raise SpecError([f"{part}: session_s: expected {SESSION_S[0]}–{SESSION_S[1]}, got {session_s}"])
