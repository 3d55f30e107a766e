"""NAT gateways."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

from ...errors import TwinopsError
from ...plan import Change, Observed
from ...resources import NatGateway
from .. import ec2
from ..session import Aws, until

SERVICES = ("ec2",)
WORKERS = 1
READ_BACK = False

_TRANSITION_TIMEOUT_S = 600


def observe(aws: Aws, names: Collection[str]) -> dict[str, Observed]:
    found = ec2.found(aws, NatGateway.kind, names)
    return {name: _observed(aws, name, record) for name, record in found.items()}


def _observed(aws: Aws, name: str, record: ec2.Record) -> Observed:
    address = next((each.get("AllocationId", "") for each in record.get("NatGatewayAddresses", [])), "")
    gateway = NatGateway(
        name=name,
        tags=ec2.tags_of(record),
        subnet=ec2.name_of(aws, "subnet", record["SubnetId"]),
        elastic_ip=ec2.name_of(aws, "elastic_ip", address),
    )
    return Observed(gateway, handles={"id": record["NatGatewayId"]})


def create(aws: Aws, change: Change) -> None:
    """Until it is available: routes and machines come next, which need it."""
    gateway = cast(NatGateway, change.desired)
    made = ec2.accepted(
        aws.client("ec2").create_nat_gateway,
        SubnetId=ec2.id_of(aws, "subnet", gateway.subnet),
        AllocationId=ec2.id_of(aws, "elastic_ip", gateway.elastic_ip),
        TagSpecifications=ec2.tagged(gateway.kind, gateway.tags),
    )["NatGateway"]
    _wait_until(aws, gateway.name, made["NatGatewayId"], "available")


def update(aws: Aws, change: Change) -> None:
    ec2.tag(aws, cast(Observed, change.observed).handles["id"], cast(NatGateway, change.desired).tags)


def delete(aws: Aws, change: Change) -> None:
    """Until it is gone: before, its address and its subnet are in use."""
    gateway_id = cast(Observed, change.observed).handles["id"]
    ec2.removed(aws.client("ec2").delete_nat_gateway, NatGatewayId=gateway_id)
    _wait_until(aws, change.name, gateway_id, "deleted")


def _wait_until(aws: Aws, name: str, gateway_id: str, state: str) -> None:
    def read() -> Any:
        gateways = aws.client("ec2").describe_nat_gateways(NatGatewayIds=[gateway_id])["NatGateways"]
        return gateways[0] if gateways else {"State": "deleted"}

    def is_reached() -> bool:
        found = ec2.accepted(read)
        if found["State"] == "failed":
            raise TwinopsError(f"nat_gateway {name}: {found.get('FailureMessage', 'failed')}; remove the cause, rerun")
        return bool(found["State"] == state)

    until(is_reached, f"nat_gateway {name}: {state}", _TRANSITION_TIMEOUT_S)
