"""IAM instance profiles, each with one role."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

from ...plan import Change, Observed
from ...resources import InstanceProfile
from ..owned import Owned
from ..session import Aws, absent_as_none
from . import authorization

SERVICES = ("iam",)
WORKERS = 1
READ_BACK = False
PARTS = ("airflow",)

_MISSING = "NoSuchEntity"


def observe(aws: Aws, names: Collection[str]) -> dict[str, Observed]:
    """The listing of roles has their profiles, too; only one without a role has to be asked for."""
    roles = _role_of_each(aws)
    found = {name: _observed(name, roles[name]) for name in names if name in roles}
    unknown = [name for name in names if name not in roles]
    return {**found, **aws.found(lambda name: _observe_empty(aws, name), unknown)}


def list_owned(aws: Aws) -> list[Owned]:
    prefix = aws.scope.names.prefix
    return [Owned((InstanceProfile.kind, name), PARTS[0], "") for name in _role_of_each(aws) if name.startswith(prefix)]


def _role_of_each(aws: Aws) -> dict[str, str]:
    return {
        profile["InstanceProfileName"]: name
        for name, role in authorization.roles(aws).items()
        for profile in role.get("InstanceProfileList", [])
    }


def _observe_empty(aws: Aws, name: str) -> Observed | None:
    found = absent_as_none(aws.client("iam").get_instance_profile, _MISSING, InstanceProfileName=name)
    return None if found is None else _observed(name, "")


def _observed(name: str, role: str) -> Observed:
    return Observed(InstanceProfile(name, {}, role=role))


def create(aws: Aws, change: Change) -> None:
    aws.client("iam").create_instance_profile(InstanceProfileName=change.name)
    _set_role(aws, change, "")


def update(aws: Aws, change: Change) -> None:
    _set_role(aws, change, _current_role(change))


def delete(aws: Aws, change: Change) -> None:
    iam, role = aws.client("iam"), _current_role(change)
    if role:
        absent_as_none(iam.remove_role_from_instance_profile, _MISSING, InstanceProfileName=change.name, RoleName=role)
    absent_as_none(iam.delete_instance_profile, _MISSING, InstanceProfileName=change.name)


def _set_role(aws: Aws, change: Change, current: str) -> None:
    """AWS takes one role a profile."""
    iam, role = aws.client("iam"), cast(InstanceProfile, change.desired).role
    if current:
        iam.remove_role_from_instance_profile(InstanceProfileName=change.name, RoleName=current)
    iam.add_role_to_instance_profile(InstanceProfileName=change.name, RoleName=role)


def _current_role(change: Change) -> Any:
    return cast(InstanceProfile, cast(Observed, change.observed).resource).role
