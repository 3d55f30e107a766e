"""Elastic IP addresses."""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

from ...plan import Change, Observed
from ...resources import ElasticIp
from .. import ec2
from ..session import Aws

SERVICES = ("ec2",)
WORKERS = 1
READ_BACK = False


def observe(aws: Aws, names: Collection[str]) -> dict[str, Observed]:
    return {
        name: Observed(ElasticIp(name, ec2.tags_of(record)), handles={"id": record["AllocationId"]})
        for name, record in ec2.found(aws, ElasticIp.kind, names).items()
    }


def create(aws: Aws, change: Change) -> None:
    address = cast(ElasticIp, change.desired)
    aws.client("ec2").allocate_address(Domain="vpc", TagSpecifications=ec2.tagged(address.kind, address.tags))


def update(aws: Aws, change: Change) -> None:
    ec2.tag(aws, cast(Observed, change.observed).handles["id"], cast(ElasticIp, change.desired).tags)


def delete(aws: Aws, change: Change) -> None:
    ec2.removed(aws.client("ec2").release_address, AllocationId=cast(Observed, change.observed).handles["id"])
