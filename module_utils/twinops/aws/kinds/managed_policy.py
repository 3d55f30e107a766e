"""Customer-managed IAM policies: shared by roles, or their permissions boundary."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, cast

from ... import policies
from ...iam import canonical
from ...plan import Change, Observed
from ...resources import ManagedPolicy
from ..owned import Owned
from ..session import Aws, absent_as_none
from . import authorization
from .tags import as_pairs, from_pairs

SERVICES = ("iam",)
WORKERS = 4
READ_BACK = False
PARTS = ("data_access", "bootstrap")

VERSIONS_LIMIT = 5
"""Versions of a policy that AWS keeps (docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html)."""

_MISSING = "NoSuchEntity"


def observe(aws: Aws, names: Collection[str]) -> dict[str, Observed]:
    """One listing has the policies of the account with their documents; only the tags are asked for one by one."""
    listed = authorization.policies(aws)
    return aws.found(lambda name: _observed(aws, listed[name]) if name in listed else None, names)


def list_owned(aws: Aws) -> list[Owned]:
    """By the names that we give: only the tags of those that a part declares are worth a call each."""
    names = aws.scope.names
    ours = {names.policy(policies.DATA_ACCESS): "data_access", names.policy(policies.BOUNDARY): "bootstrap"}
    of_pipeline = tuple(names.policy(role) + "-" for role in (policies.DEPLOY, policies.PLAN))
    parts = {
        name: ours.get(name, "bootstrap" if name.startswith(of_pipeline) else "")
        for name in authorization.policies(aws)
    }
    return [Owned((ManagedPolicy.kind, name), part, "") for name, part in parts.items() if part]


def _observed(aws: Aws, policy: Mapping[str, Any]) -> Observed:
    versions = policy["PolicyVersionList"]
    document = next(version["Document"] for version in versions if version["IsDefaultVersion"])
    replaced = sorted((each["VersionId"] for each in versions if not each["IsDefaultVersion"]), key=_number)
    return Observed(
        ManagedPolicy(name=policy["PolicyName"], tags=_tags(aws, policy["Arn"]), document=canonical(document)),
        handles={"arn": policy["Arn"], "replaced": replaced},
    )


def _number(version: str) -> int:
    """Of ``v12``: versions are never renumbered, the lowest is the oldest."""
    return int(version.removeprefix("v"))


def _tags(aws: Aws, arn: str) -> dict[str, str]:
    return from_pairs(aws.client("iam").list_policy_tags(PolicyArn=arn)["Tags"])


def create(aws: Aws, change: Change) -> None:
    policy = cast(ManagedPolicy, change.desired)
    aws.client("iam").create_policy(
        PolicyName=policy.name,
        Description=policy.description,
        PolicyDocument=json.dumps(policy.document),
        Tags=as_pairs(policy.tags),
    )


def update(aws: Aws, change: Change) -> None:
    iam, policy, handles = (
        aws.client("iam"),
        cast(ManagedPolicy, change.desired),
        cast(Observed, change.observed).handles,
    )
    if "document" in change.fields:
        surplus = len(handles["replaced"]) + 2 - VERSIONS_LIMIT  # with the present and the new one
        for version in handles["replaced"][: max(0, surplus)]:
            absent_as_none(iam.delete_policy_version, _MISSING, PolicyArn=handles["arn"], VersionId=version)
        iam.create_policy_version(
            PolicyArn=handles["arn"], PolicyDocument=json.dumps(policy.document), SetAsDefault=True
        )
    if "tags" in change.fields:
        iam.tag_policy(PolicyArn=handles["arn"], Tags=as_pairs(policy.tags))


def delete(aws: Aws, change: Change) -> None:
    """AWS keeps a policy that a role still has: one of an earlier commit, or what somebody attached by hand."""
    iam, handles = aws.client("iam"), cast(Observed, change.observed).handles
    for version in handles["replaced"]:
        absent_as_none(iam.delete_policy_version, _MISSING, PolicyArn=handles["arn"], VersionId=version)
    try:
        absent_as_none(iam.delete_policy, _MISSING, PolicyArn=handles["arn"])
    except iam.exceptions.DeleteConflictException:
        _detach(aws, handles["arn"])
        absent_as_none(iam.delete_policy, _MISSING, PolicyArn=handles["arn"])


def _detach(aws: Aws, arn: str) -> None:
    authorization.forget(aws)
    for name, role in authorization.roles(aws).items():
        if arn in [each["PolicyArn"] for each in role.get("AttachedManagedPolicies", [])]:
            absent_as_none(aws.client("iam").detach_role_policy, _MISSING, RoleName=name, PolicyArn=arn)
