"""Observe, plan, apply, read back: the only place where check mode is decided.

Observing never writes, planning never calls, applying never decides. Resources of one kind are observed and applied in
parallel (bounded); a kind waits for the kinds that it needs.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from .. import approval
from .. import desired as parts_of_cloud
from ..errors import TwinopsError
from ..names import ENVIRONMENT_TAG
from ..plan import CREATE, DELETE, Change, Key, Observed, diff, plan
from ..resources import KINDS as RESOURCES
from ..resources import Resource, made_before, removed_before
from ..status import STALLED, Condition, summary
from .kinds import (
    alarm,
    bucket,
    composite_alarm,
    dashboard,
    elastic_ip,
    function,
    instance,
    instance_profile,
    internet_gateway,
    key,
    layer,
    lifecycle_config,
    log_group,
    managed_policy,
    nat_gateway,
    notebook,
    oidc_provider,
    queue,
    role,
    route_table,
    rule,
    schedule,
    schedule_group,
    security_group,
    security_rules,
    subnet,
    table,
    topic,
    vpc,
    vpc_endpoint,
)
from .owned import Owned, owned
from .session import Aws, explain, in_order

READ_BACK_PAUSE_S = 1.0

_ALL_OF_CLOUD = set(parts_of_cloud.PARTS) - {parts_of_cloud.BOOTSTRAP}


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
    "oidc_provider": oidc_provider,
    "managed_policy": managed_policy,
    "role": role,
    "key": key,
    "queue": queue,
    "bucket": bucket,
    "table": table,
    "topic": topic,
    "log_group": log_group,
    "vpc": vpc,
    "internet_gateway": internet_gateway,
    "subnet": subnet,
    "elastic_ip": elastic_ip,
    "nat_gateway": nat_gateway,
    "route_table": route_table,
    "security_group": security_group,
    "security_rules": security_rules,
    "vpc_endpoint": vpc_endpoint,
    "layer": layer,
    "function": function,
    "lifecycle_config": lifecycle_config,
    "notebook": notebook,
    "instance_profile": instance_profile,
    "instance": instance,
    "rule": rule,
    "schedule_group": schedule_group,
    "schedule": schedule,
    "alarm": alarm,
    "composite_alarm": composite_alarm,
    "dashboard": dashboard,
}

_UNLISTED = (oidc_provider, managed_policy, role, lifecycle_config, instance_profile, dashboard, schedule)
"""Kinds that AWS does not list by tags: each lists what is ours itself, for the parts that make it."""


@dataclass(frozen=True)
class Extent:
    """What besides ``desired`` a run looks at: what twinops owns of the ``parts`` that were declared.

    What belongs to a removed workflow goes in any case; other orphans are listed, and removed with ``prune``. Kinds
    that hold data are never pruned: see :func:`remove`.
    """

    parts: Collection[str] = ()
    prune: bool = False


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
    extent: Extent = Extent(),
    wait_timeout_s: float = 0,
    approved: Sequence[approval.Plain] | None = None,
) -> dict[str, Any]:
    """Make AWS what is ``desired``; with ``apply`` false (check mode) only say what that would change.

    With ``approved``, the changes of a plan, raises TwinopsError before anything else is changed.
    Waits up to ``wait_timeout_s`` for conditions that pass by themselves, such as a notebook that starts. ``aws``
    remembers what it has read: give one that has not read yet, or let it :meth:`~Aws.forget`.
    """
    wanted = tuple(desired)
    keys = {(resource.kind, resource.name) for resource in wanted}
    surplus = [each for each in _owned(aws, extent.parts) if each.key not in keys]
    observed = observe(aws, keys | {each.key for each in surplus})
    orphans = [each.key for each in surplus if not each.workflow and each.key in observed]
    prunable = [key for key in orphans if extent.prune and RESOURCES[key[0]].may_be_pruned()]
    outdated = [each.key for each in surplus if each.workflow] + prunable
    changes = plan(wanted, observed, absent=outdated)
    if approved is not None:
        _refuse_other_than(approved, changes)
    result = _carry_out(aws, changes, observed, keys, apply=apply, wait_timeout_s=wait_timeout_s)
    return {**result, "orphans": _plain(set(orphans) - set(prunable))}


def _refuse_other_than(approved: Sequence[approval.Plain], changes: Sequence[Change]) -> None:
    lines = approval.unapproved(approval.plain(changes), approved)
    if lines:
        raise TwinopsError(
            "the plan that was approved is not the plan that would be applied; nothing was changed.\n"
            + "\n".join(f"- {line}" for line in lines)
            + "\nMake a new plan, and have it approved."
        )


def remove(
    aws: Aws,
    unwanted: Iterable[Resource],
    *,
    apply: bool,
    extent: Extent = Extent(),
    with_data: bool = False,
) -> dict[str, Any]:
    """Remove ``unwanted`` and all else that twinops owns of the parts; with ``apply`` false only say what that removes.

    Kinds that hold data are kept, and listed as ``kept``, except ``with_data``.
    """
    keys = {(resource.kind, resource.name) for resource in unwanted} | {each.key for each in _owned(aws, extent.parts)}
    observed = {key: found for key, found in observe(aws, keys).items() if _is_of(aws.scope.env, found.resource)}
    kept = {key for key in observed if RESOURCES[key[0]].data and not with_data}
    changes = plan((), observed, absent=sorted(keys - kept))
    result = _carry_out(aws, changes, {}, set(), apply=apply, wait_timeout_s=0)
    return {**result, "kept": _plain(kept)}


def _plain(keys: Iterable[Key]) -> list[dict[str, str]]:
    return [{"kind": kind, "name": name} for kind, name in sorted(keys)]


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


def _is_of(env: str, resource: Resource) -> bool:
    """Whether no other environment has it, which may be so of what an account has only once."""
    return resource.tags.get(ENVIRONMENT_TAG, env) == env


def _owned(aws: Aws, parts: Collection[str]) -> list[Owned]:
    """What carries our tags, or, where there are none, our names, and belongs to one of ``parts``."""
    if not parts:
        return []
    asked = [kind for kind in _UNLISTED if set(kind.PARTS) & set(parts)]
    for service in ("resourcegroupstaggingapi", *(service for kind in asked for service in kind.SERVICES)):
        aws.client(service)
    try:
        listings = aws.each(lambda read: read(aws), [owned, *(kind.list_owned for kind in asked)])
    except (BotoCoreError, ClientError) as error:
        raise explain(error, f"what twinops owns in {aws.scope.env}") from error
    # What has lost the tag of its part may be anybody's: only who looks at all of them can say that it is nobody's.
    known = {*parts, ""} if set(parts) >= _ALL_OF_CLOUD else set(parts)
    return [each for listing in listings for each in listing if each.part in known]


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
        **({} if apply else {"plan": approval.plain(changes)}),
    }


def _apply(aws: Aws, changes: Sequence[Change]) -> None:
    """Apply deletions, then the rest. What a kind needs comes before it; kinds that need nothing of each other overlap.

    A change that fails keeps what needs it from being tried; all else is done. Raises ApplyError with every failure.
    """
    done: list[Change] = []

    def apply_one(change: Change) -> None:
        kind = KINDS[change.kind]
        carry_out = {CREATE: kind.create, DELETE: kind.delete}.get(change.action, kind.update)
        try:
            carry_out(aws, change)
        except (BotoCoreError, ClientError) as error:
            raise explain(error, f"{change.kind} {change.name}") from error
        done.append(change)

    def apply_kind(changes_of_kind: Sequence[Change]) -> None:
        aws.each(apply_one, changes_of_kind, workers=KINDS[changes_of_kind[0].kind].WORKERS)

    errors = []
    for is_deletion in (True, False):
        stage: dict[str, list[Change]] = {}
        for change in changes:
            if (change.action == DELETE) is is_deletion:
                stage.setdefault(change.kind, []).append(change)
        try:
            in_order(apply_kind, stage, removed_before if is_deletion else made_before)
        except TwinopsError as error:
            errors.append(str(error))
        finally:
            aws.forget()
    if errors:
        raise ApplyError("\n".join(errors), done)


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
