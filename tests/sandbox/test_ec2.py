"""EC2 as AWS documents it: networks, endpoints, security groups, instances. The records are moto's, the rules ours."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sandbox.settings import ACCOUNT, REGION
from tests.sandbox.support import policy

pytestmark = pytest.mark.sandbox

Aws = Callable[[str], Any]
IMAGE_PARAMETER = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
EVERYWHERE = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}


def tagged(kind: str, name: str = "n") -> list[dict[str, Any]]:
    return [{"ResourceType": kind, "Tags": [{"Key": "name", "Value": name}]}]


def refused(call: Callable[..., Any], **arguments: Any) -> str:
    with pytest.raises(ClientError) as error:
        call(**arguments)
    return str(error.value.response["Error"]["Code"])


@dataclass(frozen=True)
class Network:
    vpc: str
    subnet: str
    table: str
    group: str


@pytest.fixture
def ec2(aws: Aws) -> Any:
    return aws("ec2")


@pytest.fixture
def network(ec2: Any) -> Iterator[Network]:
    """A VPC with a subnet, a route table and a security group; removed at the end, in the order AWS wants."""
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16", TagSpecifications=tagged("vpc"))["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24", AvailabilityZone=f"{REGION}a")["Subnet"]["SubnetId"]
    table = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    group = ec2.create_security_group(GroupName="g", Description="d", VpcId=vpc)["GroupId"]
    yield Network(vpc, subnet, table, group)
    endpoints = ec2.describe_vpc_endpoints(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["VpcEndpoints"]
    if endpoints:
        ec2.delete_vpc_endpoints(VpcEndpointIds=[one["VpcEndpointId"] for one in endpoints])
    ec2.delete_security_group(GroupId=group)
    ec2.delete_subnet(SubnetId=subnet)
    ec2.delete_route_table(RouteTableId=table)
    ec2.delete_vpc(VpcId=vpc)


def test_a_vpc_with_dns(ec2: Any, network: Network) -> None:
    vpc = ec2.describe_vpcs(Filters=[{"Name": "tag:name", "Values": ["n"]}])["Vpcs"]
    assert network.vpc in [one["VpcId"] for one in vpc]
    names = {"Attribute": "enableDnsHostnames", "VpcId": network.vpc}
    assert ec2.describe_vpc_attribute(**names)["EnableDnsHostnames"]["Value"] is False
    ec2.modify_vpc_attribute(VpcId=network.vpc, EnableDnsHostnames={"Value": True})
    assert ec2.describe_vpc_attribute(**names)["EnableDnsHostnames"]["Value"] is True


def test_what_is_in_use_stays(ec2: Any, network: Network) -> None:
    assert refused(ec2.delete_vpc, VpcId=network.vpc) == "DependencyViolation"
    endpoint = make_interface_endpoint(ec2, network)
    assert refused(ec2.delete_security_group, GroupId=network.group) == "DependencyViolation"
    assert refused(ec2.delete_subnet, SubnetId=network.subnet) == "DependencyViolation"
    ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint["VpcEndpointId"]])


def test_a_vpc_with_a_group_of_ours_stays(ec2: Any) -> None:
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    group = ec2.create_security_group(GroupName="g", Description="d", VpcId=vpc)["GroupId"]
    assert refused(ec2.delete_vpc, VpcId=vpc) == "DependencyViolation"
    ec2.delete_security_group(GroupId=group)
    ec2.delete_vpc(VpcId=vpc)


def test_the_default_group_of_a_vpc(ec2: Any, network: Network) -> None:
    filters = [{"Name": "vpc-id", "Values": [network.vpc]}, {"Name": "group-name", "Values": ["default"]}]

    def default() -> Any:
        return ec2.describe_security_groups(Filters=filters)["SecurityGroups"][0]

    group = default()
    [rule] = group["IpPermissions"]
    assert (rule["IpProtocol"], [pair["GroupId"] for pair in rule["UserIdGroupPairs"]]) == ("-1", [group["GroupId"]])
    ec2.revoke_security_group_ingress(GroupId=group["GroupId"], IpPermissions=[rule])
    other = ec2.create_vpc(CidrBlock="10.8.0.0/16")["Vpc"]["VpcId"]
    assert default()["IpPermissions"] == []
    ec2.delete_vpc(VpcId=other)


def test_a_referenced_group_stays(ec2: Any, network: Network) -> None:
    other = ec2.create_security_group(GroupName="other", Description="d", VpcId=network.vpc)["GroupId"]
    rule = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "UserIdGroupPairs": [{"GroupId": other}]}
    ec2.authorize_security_group_ingress(GroupId=network.group, IpPermissions=[rule])
    assert refused(ec2.delete_security_group, GroupId=other) == "DependencyViolation"
    ec2.revoke_security_group_ingress(GroupId=network.group, IpPermissions=[rule])
    ec2.delete_security_group(GroupId=other)


def test_rules_of_a_group(ec2: Any, network: Network) -> None:
    lists = ec2.describe_managed_prefix_lists(
        Filters=[{"Name": "prefix-list-name", "Values": [f"com.amazonaws.{REGION}.s3"]}]
    )["PrefixLists"]
    assert len(lists) == 1
    itself = {"GroupId": network.group, "UserId": ACCOUNT}
    https = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443}
    ingress = [{**https, "UserIdGroupPairs": [itself]}]
    egress = [{**https, "PrefixListIds": [{"PrefixListId": lists[0]["PrefixListId"]}]}]
    [before] = ec2.describe_security_groups(GroupIds=[network.group])["SecurityGroups"]
    assert [(rule["IpProtocol"], rule["IpRanges"]) for rule in before["IpPermissionsEgress"]] == [
        ("-1", EVERYWHERE["IpRanges"])
    ]
    ec2.authorize_security_group_ingress(GroupId=network.group, IpPermissions=ingress)
    ec2.authorize_security_group_egress(GroupId=network.group, IpPermissions=egress)
    ec2.revoke_security_group_egress(GroupId=network.group, IpPermissions=[EVERYWHERE])
    [after] = ec2.describe_security_groups(GroupIds=[network.group])["SecurityGroups"]
    assert [rule["UserIdGroupPairs"] for rule in after["IpPermissions"]] == [[itself]]
    assert [rule["PrefixListIds"] for rule in after["IpPermissionsEgress"]] == [egress[0]["PrefixListIds"]]
    again = refused(ec2.authorize_security_group_ingress, GroupId=network.group, IpPermissions=ingress)
    assert again == "InvalidPermission.Duplicate"
    rules = ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [network.group]}])
    assert sorted(rule["IsEgress"] for rule in rules["SecurityGroupRules"]) == [False, True]


def test_routes_and_tables(ec2: Any, network: Network) -> None:
    association = ec2.associate_route_table(RouteTableId=network.table, SubnetId=network.subnet)["AssociationId"]
    assert refused(ec2.delete_route_table, RouteTableId=network.table) == "DependencyViolation"
    [table] = ec2.describe_route_tables(RouteTableIds=[network.table])["RouteTables"]
    assert [one["SubnetId"] for one in table["Associations"]] == [network.subnet]
    ec2.disassociate_route_table(AssociationId=association)


# ---- endpoints


def make_interface_endpoint(ec2: Any, network: Network, **changes: Any) -> Any:
    arguments: dict[str, Any] = {
        "VpcId": network.vpc,
        "VpcEndpointType": "Interface",
        "ServiceName": f"com.amazonaws.{REGION}.logs",
        "SubnetIds": [network.subnet],
        "SecurityGroupIds": [network.group],
        "PrivateDnsEnabled": False,
        **changes,
    }
    return ec2.create_vpc_endpoint(**arguments)["VpcEndpoint"]


def read_endpoint(ec2: Any, endpoint_id: str) -> Any:
    return ec2.describe_vpc_endpoints(VpcEndpointIds=[endpoint_id])["VpcEndpoints"][0]


def test_a_gateway_endpoint(ec2: Any, network: Network) -> None:
    only_models = policy({"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "*"})
    arguments = {
        "VpcId": network.vpc,
        "ServiceName": f"com.amazonaws.{REGION}.s3",
        "RouteTableIds": [network.table],
        "PolicyDocument": only_models,
        "TagSpecifications": tagged("vpc-endpoint", "s3"),
    }
    made = ec2.create_vpc_endpoint(**arguments)["VpcEndpoint"]
    assert (made["VpcEndpointType"], made["PrivateDnsEnabled"]) == ("Gateway", False)
    assert json.loads(made["PolicyDocument"]) == json.loads(only_models)
    assert refused(ec2.create_vpc_endpoint, **arguments) == "RouteAlreadyExists"

    def gateways() -> list[str]:
        [table] = ec2.describe_route_tables(RouteTableIds=[network.table])["RouteTables"]
        return [route["GatewayId"] for route in table["Routes"]]

    assert gateways() == ["local", made["VpcEndpointId"]]
    ec2.modify_vpc_endpoint(VpcEndpointId=made["VpcEndpointId"], RemoveRouteTableIds=[network.table])
    assert gateways() == ["local"]
    ec2.modify_vpc_endpoint(VpcEndpointId=made["VpcEndpointId"], AddRouteTableIds=[network.table], ResetPolicy=True)
    assert gateways() == ["local", made["VpcEndpointId"]]
    assert json.loads(read_endpoint(ec2, made["VpcEndpointId"])["PolicyDocument"])["Statement"][0]["Action"] == "*"
    ec2.delete_vpc_endpoints(VpcEndpointIds=[made["VpcEndpointId"]])
    assert refused(read_endpoint, ec2=ec2, endpoint_id=made["VpcEndpointId"]) == "InvalidVpcEndpointId.NotFound"
    assert gateways() == ["local"]


def test_an_interface_endpoint(ec2: Any, network: Network) -> None:
    second = ec2.create_subnet(VpcId=network.vpc, CidrBlock="10.0.1.0/24", AvailabilityZone=f"{REGION}b")["Subnet"]
    assert refused(lambda: make_interface_endpoint(ec2, network, PrivateDnsEnabled=True)) == "InvalidParameter"
    ec2.modify_vpc_attribute(VpcId=network.vpc, EnableDnsHostnames={"Value": True})
    endpoint = make_interface_endpoint(ec2, network, PrivateDnsEnabled=True)["VpcEndpointId"]
    assert refused(lambda: make_interface_endpoint(ec2, network, PrivateDnsEnabled=True)) == "InvalidParameter"
    ec2.modify_vpc_endpoint(VpcEndpointId=endpoint, AddSubnetIds=[second["SubnetId"]])
    made = read_endpoint(ec2, endpoint)
    assert sorted(made["SubnetIds"]) == sorted([network.subnet, second["SubnetId"]])
    interfaces = ec2.describe_network_interfaces(NetworkInterfaceIds=made["NetworkInterfaceIds"])["NetworkInterfaces"]
    assert {one["SubnetId"] for one in interfaces} == set(made["SubnetIds"])
    assert {group["GroupId"] for one in interfaces for group in one["Groups"]} == {network.group}
    ec2.modify_vpc_endpoint(VpcEndpointId=endpoint, RemoveSubnetIds=[second["SubnetId"]])
    ec2.delete_subnet(SubnetId=second["SubnetId"])


# ---- gateways


def test_a_nat_gateway(ec2: Any, network: Network) -> None:
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=network.vpc)
    address = ec2.allocate_address(Domain="vpc", TagSpecifications=tagged("elastic-ip"))["AllocationId"]
    arguments = {
        "SubnetId": network.subnet,
        "AllocationId": address,
        "ClientToken": uuid.uuid4().hex,
        "TagSpecifications": tagged("natgateway", network.vpc),
    }
    nat = ec2.create_nat_gateway(**arguments)["NatGateway"]["NatGatewayId"]
    assert ec2.create_nat_gateway(**arguments)["NatGateway"]["NatGatewayId"] == nat
    other = {**arguments, "ConnectivityType": "private"}
    assert refused(ec2.create_nat_gateway, **other) == "IdempotentParameterMismatch"
    for name, found in ((network.vpc, [nat]), ("unknown", [])):
        filters = [{"Name": "tag:name", "Values": [name]}]
        assert [one["NatGatewayId"] for one in ec2.describe_nat_gateways(Filters=filters)["NatGateways"]] == found
    assert refused(ec2.release_address, AllocationId=address) == "InvalidIPAddress.InUse"
    detach = {"InternetGatewayId": gateway, "VpcId": network.vpc}
    assert refused(ec2.detach_internet_gateway, **detach) == "DependencyViolation"
    assert refused(ec2.delete_nat_gateway, NatGatewayId="nat-0") == "NatGatewayNotFound"
    ec2.delete_nat_gateway(NatGatewayId=nat)
    ec2.release_address(AllocationId=address)
    ec2.detach_internet_gateway(**detach)
    ec2.delete_internet_gateway(InternetGatewayId=gateway)


# ---- instances


@pytest.fixture
def profile(aws: Aws, make_role: Callable[..., str]) -> str:
    name = f"host-{uuid.uuid4().hex[:8]}"
    make_role(name, "ec2.amazonaws.com")
    aws("iam").create_instance_profile(InstanceProfileName=name)
    aws("iam").add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    return name


def test_an_instance(aws: Aws, ec2: Any, network: Network, profile: str) -> None:
    image = aws("ssm").get_parameter(Name=IMAGE_PARAMETER)["Parameter"]["Value"]
    assert ec2.describe_images(ImageIds=[image])["Images"][0]["Name"].startswith("al2023-ami-2023.")
    arguments = {
        "ImageId": image,
        "InstanceType": "t3.small",
        "MinCount": 1,
        "MaxCount": 1,
        "SubnetId": network.subnet,
        "SecurityGroupIds": [network.group],
        "IamInstanceProfile": {"Name": profile},
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        "UserData": "#!/bin/sh\n",
        "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 30, "Encrypted": True}}],
        "TagSpecifications": tagged("instance", "host"),
        "ClientToken": uuid.uuid4().hex,
    }
    [instance] = ec2.run_instances(**arguments)["Instances"]
    assert ec2.run_instances(**arguments)["Instances"][0]["InstanceId"] == instance["InstanceId"]
    by_id = {"InstanceIds": [instance["InstanceId"]]}
    [running] = ec2.describe_instances(**by_id)["Reservations"][0]["Instances"]
    assert running["State"]["Name"] == "running"
    assert running["IamInstanceProfile"]["Arn"] == f"arn:aws:iam::{ACCOUNT}:instance-profile/{profile}"
    assert running["MetadataOptions"]["HttpTokens"] == "required"
    assert running.get("PublicIpAddress") is None
    assert refused(ec2.delete_subnet, SubnetId=network.subnet) == "DependencyViolation"

    one = {"InstanceId": instance["InstanceId"]}
    bigger = {**one, "InstanceType": {"Value": "t3.large"}}
    assert refused(ec2.modify_instance_attribute, **bigger) == "IncorrectInstanceState"
    ec2.modify_instance_metadata_options(**one, InstanceMetadataTags="enabled")
    [options] = ec2.describe_instances(**by_id)["Reservations"][0]["Instances"]
    assert options["MetadataOptions"]["HttpTokens"] == "required"
    ec2.stop_instances(**by_id)
    ec2.modify_instance_attribute(**bigger)
    ec2.modify_instance_attribute(**one, UserData={"Value": b"#!/bin/bash\n"})
    told = ec2.describe_instance_attribute(**one, Attribute="userData")["UserData"]["Value"]
    assert base64.b64decode(told) == b"#!/bin/bash\n"
    ec2.start_instances(**by_id)
    [changed] = ec2.describe_instances(**by_id)["Reservations"][0]["Instances"]
    assert (changed["InstanceType"], changed["State"]["Name"]) == ("t3.large", "running")
    [volume] = [mapping["Ebs"]["VolumeId"] for mapping in changed["BlockDeviceMappings"]]
    ec2.terminate_instances(**by_id)
    [gone] = ec2.describe_instances(**by_id)["Reservations"][0]["Instances"]
    assert gone["State"]["Name"] == "terminated"
    assert volume not in [one["VolumeId"] for one in ec2.describe_volumes()["Volumes"]]


def test_an_instance_is_in_the_groups_of_its_interface(aws: Aws, ec2: Any, network: Network) -> None:
    image = aws("ssm").get_parameter(Name=IMAGE_PARAMETER)["Parameter"]["Value"]
    interface = {"DeviceIndex": 0, "SubnetId": network.subnet, "Groups": [network.group]}
    arguments = {"ImageId": image, "InstanceType": "t3.small", "MinCount": 1, "MaxCount": 1}
    [made] = ec2.run_instances(**arguments, NetworkInterfaces=[interface])["Instances"]
    by_id = {"InstanceIds": [made["InstanceId"]]}
    [instance] = ec2.describe_instances(**by_id)["Reservations"][0]["Instances"]
    assert [group["GroupId"] for group in instance["SecurityGroups"]] == [network.group]
    ec2.terminate_instances(**by_id)


def test_a_notebook_has_an_interface_in_its_subnet(
    aws: Aws, ec2: Any, network: Network, make_role: Callable[..., str]
) -> None:
    sagemaker, name = aws("sagemaker"), f"guest-{uuid.uuid4().hex[:8]}"
    arguments: dict[str, Any] = {
        "NotebookInstanceName": name,
        "InstanceType": "ml.t3.medium",
        "RoleArn": make_role(name, "sagemaker.amazonaws.com"),
        "SubnetId": network.subnet,
        "SecurityGroupIds": [network.group],
    }
    for change in ({"SubnetId": "subnet-0"}, {"SecurityGroupIds": ["sg-0"]}):
        assert refused(sagemaker.create_notebook_instance, **{**arguments, **change}) == "ValidationException"
    sagemaker.create_notebook_instance(**arguments)
    by_name = {"NotebookInstanceName": name}
    interface = sagemaker.describe_notebook_instance(**by_name)["NetworkInterfaceId"]
    [found] = ec2.describe_network_interfaces(NetworkInterfaceIds=[interface])["NetworkInterfaces"]
    assert (found["SubnetId"], [group["GroupId"] for group in found["Groups"]]) == (network.subnet, [network.group])
    waiting = {"WaiterConfig": {"Delay": 1, "MaxAttempts": 60}}
    sagemaker.get_waiter("notebook_instance_in_service").wait(**by_name, **waiting)
    assert refused(ec2.delete_subnet, SubnetId=network.subnet) == "DependencyViolation"
    assert refused(ec2.delete_security_group, GroupId=network.group) == "DependencyViolation"
    sagemaker.stop_notebook_instance(**by_name)
    sagemaker.get_waiter("notebook_instance_stopped").wait(**by_name, **waiting)
    sagemaker.delete_notebook_instance(**by_name)
    sagemaker.get_waiter("notebook_instance_deleted").wait(**by_name, **waiting)
    gone = refused(ec2.describe_network_interfaces, NetworkInterfaceIds=[interface])
    assert gone == "InvalidNetworkInterfaceID.NotFound"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"ImageId": "ami-0123456789abcdef0"}, "InvalidAMIID.NotFound"),
        ({"IamInstanceProfile": {"Name": "nobody"}}, "InvalidParameterValue"),
        ({"InstanceType": "t9.huge"}, "InvalidParameterValue"),
    ],
    ids=["image", "profile", "type"],
)
def test_an_instance_of_nothing(aws: Aws, ec2: Any, change: dict[str, Any], code: str) -> None:
    image = aws("ssm").get_parameter(Name=IMAGE_PARAMETER)["Parameter"]["Value"]
    arguments = {"ImageId": image, "InstanceType": "t3.small", "MinCount": 1, "MaxCount": 1, **change}
    assert refused(ec2.run_instances, **arguments) == code


# ---- tags


def test_tags_of_a_resource(ec2: Any, network: Network) -> None:
    ec2.create_tags(Resources=[network.subnet], Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    ec2.delete_tags(Resources=[network.subnet], Tags=[{"Key": "a"}])
    [subnet] = ec2.describe_subnets(SubnetIds=[network.subnet])["Subnets"]
    assert subnet["Tags"] == [{"Key": "b", "Value": "2"}]
    unknown = {"Resources": ["subnet-00000000000000000"], "Tags": [{"Key": "a", "Value": "1"}]}
    assert refused(ec2.create_tags, **unknown) == "InvalidID"
