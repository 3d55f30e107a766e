"""The network: addresses, ways out, and who may talk to whom."""

from __future__ import annotations

import ipaddress
import json
from collections import Counter
from typing import Any

import pytest
from twinops.errors import SpecError
from twinops.resources import (
    LifecycleConfig,
    Notebook,
    Resource,
    RouteTable,
    SecurityRules,
    Subnet,
    Vpc,
    VpcEndpoint,
)

from tests.unit.desired.support import SCOPE, part

CIDR = "10.41.0.0/20"
EGRESSES = ("endpoints", "nat", "none")


def network(**options: Any) -> tuple[Resource, ...]:
    return part("network", {"cidr": CIDR, "services": ["logs", "monitoring"], **options})


def rules(**options: Any) -> dict[str, SecurityRules]:
    found = (each for each in network(**options) if isinstance(each, SecurityRules))
    return {each.name.removeprefix("twinops-staging-"): each for each in found}


def endpoints(**options: Any) -> dict[str, VpcEndpoint]:
    found = (each for each in network(**options) if isinstance(each, VpcEndpoint))
    return {each.service.removeprefix("com.amazonaws.eu-central-1."): each for each in found}


def test_an_environment_may_stay_without_a_network() -> None:
    assert network(enabled=False) == ()


@pytest.mark.parametrize("egress", EGRESSES)
@pytest.mark.parametrize("zone_count", [2, 3, 6])
def test_subnets_share_the_block_and_do_not_overlap(egress: str, zone_count: int) -> None:
    zones = [f"eu-central-1{letter}" for letter in "abcdef"[:zone_count]]
    subnets = [each for each in network(egress=egress, zones=zones) if isinstance(each, Subnet)]
    blocks = [ipaddress.ip_network(subnet.cidr) for subnet in subnets]
    assert len(subnets) == zone_count + (egress == "nat")
    assert all(block.subnet_of(ipaddress.ip_network(CIDR)) for block in blocks)  # type: ignore[arg-type]
    assert not any(one.overlaps(other) for i, one in enumerate(blocks) for other in blocks[i + 1 :])
    assert [subnet.zone for subnet in subnets][:zone_count] == zones
    assert not any(subnet.public_addresses for subnet in subnets)


