"""Observe, plan, apply, read back: the only place where check mode is decided.

Observing never writes, planning never calls, applying never decides. Resources of one kind are observed and applied in
parallel (bounded); kinds follow each other in the order of ``resources.ORDER``.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from ..errors import TwinopsError
from ..names import OWNER_TAG
from ..plan import CREATE, DELETE, Change, Key, Observed, diff, plan
from ..resources import Resource
from ..status import STALLED, Condition, summary
from .kinds import bucket, function, layer, lifecycle_config, log_group, notebook, queue, role, rule, table, topic
from .session import Aws, explain

READ_BACK_PAUSE_S = 1.0


class Kind(Protocol):
    """What each file in ``kinds/`` offers.

    ``WORKERS`` is how many resources of the kind may be changed at the same time. ``READ_BACK`` is true where a change
    that AWS accepted is not yet in effect: its conditions are read again afterwards.
    """

    @property
    def SERVICES(self) -> tuple[str, ...]: ...
    @property
    def WORKERS(self) -> int: ...
    @property
    def READ_BACK(self) -> bool: ...

    def observe(self, aws: Aws, names: Collection[str]) -> dict[str, Observed]: ...
    def create(self, aws: Aws, change: Change) -> None: ...
    def update(self, aws: Aws, change: Change) -> None: ...
    def delete(self, aws: Aws, change: Change) -> None: ...


KINDS: Mapping[str, Kind] = {
    "role": role,
    "queue": queue,
    "bucket": bucket,
    "table": table,
    "topic": topic,
    "log_group": log_group,
    "layer": layer,
    "function": function,
    "lifecycle_config": lifecycle_config,
    "notebook": notebook,
    "rule": rule,
}

_NAMES_BELOW = {"rule": rule.names_below, "log_group": log_group.names_below}


@dataclass(frozen=True)
class Family:
    """All resources of a kind below a prefix that carry a tag. Those that are not desired any more are removed."""

    kind: str
    prefix: str
    tag: str = OWNER_TAG


class ApplyError(TwinopsError):
    """Some changes failed. ``done`` are those that are in effect; a rerun does the rest."""

    def __init__(self, message: str, done: Sequence[Change]) -> None:
        super().__init__(message)
        self.done = tuple(done)


def reconcile(
    aws: Aws,
    desired: Iterable[Resource],
    *,
    apply: bool,
    families: Iterable[Family] = (),
    wait_timeout_s: float = 0,
) -> dict[str, Any]:
    """Make AWS what is ``desired``; with ``apply`` false (check mode) only say what that would change.

    Waits up to ``wait_timeout_s`` for conditions that pass by themselves, such as a notebook that starts.
    """
    wanted = tuple(desired)
    keys = {(resource.kind, resource.name) for resource in wanted}
    families = tuple(families)
    observed = observe(aws, keys | _members(aws, families))
    changes = plan(wanted, observed, absent=_outdated(observed, keys, families))
    return _carry_out(aws, changes, observed, keys, apply=apply, wait_timeout_s=wait_timeout_s)


def remove(aws: Aws, unwanted: Iterable[Resource], *, apply: bool) -> dict[str, Any]:
    """Remove what twinops owns of ``unwanted``; with ``apply`` false only say what that would remove."""
    keys = [(resource.kind, resource.name) for resource in unwanted]
    observed = observe(aws, keys)
    changes = plan((), observed, absent=keys)
    return _carry_out(aws, changes, {}, set(), apply=apply, wait_timeout_s=0)


def observe(aws: Aws, keys: Iterable[Key]) -> dict[Key, Observed]:
    """What exists of ``keys``."""
    names: defaultdict[str, list[str]] = defaultdict(list)
    for kind, name in sorted(keys):
        names[kind].append(name)
        for service in KINDS[kind].SERVICES:
            aws.client(service)

    def observe_kind(kind: str) -> dict[Key, Observed]:
        try:
            found = KINDS[kind].observe(aws, names[kind])
        except (BotoCoreError, ClientError) as error:
            raise explain(error, f"{kind} {', '.join(names[kind])}") from error
        return {(kind, name): resource for name, resource in found.items()}

    return {key: found for part in aws.each(observe_kind, names) for key, found in part.items()}


def _members(aws: Aws, families: Iterable[Family]) -> set[Key]:
    members = set()
    for family in families:
        try:
            members |= {(family.kind, name) for name in _NAMES_BELOW[family.kind](aws, family.prefix)}
        except (BotoCoreError, ClientError) as error:
            raise explain(error, f"{family.kind} {family.prefix}*") from error
    return members


def _outdated(observed: Mapping[Key, Observed], keys: Collection[Key], families: Iterable[Family]) -> list[Key]:
    tags = {family.kind: family.tag for family in families}
    return [
        key
        for key, found in observed.items()
        if key not in keys and tags.get(found.resource.kind) in found.resource.tags
    ]


def _carry_out(
    aws: Aws,
    changes: Sequence[Change],
    observed: Mapping[Key, Observed],
    keys: Collection[Key],
    *,
    apply: bool,
    wait_timeout_s: float,
) -> dict[str, Any]:
    conditions = [condition for key in sorted(keys & observed.keys()) for condition in observed[key].conditions]
    if apply:
        _apply(aws, changes)
        conditions = _read_back(aws, changes, conditions, wait_timeout_s)
    return {
        "changed": bool(changes),
        "changes": [change.as_dict() for change in changes],
        "diff": diff(changes),
        "conditions": summary(conditions),
        "calls": aws.calls,
    }


def _apply(aws: Aws, changes: Sequence[Change]) -> None:
    """Apply in stages: deletions, then kind after kind. A failed stage is the last one."""
    done: list[Change] = []

    def apply_one(change: Change) -> None:
        kind = KINDS[change.kind]
        carry_out = {CREATE: kind.create, DELETE: kind.delete}.get(change.action, kind.update)
        try:
            carry_out(aws, change)
        except (BotoCoreError, ClientError) as error:
            raise explain(error, f"{change.kind} {change.name}") from error
        done.append(change)

    for (kind, _), stage in groupby(changes, key=lambda change: (change.kind, change.action == DELETE)):
        try:
            aws.each(apply_one, stage, workers=KINDS[kind].WORKERS)
        except TwinopsError as error:
            raise ApplyError(str(error), done) from error


def _read_back(
    aws: Aws, changes: Iterable[Change], conditions: list[Condition], wait_timeout_s: float
) -> list[Condition]:
    """The conditions once waiting no longer helps. Raises TwinopsError for what is stalled."""
    changed = {(change.kind, change.name) for change in changes if change.desired and KINDS[change.kind].READ_BACK}
    unsettled = changed | {(condition.kind, condition.name) for condition in conditions if condition.passes}
    kept = [condition for condition in conditions if (condition.kind, condition.name) not in unsettled]
    deadline = time.monotonic() + wait_timeout_s
    while unsettled:
        current = [condition for found in observe(aws, unsettled).values() for condition in found.conditions]
        kept += [condition for condition in current if not condition.passes]
        unsettled = {(condition.kind, condition.name) for condition in current if condition.passes}
        if unsettled and time.monotonic() + READ_BACK_PAUSE_S > deadline:
            kept += [condition for condition in current if condition.passes]
            break
        if unsettled:
            time.sleep(READ_BACK_PAUSE_S)
    stalled = [condition for condition in kept if condition.type == STALLED]
    if stalled:
        raise ApplyError("\n".join(f"{it.kind} {it.name}: {it.reason}: {it.message}" for it in stalled), tuple(changes))
    if wait_timeout_s and any(condition.passes for condition in kept):
        waiting = ", ".join(f"{it.kind} {it.name}: {it.reason}" for it in kept if it.passes)
        raise ApplyError(f"{waiting}: not ready within {wait_timeout_s:g} s; rerun to wait on", tuple(changes))
    return kept
