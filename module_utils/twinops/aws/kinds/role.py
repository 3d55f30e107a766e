"""IAM roles with all their policies."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, cast

from ...plan import Change, Observed
from ...policies import canonical
from ...resources import Role
from ..owned import Owned, owned_by_tags
from ..session import Aws, absent_as_none, until_accepted
from . import authorization
from .tags import as_pairs, from_pairs

SERVICES = ("iam",)
WORKERS = 4
READ_BACK = False
PARTS = ("env", "airflow", "bootstrap")

_MISSING = "NoSuchEntity"
_PROPAGATION_S = 20


def observe(aws: Aws, names: Collection[str]) -> dict[str, Observed]:
    """Two listings have everything: one the policies and tags, the other the description and the session's length."""
    roles, settings = authorization.roles(aws), _settings(aws)
    return {name: _observed(roles[name], settings.get(name, {})) for name in names if name in roles}


def list_owned(aws: Aws) -> list[Owned]:
    tags = {name: from_pairs(role.get("Tags", [])) for name, role in authorization.roles(aws).items()}
    return [found for name, its in tags.items() if (found := owned_by_tags(aws, (Role.kind, name), its))]


def _settings(aws: Aws) -> dict[str, dict[str, Any]]:
    def read() -> dict[str, dict[str, Any]]:
        pages = aws.client("iam").get_paginator("list_roles").paginate(PaginationConfig={"PageSize": 1000})
        return {role["RoleName"]: role for page in pages for role in page["Roles"]}

    return aws.once("settings of roles", read)


def _observed(role: Mapping[str, Any], settings: Mapping[str, Any]) -> Observed:
    return Observed(
        Role(
            name=role["RoleName"],
            tags=from_pairs(role.get("Tags", [])),
            trust=canonical(role["AssumeRolePolicyDocument"]),
            policies={
                policy["PolicyName"]: canonical(policy["PolicyDocument"]) for policy in role.get("RolePolicyList", [])
            },
            attached=tuple(sorted(policy["PolicyArn"] for policy in role.get("AttachedManagedPolicies", []))),
            boundary=role.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn", ""),
            session_s=settings.get("MaxSessionDuration", 3600),
            description=settings.get("Description", ""),
        )
    )


def create(aws: Aws, change: Change) -> None:
    role = cast(Role, change.desired)
    boundary = {"PermissionsBoundary": role.boundary} if role.boundary else {}
    _once_known(
        aws.client("iam").create_role,
        RoleName=role.name,
        Description=role.description,
        AssumeRolePolicyDocument=json.dumps(role.trust),
        MaxSessionDuration=role.session_s,
        Tags=as_pairs(role.tags),
        **boundary,
    )
    _set_policies(aws, role, {})
    _set_attached(aws, role, ())


def update(aws: Aws, change: Change) -> None:
    iam, role = aws.client("iam"), cast(Role, change.desired)
    observed = cast(Role, cast(Observed, change.observed).resource)
    if "boundary" in change.fields:  # first: it limits what the new policies give
        _set_boundary(iam, role)
    if "trust" in change.fields:
        iam.update_assume_role_policy(RoleName=role.name, PolicyDocument=json.dumps(role.trust))
    if "policies" in change.fields:
        _set_policies(aws, role, observed.policies)
    if "attached" in change.fields:
        _set_attached(aws, role, observed.attached)
    if set(change.fields) & {"description", "session_s"}:
        iam.update_role(RoleName=role.name, Description=role.description, MaxSessionDuration=role.session_s)
    if "tags" in change.fields:
        iam.tag_role(RoleName=role.name, Tags=as_pairs(role.tags))


def delete(aws: Aws, change: Change) -> None:
    iam, role = aws.client("iam"), cast(Role, cast(Observed, change.observed).resource)
    for name in role.policies:
        absent_as_none(iam.delete_role_policy, _MISSING, RoleName=role.name, PolicyName=name)
    for arn in role.attached:
        absent_as_none(iam.detach_role_policy, _MISSING, RoleName=role.name, PolicyArn=arn)
    absent_as_none(iam.delete_role, _MISSING, RoleName=role.name)


def _set_policies(aws: Aws, role: Role, current: Mapping[str, Any]) -> None:
    iam = aws.client("iam")
    for name in current.keys() - role.policies.keys():
        absent_as_none(iam.delete_role_policy, _MISSING, RoleName=role.name, PolicyName=name)
    for name, document in role.policies.items():
        if current.get(name) != document:
            iam.put_role_policy(RoleName=role.name, PolicyName=name, PolicyDocument=json.dumps(document))


def _set_attached(aws: Aws, role: Role, current: Collection[str]) -> None:
    iam = aws.client("iam")
    for arn in sorted(set(current) - set(role.attached)):
        absent_as_none(iam.detach_role_policy, _MISSING, RoleName=role.name, PolicyArn=arn)
    for arn in sorted(set(role.attached) - set(current)):
        _once_known(iam.attach_role_policy, RoleName=role.name, PolicyArn=arn)


def _set_boundary(iam: Any, role: Role) -> None:
    if role.boundary:
        _once_known(iam.put_role_permissions_boundary, RoleName=role.name, PermissionsBoundary=role.boundary)
    else:
        absent_as_none(iam.delete_role_permissions_boundary, _MISSING, RoleName=role.name)


def _once_known(call: Callable[..., Any], **arguments: object) -> None:
    """A policy made a moment ago is not known everywhere in IAM yet."""
    until_accepted(lambda: call(**arguments), (_MISSING,), timeout_s=_PROPAGATION_S)
