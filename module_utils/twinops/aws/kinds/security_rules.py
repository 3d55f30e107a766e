"""The rules of security groups."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, cast

from ...errors import TwinopsError
from ...plan import Change, Observed
from ...resources import SecurityRules, Traffic
from .. import ec2
from ..session import Aws, absent_as_none

SERVICES = ("ec2",)
WORKERS = 4
READ_BACK = False

_EVERYTHING = "all"
_EVERY_PROTOCOL = "-1"
_GONE = ("InvalidPermission.NotFound", "InvalidGroup.NotFound")


def observe(aws: Aws, names: Collection[str]) -> dict[str, Observed]:
    found = ec2.found(aws, "security_group", names)
    return {name: _observed(aws, name, record) for name, record in found.items()}


def _observed(aws: Aws, name: str, record: ec2.Record) -> Observed:
    rules = SecurityRules(
        name=name,
        tags={},
        ingress=_traffic(aws, record.get("IpPermissions", [])),
        egress=_traffic(aws, record.get("IpPermissionsEgress", [])),
    )
    return Observed(rules, handles={"id": record["GroupId"]})


def create(aws: Aws, change: Change) -> None:
    """The rules of a group that was made a moment ago. AWS has given it one: everything may leave."""
    name = change.name
    group_id = ec2.id_of(aws, "security_group", name)
    record = ec2.found(aws, "security_group", [name])[name]
    _set(aws, group_id, cast(SecurityRules, change.desired), cast(SecurityRules, _observed(aws, name, record).resource))


def update(aws: Aws, change: Change) -> None:
    observed = cast(Observed, change.observed)
    wanted, current = cast(SecurityRules, change.desired), cast(SecurityRules, observed.resource)
    _set(aws, observed.handles["id"], wanted, current)


def delete(aws: Aws, change: Change) -> None:
    observed = cast(Observed, change.observed)
    nothing = SecurityRules(change.name, {}, ingress=(), egress=())
    _set(aws, observed.handles["id"], nothing, cast(SecurityRules, observed.resource))
    aws.forget("ec2 security_group")  # its listing says who refers to whom, for the groups that go next


def revoke_references(aws: Aws, group_id: str) -> None:
    """Take every rule of another group that refers to this one away."""
    client = aws.client("ec2")
    for record in ec2.records(aws, "security_group"):
        directions = {
            client.revoke_security_group_ingress: record.get("IpPermissions", []),
            client.revoke_security_group_egress: record.get("IpPermissionsEgress", []),
        }
        for revoke, permissions in directions.items():
            references = [each for each in (_referring(it, group_id) for it in permissions) if each]
            if references and record["GroupId"] != group_id:
                absent_as_none(revoke, *_GONE, GroupId=record["GroupId"], IpPermissions=references)


def _referring(permission: Mapping[str, Any], group_id: str) -> dict[str, Any]:
    pairs = [pair for pair in permission.get("UserIdGroupPairs", []) if pair.get("GroupId") == group_id]
    kept = {key: permission[key] for key in ("IpProtocol", "FromPort", "ToPort") if key in permission}
    return {**kept, "UserIdGroupPairs": [{"GroupId": group_id}]} if pairs else {}


def _set(aws: Aws, group_id: str, wanted: SecurityRules, current: SecurityRules) -> None:
    """What is missing first: traffic that stays allowed is never interrupted."""
    client = aws.client("ec2")
    directions = (
        (
            wanted.ingress,
            current.ingress,
            client.authorize_security_group_ingress,
            client.revoke_security_group_ingress,
        ),
        (wanted.egress, current.egress, client.authorize_security_group_egress, client.revoke_security_group_egress),
    )
    for expected, actual, authorize, revoke in directions:
        missing = sorted(set(expected) - set(actual))
        surplus = sorted(each for each in set(actual) - set(expected) if not _is_gone(aws, each.peer))
        if missing:
            permissions = [_permission(aws, each) for each in missing]
            ec2.accepted(authorize, GroupId=group_id, IpPermissions=permissions)
        if surplus:
            revoke(GroupId=group_id, IpPermissions=[_permission(aws, each) for each in surplus])


def _is_gone(aws: Aws, peer: str) -> bool:
    """Whether it is a group that was removed a moment ago, and its rules with it (:func:`revoke_references`)."""
    is_named_group = not ("/" in peer or peer.startswith(("com.", "pl-", "sg-")))
    return is_named_group and not ec2.found(aws, "security_group", [peer])


def _traffic(aws: Aws, permissions: Iterable[Mapping[str, Any]]) -> tuple[Traffic, ...]:
    found = []
    for permission in permissions:
        protocol, ports = str(permission["IpProtocol"]), _ports(permission)
        protocol = _EVERYTHING if protocol == _EVERY_PROTOCOL else protocol
        peers = [
            *(each["CidrIp"] for each in permission.get("IpRanges", [])),
            *(each["CidrIpv6"] for each in permission.get("Ipv6Ranges", [])),
            *(_prefix_list_name(aws, each["PrefixListId"]) for each in permission.get("PrefixListIds", [])),
            *(_group_name(aws, each["GroupId"]) for each in permission.get("UserIdGroupPairs", [])),
        ]
        found += [Traffic(protocol, ports, peer) for peer in peers]
    return tuple(sorted(found))


def _ports(permission: Mapping[str, Any]) -> str:
    first, last = permission.get("FromPort"), permission.get("ToPort")
    if first is None or permission["IpProtocol"] == _EVERY_PROTOCOL:
        return _EVERYTHING
    return str(first) if first == last else f"{first}-{last}"


def _group_name(aws: Aws, group_id: str) -> str:
    return ec2.name_of(aws, "security_group", group_id)


def _permission(aws: Aws, traffic: Traffic) -> dict[str, Any]:
    permission: dict[str, Any] = {"IpProtocol": traffic.protocol}
    if traffic.protocol == _EVERYTHING:
        permission = {"IpProtocol": _EVERY_PROTOCOL}
    elif traffic.ports != _EVERYTHING:
        first, last = _range(traffic.ports)
        permission |= {"FromPort": first, "ToPort": last}
    return {**permission, **_peer(aws, traffic.peer)}


def _range(ports: str) -> tuple[int, int]:
    """ICMP has types and codes here, of which -1 is every one: ``-1`` and ``8--1``."""
    head, dash, last = ports.partition("-") if not ports.startswith("-") else (ports, "", "")
    return int(head), int(last) if dash else int(head)


def _peer(aws: Aws, peer: str) -> dict[str, Any]:
    if "/" in peer:
        return {"Ipv6Ranges": [{"CidrIpv6": peer}]} if ":" in peer else {"IpRanges": [{"CidrIp": peer}]}
    if peer.startswith(("com.", "pl-")):
        return {"PrefixListIds": [{"PrefixListId": _prefix_list_id(aws, peer)}]}
    return {"UserIdGroupPairs": [{"GroupId": ec2.id_of(aws, "security_group", peer)}]}


def _prefix_list_name(aws: Aws, prefix_list_id: str) -> str:
    """From the routes of our gateway endpoints, which are listed anyway; AWS is asked for what they do not have."""
    services = {ec2.identifier("vpc_endpoint", each): each["ServiceName"] for each in ec2.records(aws, "vpc_endpoint")}
    for table in ec2.records(aws, "route_table"):
        for route in table.get("Routes", []):
            if route.get("DestinationPrefixListId") == prefix_list_id and route.get("GatewayId") in services:
                return str(services[route["GatewayId"]])
    by_name = {listed: name for name, listed in _prefix_lists(aws).items()}
    return by_name.get(prefix_list_id, prefix_list_id)


def _prefix_list_id(aws: Aws, name: str) -> str:
    if name.startswith("pl-"):
        return name
    if name not in _prefix_lists(aws):
        raise TwinopsError(f"security_rules: expected a prefix list {name} in {aws.scope.region}, found none")
    return _prefix_lists(aws)[name]


def _prefix_lists(aws: Aws) -> dict[str, str]:
    """Name -> identifier of the region's prefix lists."""

    def read() -> dict[str, str]:
        pages = aws.client("ec2").get_paginator("describe_managed_prefix_lists").paginate()
        return {each["PrefixListName"]: each["PrefixListId"] for page in pages for each in page["PrefixLists"]}

    return aws.once("ec2 prefix lists", read)
