"""Route tables: their subnets and their routes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, cast

from ...plan import Change, Observed
from ...resources import RouteTable
from .. import ec2
from ..session import Aws

SERVICES = ("ec2",)
WORKERS = 2
READ_BACK = False

_DESTINATIONS = ("DestinationCidrBlock", "DestinationIpv6CidrBlock", "DestinationPrefixListId")
_GATEWAYS = {"internet_gateway": "GatewayId", "nat_gateway": "NatGatewayId"}
_OTHER_TARGETS = ("GatewayId", "EgressOnlyInternetGatewayId", "InstanceId", "NetworkInterfaceId", "CarrierGatewayId")
_NOT_OURS = ("local", "vpce-", "vgw-")
"""Gateways whose routes come with something else, or are the business of those who run the company's network."""


def observe(aws: Aws, names: Collection[str]) -> dict[str, Observed]:
    return {name: _observed(aws, name, record) for name, record in ec2.found(aws, RouteTable.kind, names).items()}


def _observed(aws: Aws, name: str, record: ec2.Record) -> Observed:
    subnets = [each["SubnetId"] for each in record.get("Associations", []) if each.get("SubnetId")]
    routes = {_destination(route): _target(aws, route) for route in record.get("Routes", [])}
    table = RouteTable(
        name=name,
        tags=ec2.tags_of(record),
        subnets=ec2.names_of(aws, "subnet", subnets),
        routes={destination: target for destination, target in routes.items() if target},
    )
    return Observed(table, handles={"id": record["RouteTableId"]})


def _destination(route: Mapping[str, Any]) -> str:
    return next((str(route[key]) for key in _DESTINATIONS if route.get(key)), "")


def _target(aws: Aws, route: Mapping[str, Any]) -> str:
    """Where a route leads, as ``RouteTable`` spells it; empty for those that are not ours to keep."""
    if str(route.get("GatewayId", "")).startswith(_NOT_OURS):
        return ""
    for kind, key in _GATEWAYS.items():
        if route.get(key) and (name := ec2.name_of(aws, kind, route[key])) != route[key]:
            return f"{kind}:{name}"
    return next((str(route[key]) for key in (*_OTHER_TARGETS, "NatGatewayId") if route.get(key)), "")


def create(aws: Aws, change: Change) -> None:
    table = cast(RouteTable, change.desired)
    made = ec2.accepted(
        aws.client("ec2").create_route_table,
        VpcId=ec2.id_of(aws, "vpc", aws.scope.names.network),
        TagSpecifications=ec2.tagged(table.kind, table.tags),
    )["RouteTable"]["RouteTableId"]
    _set_routes(aws, made, table.routes, {})
    _set_subnets(aws, made, table.subnets, ())


def update(aws: Aws, change: Change) -> None:
    table, observed = cast(RouteTable, change.desired), cast(Observed, change.observed)
    table_id, current = observed.handles["id"], cast(RouteTable, observed.resource)
    if "tags" in change.fields:
        ec2.tag(aws, table_id, table.tags)
    if "routes" in change.fields:
        _set_routes(aws, table_id, table.routes, current.routes)
    if "subnets" in change.fields:
        _set_subnets(aws, table_id, table.subnets, current.subnets)


def delete(aws: Aws, change: Change) -> None:
    observed = cast(Observed, change.observed)
    _set_subnets(aws, observed.handles["id"], (), cast(RouteTable, observed.resource).subnets)
    ec2.removed(aws.client("ec2").delete_route_table, RouteTableId=observed.handles["id"])


def _set_routes(aws: Aws, table_id: str, wanted: Mapping[str, str], current: Mapping[str, str]) -> None:
    client = aws.client("ec2")
    for destination in sorted(current.keys() - wanted.keys()):
        client.delete_route(RouteTableId=table_id, **_by_destination(destination))
    for destination, target in sorted(wanted.items()):
        if current.get(destination) == target:
            continue
        kind, _, name = target.partition(":")
        route = {**_by_destination(destination), _GATEWAYS[kind]: ec2.id_of(aws, kind, name)}
        call = client.replace_route if destination in current else client.create_route
        ec2.accepted(call, RouteTableId=table_id, **route)


def _by_destination(destination: str) -> dict[str, str]:
    if destination.startswith("pl-"):
        return {"DestinationPrefixListId": destination}
    return {"DestinationIpv6CidrBlock" if ":" in destination else "DestinationCidrBlock": destination}


def _set_subnets(aws: Aws, table_id: str, wanted: Collection[str], current: Collection[str]) -> None:
    """A subnet has at most one table: that of another one is replaced."""
    client, associations = aws.client("ec2"), _associations(aws)
    for subnet in sorted(set(current) - set(wanted)):
        client.disassociate_route_table(AssociationId=associations[ec2.id_of(aws, "subnet", subnet)])
    for subnet in sorted(set(wanted) - set(current)):
        subnet_id = ec2.id_of(aws, "subnet", subnet)
        if subnet_id in associations:
            client.replace_route_table_association(AssociationId=associations[subnet_id], RouteTableId=table_id)
        else:
            ec2.accepted(client.associate_route_table, RouteTableId=table_id, SubnetId=subnet_id)


def _associations(aws: Aws) -> dict[str, str]:
    """Subnet -> its association with whatever table."""
    return {
        each["SubnetId"]: each["RouteTableAssociationId"]
        for table in ec2.records(aws, RouteTable.kind)
        for each in table.get("Associations", [])
        if each.get("SubnetId")
    }
