"""What the kinds of EC2 share: how a resource is found by its name, tagged, and removed.

EC2 knows identifiers only. The name is the tag that twinops sets (or, where somebody took that away, ``Name``); it is
set in the call that creates the resource, so that an interrupted run finds what it made. Each type is listed once, and
only in our VPC.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ..errors import TwinopsError
from ..names import NAME_TAG
from .kinds.tags import as_pairs, from_pairs
from .session import Aws, absent_as_none, until_accepted

Record = Mapping[str, Any]
Result = TypeVar("Result")

KNOWN_WITHIN_S = 20.0
"""EC2 is eventually consistent: for so long it may not know what it just made."""
UNUSED_WITHIN_S = 300.0
"""For so long the interfaces of what was removed may linger, and keep their subnet and security group."""

DEFAULT_GROUP = "default"

_MISSING = (
    "InvalidVpcID.NotFound",
    "InvalidInternetGatewayID.NotFound",
    "InvalidSubnetID.NotFound",
    "InvalidAllocationID.NotFound",
    "NatGatewayNotFound",
    "InvalidNatGatewayID.NotFound",
    "InvalidRouteTableID.NotFound",
    "InvalidGroup.NotFound",
    "InvalidVpcEndpointId.NotFound",
    "InvalidInstanceID.NotFound",
)
_IN_USE = ("DependencyViolation", "InvalidIPAddress.InUse")
_IDENTIFIER = re.compile(r"[a-z]+-[0-9a-f]{8,17}")


@dataclass(frozen=True)
class _Type:
    """How EC2 lists a kind: operation, the key of the answer and of the identifier; ``vpc_filter``, where it has one.

    ``live``: what makes a record count, besides those that EC2 shows for a while after they are gone.
    """

    operation: str
    answer: str
    identifier: str
    tag_type: str
    vpc_filter: str = ""
    filters: str = "Filters"
    live: Callable[[Record], bool] = lambda _: True


def _is_in(*states: str) -> Callable[[Record], bool]:
    return lambda record: str(record.get("State", "")).lower() in states


_TYPES = {
    "vpc": _Type("describe_vpcs", "Vpcs", "VpcId", "vpc"),
    "internet_gateway": _Type(
        "describe_internet_gateways", "InternetGateways", "InternetGatewayId", "internet-gateway"
    ),
    "subnet": _Type("describe_subnets", "Subnets", "SubnetId", "subnet", "vpc-id"),
    "elastic_ip": _Type("describe_addresses", "Addresses", "AllocationId", "elastic-ip"),
    "nat_gateway": _Type(
        "describe_nat_gateways", "NatGateways", "NatGatewayId", "natgateway", "vpc-id", "Filter",
        _is_in("pending", "available"),
    ),
    "route_table": _Type("describe_route_tables", "RouteTables", "RouteTableId", "route-table", "vpc-id"),
    "security_group": _Type("describe_security_groups", "SecurityGroups", "GroupId", "security-group", "vpc-id"),
    "vpc_endpoint": _Type(
        "describe_vpc_endpoints", "VpcEndpoints", "VpcEndpointId", "vpc-endpoint", "vpc-id",
        live=_is_in("pending", "pendingacceptance", "available", "partial"),
    ),
    "instance": _Type(
        "describe_instances", "Reservations", "InstanceId", "instance", "vpc-id",
        live=lambda record: record["State"]["Name"] not in ("shutting-down", "terminated"),
    ),
}  # fmt: skip


def records(aws: Aws, kind: str) -> list[Record]:
    """All of a kind that are there, ours and others': one listing a run."""
    return aws.once(f"ec2 {kind}", lambda: _list(aws, kind))


def found(aws: Aws, kind: str, names: Collection[str]) -> dict[str, Record]:
    """Those that bear one of ``names``. Raises TwinopsError where two bear the same: which one is ours, people know."""
    by_name: defaultdict[str, list[Record]] = defaultdict(list)
    for record in records(aws, kind):
        by_name[_name(aws, kind, record)].append(record)
    for name in names:
        if len(by_name[name]) > 1:
            identifiers = ", ".join(sorted(identifier(kind, record) for record in by_name[name]))
            raise TwinopsError(
                f"{kind} {name}: expected one, found {identifiers}; remove the tags {NAME_TAG} and Name from the others"
            )
    return {name: by_name[name][0] for name in names if by_name[name]}


