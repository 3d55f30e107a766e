"""VPCs."""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

from ...plan import Change, Observed
from ...resources import Vpc
from .. import ec2
from ..session import Aws

SERVICES = ("ec2",)
WORKERS = 1
READ_BACK = False

_DNS_OF_NEW = {"EnableDnsSupport": True, "EnableDnsHostnames": False}


def observe(aws: Aws, names: Collection[str]) -> dict[str, Observed]:
    return {name: _observed(aws, name, record) for name, record in ec2.found(aws, Vpc.kind, names).items()}


def _observed(aws: Aws, name: str, record: ec2.Record) -> Observed:
    vpc_id = record["VpcId"]

    def attribute(attribute: str) -> bool:
        answer = aws.client("ec2").describe_vpc_attribute(VpcId=vpc_id, Attribute=attribute)
        return bool(answer[attribute[0].upper() + attribute[1:]]["Value"])

    support, hostnames = aws.each(attribute, ("enableDnsSupport", "enableDnsHostnames"))
    vpc = Vpc(name, ec2.tags_of(record), cidr=record["CidrBlock"], dns_support=support, dns_hostnames=hostnames)
    return Observed(vpc, handles={"id": vpc_id})


def create(aws: Aws, change: Change) -> None:
    vpc = cast(Vpc, change.desired)
    tags = ec2.tagged(vpc.kind, vpc.tags)
    made = aws.client("ec2").create_vpc(CidrBlock=vpc.cidr, TagSpecifications=tags)["Vpc"]["VpcId"]
    _set_dns(aws, made, vpc, _DNS_OF_NEW)


def update(aws: Aws, change: Change) -> None:
    vpc, observed = cast(Vpc, change.desired), cast(Observed, change.observed)
    if "tags" in change.fields:
        ec2.tag(aws, observed.handles["id"], vpc.tags)
    _set_dns(aws, observed.handles["id"], vpc, _dns(cast(Vpc, observed.resource)))


def delete(aws: Aws, change: Change) -> None:
    ec2.removed(aws.client("ec2").delete_vpc, VpcId=cast(Observed, change.observed).handles["id"])


def _dns(vpc: Vpc) -> dict[str, bool]:
    return {"EnableDnsSupport": vpc.dns_support, "EnableDnsHostnames": vpc.dns_hostnames}


def _set_dns(aws: Aws, vpc_id: str, vpc: Vpc, current: dict[str, bool]) -> None:
    """One attribute a call, as AWS wants it; support before the hostnames that need it."""
    for attribute, value in _dns(vpc).items():
        if current[attribute] != value:
            ec2.accepted(aws.client("ec2").modify_vpc_attribute, VpcId=vpc_id, **{attribute: {"Value": value}})
