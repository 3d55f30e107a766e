"""The network, what runs in it, and the host: made, changed by hand, interrupted, and removed."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twinops.aws import ec2
from twinops.aws.reconcile import ApplyError
from twinops.errors import TwinopsError
from twinops.resources import Scope

from tests.sandbox.cloud.support import Deployment, Environment, Tamper, check_drift
from tests.sandbox.support import eventually

pytestmark = pytest.mark.sandbox

Client = Callable[[str], Any]
EVERYWHERE = [{"CidrIp": "0.0.0.0/0"}]
WRITES_NEVER = ("Describe", "Get", "List")
NAT = {"egress": "nat", "services": []}


class Killed(BaseException):
    """Instead of SIGKILL: no code of ours runs after it that could clean up."""


@contextlib.contextmanager
def killed_after_one_write(environment: Environment) -> Iterator[Counter[str]]:
    """The run ends at its second call that writes. What it wrote is counted."""
    written: Counter[str] = Counter()
    clients = [environment.aws.client(service) for service in ("ec2", "iam", "sagemaker", "ssm")]

    def stop(event_name: str, **_: Any) -> None:
        operation = event_name.split(".")[2]
        if operation.startswith(WRITES_NEVER):
            return
        if written:
            raise Killed(operation)
        written[operation] += 1

    for client in clients:
        client.meta.events.register("before-send", stop, unique_id="kill")
    try:
        yield written
    finally:
        for client in clients:
            client.meta.events.unregister("before-send", unique_id="kill")


def kill_again_and_again(environment: Environment, run: Callable[[], dict[str, Any]]) -> Counter[str]:
    """``run`` until it is done, killed after each call that writes; all that it wrote."""
    written: Counter[str] = Counter()
    for _ in range(100):
        environment.aws.forget()
        with killed_after_one_write(environment) as once:
            try:
                run()
            except Killed:
                written += once
            else:
                return written + once
    pytest.fail(f"not done after 100 runs: {written}")


def id_of(aws: Client, scope: Scope, kind: str, name: str) -> str:
    """The ID of what bears a name, as somebody with a console would find it."""
    listings = {
        "vpc": ("describe_vpcs", "Vpcs", "VpcId"),
        "subnet": ("describe_subnets", "Subnets", "SubnetId"),
        "route_table": ("describe_route_tables", "RouteTables", "RouteTableId"),
        "security_group": ("describe_security_groups", "SecurityGroups", "GroupId"),
        "vpc_endpoint": ("describe_vpc_endpoints", "VpcEndpoints", "VpcEndpointId"),
    }
    operation, answer, key = listings[kind]
    return str(
        next(
            each[key]
            for each in getattr(aws("ec2"), operation)()[answer]
            if {"Key": "twinops:name", "Value": f"{scope.names.prefix}{name}"} in each.get("Tags", [])
        )
    )


def instance(aws: Client, scope: Scope) -> Any:
    filters = [
        {"Name": "tag:twinops:name", "Values": [scope.names.host]},
        {"Name": "instance-state-name", "Values": ["running", "stopped"]},
    ]
    ((found,),) = (each["Instances"] for each in aws("ec2").describe_instances(Filters=filters)["Reservations"])
    return found


def default_group(aws: Client, scope: Scope) -> str:
    filters = [
        {"Name": "vpc-id", "Values": [id_of(aws, scope, "vpc", "network")]},
        {"Name": "group-name", "Values": ["default"]},
    ]
    (group,) = aws("ec2").describe_security_groups(Filters=filters)["SecurityGroups"]
    return str(group["GroupId"])


def untag(kind: str, name: str, *keys: str) -> Tamper:
    def tamper(aws: Client, scope: Scope) -> None:
        resources = [id_of(aws, scope, kind, name)]
        aws("ec2").delete_tags(Resources=resources, Tags=[{"Key": key} for key in keys])

    return tamper


def modify_endpoint(service: str, change: Callable[[Client, Scope], dict[str, Any]]) -> Tamper:
    return lambda aws, scope: aws("ec2").modify_vpc_endpoint(
        VpcEndpointId=id_of(aws, scope, "vpc_endpoint", service), **change(aws, scope)
    )


def open_ssh(aws: Client, scope: Scope) -> None:
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": EVERYWHERE}
    twins = id_of(aws, scope, "security_group", "twins")
    aws("ec2").authorize_security_group_ingress(GroupId=twins, IpPermissions=[ssh])


def let_everything_out(aws: Client, scope: Scope) -> None:
    everything = {"IpProtocol": "-1", "IpRanges": EVERYWHERE}
    twins = id_of(aws, scope, "security_group", "twins")
    aws("ec2").authorize_security_group_egress(GroupId=twins, IpPermissions=[everything])


def open_default_group(aws: Client, scope: Scope) -> None:
    ports = {"IpProtocol": "udp", "FromPort": 8000, "ToPort": 8080, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}
    aws("ec2").authorize_security_group_ingress(GroupId=default_group(aws, scope), IpPermissions=[ports])


def close_endpoints(aws: Client, scope: Scope) -> None:
    group = id_of(aws, scope, "security_group", "endpoints")
    (found,) = aws("ec2").describe_security_groups(GroupIds=[group])["SecurityGroups"]
    aws("ec2").revoke_security_group_ingress(GroupId=group, IpPermissions=found["IpPermissions"])


def route_through_the_host(aws: Client, scope: Scope) -> None:
    table = id_of(aws, scope, "route_table", "private")
    interface = instance(aws, scope)["NetworkInterfaces"][0]["NetworkInterfaceId"]
    aws("ec2").create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", NetworkInterfaceId=interface)


def take_subnet_away(aws: Client, scope: Scope) -> None:
    table, subnet = id_of(aws, scope, "route_table", "private"), id_of(aws, scope, "subnet", "private-2")
    (found,) = aws("ec2").describe_route_tables(RouteTableIds=[table])["RouteTables"]
    (association,) = (each for each in found["Associations"] if each.get("SubnetId") == subnet)
    aws("ec2").disassociate_route_table(AssociationId=association["RouteTableAssociationId"])


def stop_host(aws: Client, scope: Scope) -> str:
    host = str(instance(aws, scope)["InstanceId"])
    aws("ec2").stop_instances(InstanceIds=[host])
    eventually(lambda: instance(aws, scope)["State"]["Name"] == "stopped")
    return host


def resize_host(aws: Client, scope: Scope) -> None:
    host = stop_host(aws, scope)
    aws("ec2").modify_instance_attribute(InstanceId=host, InstanceType={"Value": "t3.large"})
    aws("ec2").start_instances(InstanceIds=[host])


def swap_profile(aws: Client, scope: Scope) -> None:
    with contextlib.suppress(aws("iam").exceptions.EntityAlreadyExistsException):
        aws("iam").create_instance_profile(InstanceProfileName="mine")
    filters = [{"Name": "instance-id", "Values": [instance(aws, scope)["InstanceId"]]}]
    (found,) = aws("ec2").describe_iam_instance_profile_associations(Filters=filters)["IamInstanceProfileAssociations"]
    aws("ec2").replace_iam_instance_profile_association(
        AssociationId=found["AssociationId"], IamInstanceProfile={"Name": "mine"}
    )


def volume_of_host(aws: Client, scope: Scope) -> str:
    return str(instance(aws, scope)["BlockDeviceMappings"][0]["Ebs"]["VolumeId"])


# what somebody does by hand -> the change that is planned for it
DRIFT: dict[str, tuple[Tamper, str]] = {
    "private names are switched off": (
        lambda aws, scope: aws("ec2").modify_vpc_attribute(
            VpcId=id_of(aws, scope, "vpc", "network"), EnableDnsHostnames={"Value": False}
        ),
        "update vpc: dns_hostnames",
    ),
    "the VPC loses a tag": (untag("vpc", "network", "twinops:owner"), "update vpc: tags"),
    "the VPC is renamed": (
        lambda aws, scope: aws("ec2").create_tags(
            Resources=[id_of(aws, scope, "vpc", "network")], Tags=[{"Key": "Name", "Value": "mine"}]
        ),
        "update vpc: tags",
    ),
    "a subnet loses the name that we know it by": (
        untag("subnet", "private-1", "twinops:name", "twinops:environment"),
        "update subnet: tags",
    ),
    "a subnet gives public addresses": (
        lambda aws, scope: aws("ec2").modify_subnet_attribute(
            SubnetId=id_of(aws, scope, "subnet", "private-1"), MapPublicIpOnLaunch={"Value": True}
        ),
        "update subnet: public_addresses",
    ),
    "a route leads through a machine": (route_through_the_host, "update route_table: routes"),
    "a subnet gets no routes": (take_subnet_away, "update route_table: subnets"),
    "a route table loses a tag": (untag("route_table", "private", "twinops:part"), "update route_table: tags"),
    "SSH is opened to the world": (open_ssh, "update security_rules: ingress"),
    "everything may leave": (let_everything_out, "update security_rules: egress"),
    "the default group is opened": (open_default_group, "update security_rules: ingress"),
    "the endpoints let nobody in": (close_endpoints, "update security_rules: ingress"),
    "a security group loses a tag": (untag("security_group", "twins", "twinops:owner"), "update security_group: tags"),
    "an endpoint passes everything": (
        modify_endpoint("s3", lambda aws, scope: {"ResetPolicy": True}),
        "update vpc_endpoint: policy",
    ),
    "a gateway endpoint gets no routes": (
        modify_endpoint(
            "dynamodb", lambda aws, scope: {"RemoveRouteTableIds": [id_of(aws, scope, "route_table", "private")]}
        ),
        "update vpc_endpoint: route_tables",
    ),
    "an endpoint leaves a zone": (
        modify_endpoint("logs", lambda aws, scope: {"RemoveSubnetIds": [id_of(aws, scope, "subnet", "private-2")]}),
        "update vpc_endpoint: subnets",
    ),
    "an endpoint gets another group": (
        modify_endpoint(
            "logs",
            lambda aws, scope: {
                "AddSecurityGroupIds": [default_group(aws, scope)],
                "RemoveSecurityGroupIds": [id_of(aws, scope, "security_group", "endpoints")],
            },
        ),
        "update vpc_endpoint: security_groups",
    ),
    "an endpoint loses its private name": (
        modify_endpoint("sns", lambda aws, scope: {"PrivateDnsEnabled": False}),
        "update vpc_endpoint: private_dns",
    ),
    "an endpoint loses a tag": (untag("vpc_endpoint", "s3", "twinops:environment"), "update vpc_endpoint: tags"),
    "an endpoint is deleted": (
        lambda aws, scope: aws("ec2").delete_vpc_endpoints(VpcEndpointIds=[id_of(aws, scope, "vpc_endpoint", "logs")]),
        "create vpc_endpoint: tags service endpoint_type policy route_tables subnets security_groups private_dns",
    ),
    "the host is stopped": (stop_host, "update instance: running"),
    "the host is resized": (resize_host, "update instance: instance_type"),
    "the host's metadata needs no token": (
        lambda aws, scope: aws("ec2").modify_instance_metadata_options(
            InstanceId=instance(aws, scope)["InstanceId"], HttpTokens="optional", HttpPutResponseHopLimit=3
        ),
        "update instance: metadata_tokens metadata_hop_limit",
    ),
    "the host gets another group": (
        lambda aws, scope: aws("ec2").modify_instance_attribute(
            InstanceId=instance(aws, scope)["InstanceId"], Groups=[default_group(aws, scope)]
        ),
        "update instance: security_groups",
    ),
    "the host gets another role": (swap_profile, "update instance: profile"),
    "the host's volume becomes a slower one": (
        lambda aws, scope: aws("ec2").modify_volume(VolumeId=volume_of_host(aws, scope), VolumeType="gp2"),
        "update instance: volume_type",
    ),
    "the host loses a tag": (
        lambda aws, scope: aws("ec2").delete_tags(
            Resources=[instance(aws, scope)["InstanceId"]], Tags=[{"Key": "twinops:owner"}]
        ),
        "update instance: tags",
    ),
    "the host is terminated": (
        lambda aws, scope: aws("ec2").terminate_instances(InstanceIds=[instance(aws, scope)["InstanceId"]]),
        "create instance: tags instance_type subnet security_groups profile public_address metadata_tokens "
        "metadata_hop_limit volume_type volume_size_gb volume_encrypted running",
    ),
    "the host's profile gives no role": (
        lambda aws, scope: aws("iam").remove_role_from_instance_profile(
            InstanceProfileName=scope.names.host, RoleName=scope.names.role("host")
        ),
        "update instance_profile: role",
    ),
}


@pytest.mark.parametrize("what", DRIFT)
def test_what_is_changed_by_hand_is_seen_and_repaired(what: str, staging: Environment, aws: Client) -> None:
    check_drift(staging, aws, *DRIFT[what], "network", "airflow")


def test_the_diff_names_who_may_talk_to_whom(staging: Environment, aws: Client) -> None:
    open_ssh(aws, staging.scope)
    shown = staging.reconcile(staging.resources())["diff"]
    rules = "security_rules twinops-staging-twins"
    assert shown["before"][rules] == {"ingress": [["tcp", "22", "0.0.0.0/0"]]}
    assert shown["after"][rules] == {"ingress": []}


def test_a_no_op_lists_each_type_once(staging: Environment) -> None:
    def services_of(*parts: str) -> Counter[str]:
        resources = staging.resources(*parts)
        before = len(staging.sandbox.calls())
        assert staging.reconcile(resources)["changes"] == []
        return Counter(call["action"] for call in staging.sandbox.calls()[before:] if call["service"] == "ec2")

    listings = ("Vpcs", "Subnets", "RouteTables", "SecurityGroups", "VpcEndpoints")
    network = Counter({f"Describe{listing}": 1 for listing in listings} | {"DescribeVpcAttribute": 2})
    assert services_of("network") == network
    assert services_of("network", "twins", "airflow", "env") == network + Counter(
        DescribeInstances=1, DescribeVolumes=1
    )


def test_twins_and_host_are_in_the_vpc_and_have_no_address_outside(staging: Environment, aws: Client) -> None:
    scope = staging.scope
    twin = aws("sagemaker").describe_notebook_instance(NotebookInstanceName=scope.names.twin("deployment"))
    assert twin["NotebookInstanceStatus"] == "InService"
    assert twin["DirectInternetAccess"] == "Disabled"
    assert twin["SubnetId"] == id_of(aws, scope, "subnet", "private-1")
    assert twin["SecurityGroups"] == [id_of(aws, scope, "security_group", "twins")]
    host = instance(aws, scope)
    assert (host["SubnetId"], host.get("PublicIpAddress")) == (id_of(aws, scope, "subnet", "private-1"), None)
    assert host["MetadataOptions"]["HttpTokens"] == "required"
    (volume,) = aws("ec2").describe_volumes(VolumeIds=[volume_of_host(aws, scope)])["Volumes"]
    assert (volume["Encrypted"], volume["VolumeType"]) == (True, "gp3")


def test_nothing_may_come_in_from_the_world(deployment: Deployment, aws: Client) -> None:
    vpc = id_of(aws, deployment.environment.scope, "vpc", "network")
    groups = aws("ec2").describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["SecurityGroups"]
    permissions = {group["GroupName"]: group["IpPermissions"] for group in groups}
    coming = permissions.pop("twinops-staging-endpoints")
    assert [(rule["FromPort"], rule["IpRanges"], len(rule["UserIdGroupPairs"])) for rule in coming] == [(443, [], 2)]
    assert permissions == {"default": [], "twinops-staging-twins": [], "twinops-staging-host": []}
    assert "0.0.0.0/0" not in json.dumps([group["IpPermissionsEgress"] for group in groups])


def test_what_is_not_declared_any_more_is_listed_and_pruned(production: Environment) -> None:
    with_host = production.resources("network", network={"host": True, "services": []})
    production.reconcile(with_host)
    without = production.resources("network", network={"host": False, "services": []})
    seen = production.reconcile(without)
    # The rule that lets the host in at the endpoints goes at once, what the host needs only when asked for.
    assert [change["kind"] for change in seen["changes"]] == ["security_rules", "vpc_endpoint"]
    assert {(each["kind"], each["name"].removeprefix("twinops-production-")) for each in seen["orphans"]} == {
        ("security_group", "host"),
        ("vpc_endpoint", "ssm"),
        ("vpc_endpoint", "ssmmessages"),
        ("vpc_endpoint", "sts"),
    }
    pruned = production.reconcile(without, prune=True)
    assert len(pruned["changes"]) == len(seen["orphans"])
    assert production.reconcile(without)["orphans"] == []
    production.remove(without)


def test_a_group_that_others_refer_to_is_removed(production: Environment) -> None:
    production.reconcile(production.resources("network", network={"host": True}))
    nothing = production.resources("network", network={"enabled": False})
    assert nothing == ()
    production.reconcile(nothing, parts=("network",), prune=True)
    assert ec2.found(production.aws, "vpc", [production.scope.names.network]) == {}


def test_the_way_out_can_be_changed(production: Environment) -> None:
    production.reconcile(production.resources("network", network={"services": ["logs"], "host": False}))
    nat = production.resources("network", network={"host": False, **NAT})
    changed = production.reconcile(nat, prune=True)
    assert ("create", "nat_gateway") in {(change["action"], change["kind"]) for change in changed["changes"]}
    assert production.reconcile(nat)["changes"] == []
    back = production.resources("network", network={"services": ["logs"], "host": False})
    changed = production.reconcile(back, prune=True)
    gone = [change["kind"] for change in changed["changes"] if change["action"] == "delete"]
    assert gone == ["route_table", "nat_gateway", "elastic_ip", "subnet", "internet_gateway"]
    again = production.reconcile(back)
    assert (again["changes"], again["orphans"]) == ([], [])
    production.remove(back)


def test_a_nat_gateway_that_somebody_deleted_comes_back(production: Environment, aws: Client) -> None:
    resources = production.resources("network", network={"host": False, **NAT})
    production.reconcile(resources)
    (gateway,) = ec2.records(production.aws, "nat_gateway")
    aws("ec2").delete_nat_gateway(NatGatewayId=gateway["NatGatewayId"])
    changes = production.reconcile(resources)["changes"]
    assert [(change["action"], change["kind"]) for change in changes] == [
        ("create", "nat_gateway"),
        ("update", "route_table"),
    ]
    assert production.reconcile(resources)["changes"] == []
    production.remove(resources)


def test_two_of_one_name_are_for_people_to_tell_apart(production: Environment, aws: Client) -> None:
    resources = production.resources("network", network={"services": [], "host": False})
    production.reconcile(resources)
    tags = [{"Key": "Name", "Value": production.scope.names.network}]
    copy = aws("ec2").create_vpc(CidrBlock="10.50.0.0/16", TagSpecifications=[{"ResourceType": "vpc", "Tags": tags}])[
        "Vpc"
    ]["VpcId"]
    with pytest.raises(TwinopsError, match=rf"vpc twinops-production-network: expected one, found .*{copy}"):
        production.reconcile(resources)
    aws("ec2").delete_vpc(VpcId=copy)
    assert production.reconcile(resources)["changes"] == []
    production.remove(resources)


def test_a_subnet_that_is_not_there_is_named(production: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ec2, "KNOWN_WITHIN_S", 0.1)
    resources = production.resources("airflow", "env", airflow={"subnet": "private-7"})
    with pytest.raises(ApplyError, match="subnet twinops-production-private-7: expected it in the VPC"):
        production.reconcile(resources)
    production.remove(resources)


def there(environment: Environment) -> Counter[str]:
    """How many there are of what has no unique name in AWS, besides the route table that comes with the VPC."""
    environment.aws.forget()
    kinds = ("internet_gateway", "subnet", "elastic_ip", "nat_gateway", "route_table", "vpc_endpoint", "instance")
    count = Counter({kind: len(ec2.records(environment.aws, kind)) for kind in kinds})
    vpc = ec2.found(environment.aws, "vpc", [environment.scope.names.network])
    return count + Counter(vpc=len(vpc)) - Counter(route_table=1)


def test_a_run_that_is_killed_after_any_call_converges_without_duplicates(production: Environment, aws: Client) -> None:
    boundary = tuple(
        each for each in production.resources("env") if each.kind == "managed_policy"
    )  # of the host's role
    resources = (*boundary, *production.resources("network", "airflow", network={"host": True, **NAT}))
    _, writes = production.writes_of(lambda: production.reconcile(resources))
    expected = there(production)
    production.remove(resources)
    in_pieces = kill_again_and_again(production, lambda: production.reconcile(resources))
    assert in_pieces == Counter(writes), "nothing is written twice"
    assert there(production) == expected
    again = production.reconcile(resources)
    assert (again["changes"], again["orphans"]) == ([], [])
    kill_again_and_again(production, lambda: production.remove(resources))
    assert production.remove(resources)["changes"] == []
    assert there(production)["vpc"] == 0