def identifier(kind: str, record: Record) -> str:
    return str(record[_TYPES[kind].identifier])


def id_of(aws: Aws, kind: str, name: str) -> str:
    """The identifier of what bears ``name``. Raises TwinopsError if there is none."""
    if _IDENTIFIER.fullmatch(name):
        return name
    deadline = time.monotonic() + KNOWN_WITHIN_S
    while True:
        record = found(aws, kind, [name]).get(name)
        if record is not None:
            return identifier(kind, record)
        if time.monotonic() > deadline:
            raise TwinopsError(f"{kind} {name}: expected it in the VPC {aws.scope.names.network}, found none")
        time.sleep(0.5)
        aws.forget(f"ec2 {kind}", "ec2 vpc")


def ids_of(aws: Aws, kind: str, names: Iterable[str]) -> list[str]:
    return [id_of(aws, kind, name) for name in names]


def name_of(aws: Aws, kind: str, wanted: str) -> str:
    """The name of what has the identifier ``wanted``, or ``wanted`` itself for what is not in our VPC."""
    for record in records(aws, kind):
        if identifier(kind, record) == wanted:
            return _name(aws, kind, record)
    return wanted


def names_of(aws: Aws, kind: str, identifiers: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(name_of(aws, kind, each) for each in identifiers))


def tags_of(record: Record) -> dict[str, str]:
    return from_pairs(record.get("Tags", []))


def tag(aws: Aws, resource_id: str, tags: Mapping[str, str]) -> None:
    aws.client("ec2").create_tags(Resources=[resource_id], Tags=as_pairs(tags))


def tagged(kind: str, tags: Mapping[str, str], *more_types: str) -> list[dict[str, Any]]:
    """The tags of what a call creates: with it or not at all, never a moment later."""
    types = (_TYPES[kind].tag_type, *more_types)
    return [{"ResourceType": each, "Tags": as_pairs(tags)} for each in types]


def accepted(call: Callable[..., Result], **arguments: object) -> Result:
    """The answer of ``call``, repeated for a while where EC2 does not yet know what it names."""
    return until_accepted(lambda: call(**arguments), _MISSING, KNOWN_WITHIN_S)


def removed(call: Callable[..., Any], **arguments: object) -> None:
    """Remove something by ``call``, as soon as nothing uses it any more; it may be gone already."""
    until_accepted(lambda: absent_as_none(call, *_MISSING, **arguments), _IN_USE, UNUSED_WITHIN_S)


def _list(aws: Aws, kind: str) -> list[Record]:
    its = _TYPES[kind]
    arguments = {}
    if its.vpc_filter:
        vpc = found(aws, "vpc", [aws.scope.names.network]).get(aws.scope.names.network)
        if vpc is None:
            return []
        arguments = {its.filters: [{"Name": its.vpc_filter, "Values": [vpc["VpcId"]]}]}
    client = aws.client("ec2")
    if client.can_paginate(its.operation):
        pages = client.get_paginator(its.operation).paginate(**arguments)
    else:
        pages = [getattr(client, its.operation)(**arguments)]
    entries = [entry for page in pages for entry in page[its.answer]]
    if kind == "instance":
        entries = [instance for reservation in entries for instance in reservation["Instances"]]
    return [entry for entry in entries if its.live(entry)]


def _name(aws: Aws, kind: str, record: Record) -> str:
    if kind == "security_group":  # these have names in AWS, which nobody can change
        name = str(record["GroupName"])
        return aws.scope.names.security_group(DEFAULT_GROUP) if name == DEFAULT_GROUP else name
    tags = tags_of(record)
    return tags.get(NAME_TAG) or tags.get("Name") or identifier(kind, record)
