"""VPC endpoints: how the VPC reaches services of AWS without the internet."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, cast

from ...errors import TwinopsError
from ...plan import Change, Observed
from ...policies import canonical
from ...resources import VpcEndpoint
from .. import ec2
from ..session import Aws, absent_as_none, until

SERVICES = ("ec2",)
WORKERS = 12  # each takes a minute until its interfaces are there
READ_BACK = False

_AVAILABLE, _DELETED = "available", "deleted"
_MISSING = "InvalidVpcEndpointId.NotFound"
_TRANSITION_TIMEOUT_S = 600
_MEMBERS = (
    # field, kind, key of the answer, end of the names of arguments
    ("route_tables", "route_table", "RouteTableIds", "RouteTableIds"),
    ("subnets", "subnet", "SubnetIds", "SubnetIds"),
    ("security_groups", "security_group", "Groups", "SecurityGroupIds"),
)


def observe(aws: Aws, names: Collection[str]) -> dict[str, Observed]:
    return {name: _observed(aws, name, record) for name, record in ec2.found(aws, VpcEndpoint.kind, names).items()}


def _observed(aws: Aws, name: str, record: ec2.Record) -> Observed:
    groups = [each["GroupId"] for each in record.get("Groups", [])]
    members = {
        field: ec2.names_of(aws, kind, groups if field == "security_groups" else record.get(key, []))
        for field, kind, key, _ in _MEMBERS
    }
    endpoint = VpcEndpoint(
        name=name,
        tags=ec2.tags_of(record),
        service=record["ServiceName"],
        endpoint_type=record["VpcEndpointType"],
        policy=canonical(json.loads(record.get("PolicyDocument") or "{}")),
        private_dns=bool(record.get("PrivateDnsEnabled")),
        **members,
    )
    return Observed(endpoint, handles={"id": record["VpcEndpointId"]})


def create(aws: Aws, change: Change) -> None:
    """Until it is available: machines start next, and need it at once."""
    endpoint = cast(VpcEndpoint, change.desired)
    members = {argument: ec2.ids_of(aws, kind, getattr(endpoint, field)) for field, kind, _, argument in _MEMBERS}
    made = ec2.accepted(
        aws.client("ec2").create_vpc_endpoint,
        VpcId=ec2.id_of(aws, "vpc", aws.scope.names.network),
        VpcEndpointType=endpoint.endpoint_type,
        ServiceName=endpoint.service,
        PolicyDocument=json.dumps(endpoint.policy),
        PrivateDnsEnabled=endpoint.private_dns,
        TagSpecifications=ec2.tagged(endpoint.kind, endpoint.tags),
        **{argument: ids for argument, ids in members.items() if ids},
    )["VpcEndpoint"]
    _wait_until(aws, endpoint.name, made["VpcEndpointId"], _AVAILABLE)


def update(aws: Aws, change: Change) -> None:
    endpoint, observed = cast(VpcEndpoint, change.desired), cast(Observed, change.observed)
    endpoint_id, current = observed.handles["id"], observed.resource
    if "tags" in change.fields:
        ec2.tag(aws, endpoint_id, endpoint.tags)
    arguments: dict[str, Any] = {}
    if "policy" in change.fields:
        arguments["PolicyDocument"] = json.dumps(endpoint.policy)
    if "private_dns" in change.fields:
        arguments["PrivateDnsEnabled"] = endpoint.private_dns
    for field, kind, _, argument in _MEMBERS:
        wanted, actual = set(getattr(endpoint, field)), set(getattr(current, field))
        if wanted - actual:
            arguments[f"Add{argument}"] = ec2.ids_of(aws, kind, sorted(wanted - actual))
        if actual - wanted:
            arguments[f"Remove{argument}"] = ec2.ids_of(aws, kind, sorted(actual - wanted))
    if arguments:
        aws.client("ec2").modify_vpc_endpoint(VpcEndpointId=endpoint_id, **arguments)


def delete(aws: Aws, change: Change) -> None:
    """Until it is gone: before, its interfaces use subnets and security groups."""
    endpoint_id = cast(Observed, change.observed).handles["id"]
    answer = aws.client("ec2").delete_vpc_endpoints(VpcEndpointIds=[endpoint_id])  # refuses without an error
    for refused in answer.get("Unsuccessful", []):
        if refused["Error"]["Code"] != _MISSING:
            raise TwinopsError(f"vpc_endpoint {change.name}: {refused['Error']['Code']}: {refused['Error']['Message']}")
    _wait_until(aws, change.name, endpoint_id, _DELETED)


def _wait_until(aws: Aws, name: str, endpoint_id: str, state: str) -> None:
    describe = aws.client("ec2").describe_vpc_endpoints

    def is_reached() -> bool:
        answer = absent_as_none(describe, _MISSING, VpcEndpointIds=[endpoint_id])
        return state == (answer["VpcEndpoints"][0]["State"].lower() if answer else _DELETED)

    until(is_reached, f"vpc_endpoint {name}: {state}", _TRANSITION_TIMEOUT_S)
