"""The network of an environment: EC2's VPC and what is in it.

AWS makes up the identifiers of all of it. Here resources refer to each other by name, which is a tag.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from .base import Json, Resource


class Traffic(NamedTuple):
    """What a security group lets pass. ``ports``: ``443``, ``8000-8080`` or ``all``; ``protocol`` likewise.

    ``peer``: a CIDR block, the name of a prefix list (``com.amazonaws.<region>.s3``) or that of a security group.
    """

    protocol: str
    ports: str
    peer: str


@dataclass(frozen=True)
class Vpc(Resource):
    kind: ClassVar[str] = "vpc"
    immutable: ClassVar[frozenset[str]] = frozenset({"cidr"})

    cidr: str
    dns_support: bool
    dns_hostnames: bool

    def obstacle(self, field_name: str, observed: Resource) -> str:
        if field_name in self.immutable:
            return "AWS cannot change it in place; remove the environment (playbooks/teardown.yml) and rerun"
        return super().obstacle(field_name, observed)


@dataclass(frozen=True)
class InternetGateway(Resource):
    kind: ClassVar[str] = "internet_gateway"
    needs: ClassVar[tuple[str, ...]] = ("vpc",)

    vpc: str


@dataclass(frozen=True)
class Subnet(Resource):
    """``public_addresses``: whether what starts in it gets an address that the internet can reach."""

    kind: ClassVar[str] = "subnet"
    needs: ClassVar[tuple[str, ...]] = ("vpc",)
    immutable: ClassVar[frozenset[str]] = frozenset({"zone", "cidr"})

    zone: str
    cidr: str
    public_addresses: bool


@dataclass(frozen=True)
class ElasticIp(Resource):
    kind: ClassVar[str] = "elastic_ip"


@dataclass(frozen=True)
class NatGateway(Resource):
    kind: ClassVar[str] = "nat_gateway"
    needs: ClassVar[tuple[str, ...]] = ("internet_gateway", "subnet", "elastic_ip")
    immutable: ClassVar[frozenset[str]] = frozenset({"subnet", "elastic_ip"})

    subnet: str
    elastic_ip: str

    def obstacle(self, field_name: str, observed: Resource) -> str:
        if field_name in self.immutable:
            return "AWS cannot change it in place; delete the NAT gateway in the VPC console and rerun"
        return super().obstacle(field_name, observed)


@dataclass(frozen=True)
class RouteTable(Resource):
    """``routes``: destination -> ``<kind>:<name>`` of a gateway of ours, or the identifier of what else it leads to.

    Not owned: the local route, those of gateway endpoints, and those to transit gateways, VPNs and peered networks.
    """

    kind: ClassVar[str] = "route_table"
    needs: ClassVar[tuple[str, ...]] = ("vpc", "subnet", "internet_gateway", "nat_gateway")

    subnets: tuple[str, ...]
    routes: Mapping[str, str]


@dataclass(frozen=True)
class SecurityGroup(Resource):
    """The group itself. Groups refer to each other in their rules, which therefore come when all groups are there."""

    kind: ClassVar[str] = "security_group"
    needs: ClassVar[tuple[str, ...]] = ("vpc",)

    description: str = field(default="", metadata={"owned": False})  # AWS never changes it


@dataclass(frozen=True)
class SecurityRules(Resource):
    """All rules of the security group of that name, or of the default group that AWS makes with each VPC."""

    kind: ClassVar[str] = "security_rules"
    needs: ClassVar[tuple[str, ...]] = ("security_group",)
    taggable: ClassVar[bool] = False

    ingress: tuple[Traffic, ...]
    egress: tuple[Traffic, ...]


@dataclass(frozen=True)
class VpcEndpoint(Resource):
    """How the VPC reaches a service of AWS: a *gateway* in route tables, or an *interface* in subnets.

    ``service``: full name, such as ``com.amazonaws.eu-central-1.s3``.
    """

    kind: ClassVar[str] = "vpc_endpoint"
    needs: ClassVar[tuple[str, ...]] = ("vpc", "subnet", "route_table", "security_rules")
    immutable: ClassVar[frozenset[str]] = frozenset({"service", "endpoint_type"})

    service: str
    endpoint_type: str
    policy: Json
    route_tables: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    private_dns: bool = False