def test_the_first_two_zones_of_the_region_are_the_default() -> None:
    zones = [each.zone for each in network() if isinstance(each, Subnet)]
    assert zones == ["eu-central-1a", "eu-central-1b"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cidr": "10.41.0.0/8"}, "has host bits set"),
        ({"cidr": "10.0.0.0/8"}, "expected a private block of /16–/25, got 10.0.0.0/8"),
        ({"cidr": "8.8.8.0/24"}, "expected a private block"),
        ({"cidr": "ten"}, "expected a CIDR block such as 10.40.0.0/20, got ten"),
        ({"reachable": ["gitlab.example.com"]}, "reachable: expected a CIDR block"),
        ({"zones": ["eu-central-1a"]}, "expected 2–6 different ones, got eu-central-1a"),
        ({"zones": ["eu-central-1a", "eu-central-1a"]}, "expected 2–6 different ones"),
        ({"zones": ["eu-west-1a", "eu-central-1b"]}, "expected zones of eu-central-1, got eu-west-1a"),
    ],
)
def test_mistakes_in_addresses_and_zones(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as refused:
        network(**options)
    assert message in str(refused.value)


@pytest.mark.parametrize("egress", EGRESSES)
@pytest.mark.parametrize("host", [False, True])
def test_nothing_comes_in_from_outside_the_vpc(egress: str, host: bool) -> None:
    found = rules(egress=egress, host=host, reachable=["10.9.0.0/16"])
    coming = {name: {traffic.peer for traffic in each.ingress} for name, each in found.items()}
    machines = {"twinops-staging-twins", *(["twinops-staging-host"] if host else [])}
    assert coming.pop("endpoints", machines) == machines
    assert not any(coming.values())
    assert found["default"].egress == ()


@pytest.mark.parametrize(
    ("egress", "peers"),
    [
        ("nat", {"0.0.0.0/0"}),
        ("endpoints", {"twinops-staging-endpoints", "s3", "dynamodb", "10.9.0.0/16"}),
        ("none", {"s3", "dynamodb", "10.9.0.0/16"}),
    ],
)
def test_only_https_leaves_and_only_to_what_the_egress_offers(egress: str, peers: set[str]) -> None:
    leaving = rules(egress=egress, reachable=["10.9.0.0/16"])["twins"].egress
    assert {(traffic.protocol, traffic.ports) for traffic in leaving} == {("tcp", "443")}
    assert {traffic.peer.removeprefix("com.amazonaws.eu-central-1.") for traffic in leaving} == peers


def test_with_nat_the_private_subnets_have_a_route_and_only_the_gateway_is_public() -> None:
    made = network(egress="nat")
    tables = {each.name: each for each in made if isinstance(each, RouteTable)}
    assert tables["twinops-staging-private"].routes == {"0.0.0.0/0": "nat_gateway:twinops-staging-nat"}
    assert tables["twinops-staging-public"].subnets == ("twinops-staging-public",)
    assert Counter(each.kind for each in made)["nat_gateway"] == 1


@pytest.mark.parametrize("egress", ["endpoints", "none"])
def test_without_nat_nothing_leads_to_the_internet(egress: str) -> None:
    made = network(egress=egress)
    assert not {each.kind for each in made} & {"internet_gateway", "elastic_ip", "nat_gateway"}
    assert [each.routes for each in made if isinstance(each, RouteTable)] == [{}]


def test_endpoints_that_cost_are_made_only_where_they_are_the_way_out() -> None:
    assert set(endpoints()) == {"s3", "dynamodb", "logs", "monitoring"}
    assert set(endpoints(host=True)) == {"s3", "dynamodb", "logs", "monitoring", "ssm", "ssmmessages", "sts"}
    assert set(endpoints(egress="nat", host=True)) == set(endpoints(egress="none")) == {"s3", "dynamodb"}


def test_endpoints_pass_our_account_only() -> None:
    for service, endpoint in endpoints().items():
        (statement,) = endpoint.policy["Statement"]
        actions = {"monitoring": "cloudwatch"}.get(service, service)
        assert statement["Action"] == [f"{actions}:*"]
        assert statement["Condition"] == {
            "StringEquals": {"aws:PrincipalAccount": [SCOPE.account]},
            "StringEqualsIfExists": {"aws:ResourceAccount": [SCOPE.account]},
        }


def test_packages_are_read_where_there_is_a_host() -> None:
    _, packages = endpoints(host=True)["s3"].policy["Statement"]
    assert packages["Action"] == ["s3:GetObject"]
    assert packages["Resource"] == ["arn:aws:s3:::al2023-repos-eu-central-1-de612dc2/*"]
    assert len(endpoints(host=False)["s3"].policy["Statement"]) == 1


def test_private_names_of_endpoints_need_dns() -> None:
    (vpc,) = (each for each in network() if isinstance(each, Vpc))
    assert vpc.dns_support
    assert vpc.dns_hostnames


def test_everything_is_known_by_a_name_that_people_do_not_edit() -> None:
    for each in network(egress="nat", host=True):
        if each.taggable:
            assert (each.tags["Name"], each.tags["twinops:name"]) == (each.name, each.name)
            assert each.name.startswith("twinops-staging-")


def test_references_are_to_what_is_declared() -> None:
    made = network(egress="endpoints", host=True)
    names = {(each.kind, each.name) for each in made}
    for each in made:
        for subnet in getattr(each, "subnets", ()):
            assert ("subnet", subnet) in names
        for group in getattr(each, "security_groups", ()):
            assert ("security_group", group) in names
        for table in getattr(each, "route_tables", ()):
            assert ("route_table", table) in names
    assert "0.0.0.0/0" not in json.dumps([each.values() for each in made], default=str)


@pytest.mark.parametrize(
    ("subnet", "expected"),
    [
        ("", ("", (), True)),
        ("private-1", ("twinops-staging-private-1", ("twinops-staging-twins",), False)),
    ],
    ids=["outside", "inside"],
)
def test_twins_in_the_vpc_have_no_other_way_out(subnet: str, expected: tuple[Any, ...]) -> None:
    options = {"instances": [{"twin": "deployment"}], "script": "x", "repository": "y", "subnet": subnet}
    config, twin = part("twins", options)
    assert isinstance(config, LifecycleConfig)
    assert isinstance(twin, Notebook)
    assert (twin.subnet, twin.security_groups, twin.direct_internet_access) == expected
