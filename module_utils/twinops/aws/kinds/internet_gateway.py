"""Internet gateways."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

from ...plan import Change, Observed
from ...resources import InternetGateway
from .. import ec2
from ..session import Aws

SERVICES = ("ec2",)
WORKERS = 1
READ_BACK = False


def observe(aws: Aws, names: Collection[str]) -> dict[str, Observed]:
    found = ec2.found(aws, InternetGateway.kind, names)
    return {name: _observed(aws, name, record) for name, record in found.items()}


def _observed(aws: Aws, name: str, record: ec2.Record) -> Observed:
    vpc_id = next((each["VpcId"] for each in record.get("Attachments", [])), "")
    vpc = ec2.name_of(aws, "vpc", vpc_id) if vpc_id else ""
    handles = {"id": record["InternetGatewayId"], "vpc_id": vpc_id}
    return Observed(InternetGateway(name, ec2.tags_of(record), vpc=vpc), handles=handles)


def create(aws: Aws, change: Change) -> None:
    gateway = cast(InternetGateway, change.desired)
    made = aws.client("ec2").create_internet_gateway(TagSpecifications=ec2.tagged(gateway.kind, gateway.tags))
    _attach(aws, made["InternetGateway"]["InternetGatewayId"], gateway)


def update(aws: Aws, change: Change) -> None:
    gateway, handles = cast(InternetGateway, change.desired), _handles(change)
    if "tags" in change.fields:
        ec2.tag(aws, handles["id"], gateway.tags)
    if "vpc" in change.fields:
        _detach(aws, handles)
        _attach(aws, handles["id"], gateway)


def delete(aws: Aws, change: Change) -> None:
    _detach(aws, _handles(change))
    ec2.removed(aws.client("ec2").delete_internet_gateway, InternetGatewayId=_handles(change)["id"])


def _attach(aws: Aws, gateway_id: str, gateway: InternetGateway) -> None:
    attach = aws.client("ec2").attach_internet_gateway
    ec2.accepted(attach, InternetGatewayId=gateway_id, VpcId=ec2.id_of(aws, "vpc", gateway.vpc))


def _detach(aws: Aws, handles: Any) -> None:
    if handles["vpc_id"]:
        detach = aws.client("ec2").detach_internet_gateway
        ec2.removed(detach, InternetGatewayId=handles["id"], VpcId=handles["vpc_id"])


def _handles(change: Change) -> Any:
    return cast(Observed, change.observed).handles
