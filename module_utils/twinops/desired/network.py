"""The network: a VPC without a way in, and the ways out that are chosen."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

from .. import policies
from ..errors import SpecError
from ..names import NAME_TAG
from ..resources import (
    ElasticIp,
    InternetGateway,
    Json,
    NatGateway,
    Resource,
    RouteTable,
    SecurityGroup,
    SecurityRules,
    Subnet,
    Traffic,
    Vpc,
    VpcEndpoint,
)
from .common import Estate, Options

PART = "network"

ENDPOINTS, NAT, NONE = "endpoints", "nat", "none"
OPTIONS = {
    "enabled": {"type": "bool", "default": True},
    "cidr": {"type": "str", "required": True},
    "zones": {"type": "list", "elements": "str", "default": []},
    "egress": {"type": "str", "default": ENDPOINTS, "choices": [ENDPOINTS, NAT, NONE]},
    "services": {"type": "list", "elements": "str", "default": []},
    "reachable": {"type": "list", "elements": "str", "default": []},
    "host": {"type": "bool", "default": False},
}

GATEWAY_SERVICES = ("dynamodb", "s3")
"""Their endpoints cost nothing, so they are always there."""
HOST_SERVICES = ("ssm", "ssmmessages", "sts")
"""What a host without internet needs to be reached (Session Manager) and to take a role. ec2messages is of the past."""

PREFIX_MIN, PREFIX_MAX = 16, 25
"""Of the VPC's CIDR block; AWS's subnets end at /28, and ours are an eighth of the VPC."""
SUBNET_BITS = 3
ZONES_MIN, ZONES_MAX = 2, 6
HTTPS = "443"
EVERYWHERE = "0.0.0.0/0"


def resources(estate: Estate, options: Options) -> tuple[Resource, ...]:
    """Raises SpecError, listing all of them, for mistakes in addresses and zones."""
    if not options["enabled"]:
        return ()
    zones = _zones(estate, options)
    blocks = _blocks(options, len(zones))
    names = estate.scope.names
    vpc = Vpc(
        name=names.network,
        tags=_tags(estate, names.network),
        cidr=options["cidr"],
        dns_support=True,
        dns_hostnames=True,  # without them, endpoints have no private names
    )
    subnets = tuple(
        _subnet(estate, f"private-{number}", zone, block) for number, (zone, block) in enumerate(zip(zones, blocks), 1)
    )
    return (
        vpc,
        *subnets,
        *_routing(estate, options, subnets, zones[0], blocks[-1]),
        *_groups(estate, options),
        *_endpoints(estate, options, tuple(subnet.name for subnet in subnets)),
    )


def _tags(estate: Estate, name: str) -> dict[str, str]:
    """EC2 has no names: these tags are the name, for people and for us."""
    return {**estate.tags(PART), "Name": name, NAME_TAG: name}


def _zones(estate: Estate, options: Options) -> list[str]:
    """Those of the spec, or the first two of the region."""
    region = estate.scope.region
    zones = list(options["zones"]) or [f"{region}a", f"{region}b"]
    if not ZONES_MIN <= len(zones) <= ZONES_MAX or len(set(zones)) < len(zones):
        raise SpecError([f"network: zones: expected {ZONES_MIN}–{ZONES_MAX} different ones, got {', '.join(zones)}"])
    if foreign := [zone for zone in zones if not zone.startswith(region)]:
        raise SpecError([f"network: zones: expected zones of {region}, got {', '.join(foreign)}"])
    return zones


def _blocks(options: Options, zone_count: int) -> list[str]:
    """A block for each zone's private subnet, and last the one of the public subnet, which is the end of the VPC's."""
    mistakes = []
    networks = {}
    for option, text in (("cidr", options["cidr"]), *(("reachable", each) for each in options["reachable"])):
        try:
            networks[option] = ipaddress.IPv4Network(text)
        except ValueError as error:
            mistakes.append(f"network: {option}: expected a CIDR block such as 10.40.0.0/20, got {text}: {error}")
    vpc = networks.get("cidr")
    if vpc and not (vpc.is_private and PREFIX_MIN <= vpc.prefixlen <= PREFIX_MAX):
        mistakes.append(f"network: cidr: expected a private block of /{PREFIX_MIN}–/{PREFIX_MAX}, got {vpc}")
    if vpc is None or mistakes:
        raise SpecError(mistakes)
    blocks = [str(block) for block in vpc.subnets(SUBNET_BITS)]
    return [*blocks[:zone_count], blocks[-1]]


def _subnet(estate: Estate, purpose: str, zone: str, block: str) -> Subnet:
    name = estate.scope.names.subnet(purpose)
    return Subnet(name=name, tags=_tags(estate, name), zone=zone, cidr=block, public_addresses=False)


def _routing(
    estate: Estate, options: Options, subnets: Sequence[Subnet], zone: str, public_block: str
) -> Iterator[Resource]:
    """One table for all private subnets; with NAT, the one public subnet in which nothing but its gateway is."""
    names, with_nat = estate.scope.names, options["egress"] == NAT
    private = names.route_table("private")
    yield RouteTable(
        name=private,
        tags=_tags(estate, private),
        subnets=tuple(subnet.name for subnet in subnets),
        routes={EVERYWHERE: f"{NatGateway.kind}:{names.nat}"} if with_nat else {},
    )
    if not with_nat:
        return
    public = _subnet(estate, "public", zone, public_block)
    yield public
    yield InternetGateway(names.internet_gateway, _tags(estate, names.internet_gateway), vpc=names.network)
    yield ElasticIp(names.nat, _tags(estate, names.nat))
    yield NatGateway(names.nat, _tags(estate, names.nat), subnet=public.name, elastic_ip=names.nat)
    yield RouteTable(
        name=names.route_table("public"),
        tags=_tags(estate, names.route_table("public")),
        subnets=(public.name,),
        routes={EVERYWHERE: f"{InternetGateway.kind}:{names.internet_gateway}"},
    )


def _groups(estate: Estate, options: Options) -> Iterator[Resource]:
    """Nothing comes in, except HTTPS from our machines at the endpoints; HTTPS leaves, only to what the egress offers.

    The default group, which AWS gives to what names no group, lets nothing pass.
    """
    group = estate.scope.names.security_group
    machines = {"twins": "The notebook instances of twinops"}
    if options["host"]:
        machines["host"] = "The instance on which Airflow and Ansible run"
    leaving = tuple(sorted(Traffic("tcp", HTTPS, peer) for peer in _destinations(estate, options)))
    rules = {group("default"): SecurityRules(group("default"), {}, ingress=(), egress=())}
    for purpose, description in machines.items():
        yield SecurityGroup(group(purpose), _tags(estate, group(purpose)), description)
        rules[group(purpose)] = SecurityRules(group(purpose), {}, ingress=(), egress=leaving)
    if options["egress"] == ENDPOINTS:
        name = group("endpoints")
        coming = tuple(sorted(Traffic("tcp", HTTPS, group(purpose)) for purpose in machines))
        yield SecurityGroup(name, _tags(estate, name), "The interface endpoints of AWS services")
        rules[name] = SecurityRules(name, {}, ingress=coming, egress=())
    yield from rules.values()


def _destinations(estate: Estate, options: Options) -> set[str]:
    if options["egress"] == NAT:
        return {EVERYWHERE}
    peers = {_service_name(estate, service) for service in GATEWAY_SERVICES} | set(options["reachable"])
    return peers | ({estate.scope.names.security_group("endpoints")} if options["egress"] == ENDPOINTS else set())


def _endpoints(estate: Estate, options: Options, subnets: tuple[str, ...]) -> Iterator[Resource]:
    names = estate.scope.names
    for service in GATEWAY_SERVICES:
        yield VpcEndpoint(
            name=names.endpoint(service),
            tags=_tags(estate, names.endpoint(service)),
            service=_service_name(estate, service),
            endpoint_type="Gateway",
            policy=_policy(estate, service, options),
            route_tables=(names.route_table("private"),),
        )
    if options["egress"] != ENDPOINTS:
        return
    for service in sorted({*options["services"], *(HOST_SERVICES if options["host"] else ())}):
        yield VpcEndpoint(
            name=names.endpoint(service),
            tags=_tags(estate, names.endpoint(service)),
            service=_service_name(estate, service),
            endpoint_type="Interface",
            policy=_policy(estate, service, options),
            subnets=subnets,
            security_groups=(names.security_group("endpoints"),),
            private_dns=True,
        )


def _policy(estate: Estate, service: str, options: Options) -> Json:
    """Packages of Amazon Linux lie in a bucket of AWS, which only the host reads."""
    return policies.endpoint(estate.scope, service, with_packages=service == "s3" and options["host"])


def _service_name(estate: Estate, service: str) -> str:
    return f"com.amazonaws.{estate.scope.region}.{service}"
