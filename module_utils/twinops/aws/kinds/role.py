"""IAM roles with one inline policy, named like the role."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, cast

from ...plan import Change, Observed
from ...policies import canonical
from ...resources import Role
from ..session import Aws, absent_as_none
from .tags import as_pairs, from_pairs

SERVICES = ("iam",)
WORKERS = 4
READ_BACK = False

_MISSING = "NoSuchEntity"


def observe(aws: Aws, names: Collection[str]) -> dict[str, Observed]:
    return aws.found(lambda name: _observe(aws, name), names)


def _observe(aws: Aws, name: str) -> Observed | None:
    iam = aws.client("iam")
    answer = absent_as_none(iam.get_role, _MISSING, RoleName=name)
    if answer is None:
        return None
    role = cast(dict[str, Any], answer)["Role"]
    inline = absent_as_none(iam.get_role_policy, _MISSING, RoleName=name, PolicyName=name)
    return Observed(
        Role(
            name=name,
            tags=from_pairs(role.get("Tags", [])),
            description=role.get("Description", ""),
            trust=canonical(role["AssumeRolePolicyDocument"]),
            policy=canonical(inline["PolicyDocument"]) if inline else {},
        )
    )


def create(aws: Aws, change: Change) -> None:
    role = cast(Role, change.desired)
    aws.client("iam").create_role(
        RoleName=role.name,
        Description=role.description,
        AssumeRolePolicyDocument=json.dumps(role.trust),
        Tags=as_pairs(role.tags),
    )
    _put_policy(aws, role)


def update(aws: Aws, change: Change) -> None:
    iam, role = aws.client("iam"), cast(Role, change.desired)
    if "description" in change.fields:
        iam.update_role(RoleName=role.name, Description=role.description)
    if "trust" in change.fields:
        iam.update_assume_role_policy(RoleName=role.name, PolicyDocument=json.dumps(role.trust))
    if "policy" in change.fields:
        _put_policy(aws, role)
    if "tags" in change.fields:
        iam.tag_role(RoleName=role.name, Tags=as_pairs(role.tags))


def delete(aws: Aws, change: Change) -> None:
    iam = aws.client("iam")
    absent_as_none(iam.delete_role_policy, _MISSING, RoleName=change.name, PolicyName=change.name)
    absent_as_none(iam.delete_role, _MISSING, RoleName=change.name)


def _put_policy(aws: Aws, role: Role) -> None:
    aws.client("iam").put_role_policy(RoleName=role.name, PolicyName=role.name, PolicyDocument=json.dumps(role.policy))
