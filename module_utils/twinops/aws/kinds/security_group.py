"""Security groups; their rules are a kind of their own."""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

from ...plan import Change, Observed
from ...resources import SecurityGroup
from .. import ec2
from ..session import Aws
from .security_rules import revoke_references

SERVICES = ("ec2",)
WORKERS = 4
READ_BACK = False


def observe(aws: Aws, names: Collection[str]) -> dict[str, Observed]:
    return {
        name: Observed(SecurityGroup(name, ec2.tags_of(record)), handles={"id": record["GroupId"]})
        for name, record in ec2.found(aws, SecurityGroup.kind, names).items()
    }


def create(aws: Aws, change: Change) -> None:
    group = cast(SecurityGroup, change.desired)
    ec2.accepted(
        aws.client("ec2").create_security_group,
        GroupName=group.name,
        Description=group.description,
        VpcId=ec2.id_of(aws, "vpc", aws.scope.names.network),
        TagSpecifications=ec2.tagged(group.kind, group.tags),
    )


def update(aws: Aws, change: Change) -> None:
    ec2.tag(aws, cast(Observed, change.observed).handles["id"], cast(SecurityGroup, change.desired).tags)


def delete(aws: Aws, change: Change) -> None:
    """AWS keeps a group to which rules of another one refer."""
    group_id = cast(Observed, change.observed).handles["id"]
    revoke_references(aws, group_id)
    ec2.removed(aws.client("ec2").delete_security_group, GroupId=group_id)
