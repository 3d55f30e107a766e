"""Desired and observed resources -> an ordered list of changes and a readable diff. Pure: no I/O, no clock.

Rules, in this order:

1. What is desired and not observed is created, with all its fields.
2. What is observed and differs is updated in exactly the fields that differ. Tags differ when one of ours is missing or
   has another value; tags of others do not count.
3. A field that AWS cannot change in place is an error that says what to do: replacing would lose data.
4. A machine (notebook, instance) has to be stopped for some changes: its steps say so.
5. What is observed and declared absent is deleted, if it carries the tag of its owner.
6. Deletions come first, in the opposite order of creation; then creations and updates in the order of their kinds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import SpecError
from .names import OWNER, OWNER_TAG
from .resources import ORDER, Resource
from .status import Condition

CREATE = "create"
UPDATE = "update"
DELETE = "delete"

Key = tuple[str, str]  # kind, name


@dataclass(frozen=True)
class Observed:
    """A resource as AWS reports it. ``handles`` are identifiers that AWS made up and that are needed to change it."""

    resource: Resource
    handles: Mapping[str, Any] = field(default_factory=dict)
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True)
class Change:
    """One change of one resource. ``fields`` are those that differ, ``steps`` what applying it takes."""

    action: str
    kind: str
    name: str
    fields: tuple[str, ...]
    desired: Resource | None = None
    observed: Observed | None = None
    steps: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        plain: dict[str, Any] = {"action": self.action, "kind": self.kind, "name": self.name}
        plain["fields"] = list(self.fields)
        if self.steps:
            plain["steps"] = list(self.steps)
        return plain


def plan(
    desired: Iterable[Resource], observed: Mapping[Key, Observed], absent: Iterable[Key] = ()
) -> tuple[Change, ...]:
    """The changes that turn ``observed`` into ``desired`` without what is ``absent``.

    Raises SpecError, listing all of them, for fields that cannot be changed in place.
    """
    mistakes: list[str] = []
    changes = []
    for resource in desired:
        found = observed.get((resource.kind, resource.name))
        if found is None:
            changes.append(_create(resource))
            continue
        different = differing_fields(resource, found.resource)
        mistakes += [
            f"{resource.kind} {resource.name}: {name}: is {getattr(found.resource, name)!r}, "
            f"wanted {getattr(resource, name)!r}: {obstacle}"
            for name in different
            if (obstacle := resource.obstacle(name, found.resource))
        ]
        if different:
            changes.append(_update(resource, found, different))
    if mistakes:
        raise SpecError(mistakes)
    removals = [_delete(observed[key]) for key in absent if key in observed and is_ours(observed[key].resource)]
    return (*sorted(removals, key=_rank, reverse=True), *sorted(changes, key=_rank))


def differing_fields(desired: Resource, observed: Resource) -> tuple[str, ...]:
    """The owned fields in which two resources of one kind differ."""
    return tuple(name for name in desired.values() if desired.differs(name, observed))


def is_ours(resource: Resource) -> bool:
    """Whether twinops may remove it."""
    return not resource.taggable or resource.tags.get(OWNER_TAG) == OWNER


def diff(changes: Iterable[Change]) -> dict[str, dict[str, Any]]:
    """Before and after of the fields that change, for Ansible's ``--diff``. Long texts are lists of lines."""
    before, after = {}, {}
    for change in changes:
        title = f"{change.kind} {change.name}"
        if change.observed:
            before[title] = _shown(change.observed.resource, change.fields)
        if change.desired:
            after[title] = _shown(change.desired, change.fields)
            if change.steps:
                after[title]["(steps)"] = ", ".join(change.steps)
    return {"before": before, "after": after}


def _create(resource: Resource) -> Change:
    return Change(CREATE, resource.kind, resource.name, tuple(resource.values()), desired=resource)


def _update(resource: Resource, found: Observed, different: tuple[str, ...]) -> Change:
    steps = _machine_steps(resource, found.resource, different) if resource.changed_while_stopped else ()
    return Change(UPDATE, resource.kind, resource.name, different, resource, found, steps)


def _delete(found: Observed) -> Change:
    resource = found.resource
    return Change(DELETE, resource.kind, resource.name, tuple(resource.values()), observed=found)


def _machine_steps(desired: Resource, observed: Resource, different: tuple[str, ...]) -> tuple[str, ...]:
    is_running, shall_run = bool(getattr(observed, "running", False)), bool(getattr(desired, "running", False))
    needs_stop = any(name in desired.changed_while_stopped for name in different)
    steps = []
    if is_running and (needs_stop or not shall_run):
        steps.append("stop")
        is_running = False
    if needs_stop:
        steps.append("update")
    if shall_run and not is_running:
        steps.append("start")
    return tuple(steps)


def _rank(change: Change) -> int:
    return ORDER.index(change.kind)


def _shown(resource: Resource, names: Iterable[str]) -> dict[str, Any]:
    return {name: _readable(getattr(resource, name)) for name in names}


def _readable(value: Any) -> Any:
    if isinstance(value, str) and "\n" in value:
        return value.splitlines()
    if isinstance(value, Mapping):
        return {key: _readable(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_readable(inner) for inner in value]
    return value
