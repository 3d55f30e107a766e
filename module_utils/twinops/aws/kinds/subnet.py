"""Subnets."""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

from ...plan import Change, Observed
from ...resources import Subnet
from .. import ec2
from ..session import Aws

SERVICES = ("ec2",)
WORKERS = 4
READ_BACK = False


def observe(aws: Aws, names: Collection[str]) -> dict[str, Observed]:
    return {name: _observed(name, record) for name, record in ec2.found(aws, Subnet.kind, names).items()}


def _observed(name: str, record: ec2.Record) -> Observed:
    subnet = Subnet(
        name=name,
        tags=ec2.tags_of(record),
        zone=record["AvailabilityZone"],
        cidr=record["CidrBlock"],
        public_addresses=bool(record.get("MapPublicIpOnLaunch")),
    )
    return Observed(subnet, handles={"id": record["SubnetId"]})


def create(aws: Aws, change: Change) -> None:
    subnet = cast(Subnet, change.desired)
    made = ec2.accepted(
        aws.client("ec2").create_subnet,
        VpcId=ec2.id_of(aws, "vpc", aws.scope.names.network),
        CidrBlock=subnet.cidr,
        AvailabilityZone=subnet.zone,
        TagSpecifications=ec2.tagged(subnet.kind, subnet.tags),
    )
    if subnet.public_addresses:
        _set_public_addresses(aws, made["Subnet"]["SubnetId"], subnet)


def update(aws: Aws, change: Change) -> None:
    subnet, subnet_id = cast(Subnet, change.desired), cast(Observed, change.observed).handles["id"]
    if "tags" in change.fields:
        ec2.tag(aws, subnet_id, subnet.tags)
    if "public_addresses" in change.fields:
        _set_public_addresses(aws, subnet_id, subnet)


def delete(aws: Aws, change: Change) -> None:
    ec2.removed(aws.client("ec2").delete_subnet, SubnetId=cast(Observed, change.observed).handles["id"])


def _set_public_addresses(aws: Aws, subnet_id: str, subnet: Subnet) -> None:
    modify = aws.client("ec2").modify_subnet_attribute
    ec2.accepted(modify, SubnetId=subnet_id, MapPublicIpOnLaunch={"Value": subnet.public_addresses})
