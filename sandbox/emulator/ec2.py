"""EC2: networks, security groups, endpoints and instances. moto keeps the records; here are the rules that it lacks.

AWS refuses to remove what something else still uses, makes each request with a client token once, and gives gateway
endpoints their own defaults. moto does none of it, which would hide wrong orders and duplicates. Instances are records:
nothing runs on them.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import fnmatch
import json
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlencode

from ministack.services import iam, ssm

from sandbox.emulator import answers, moto_bridge
from sandbox.emulator.answers import Answer
from sandbox.settings import ACCOUNT, REGION

Parameters = dict[str, str]

ARN = f"arn:aws:ec2:{REGION}:{ACCOUNT}:"

# The start of an id -> the type of resource in its ARN and in tag specifications.
TYPES = {
    "vpc": "vpc",
    "subnet": "subnet",
    "rtb": "route-table",
    "igw": "internet-gateway",
    "nat": "natgateway",
    "eipalloc": "elastic-ip",
    "vpce": "vpc-endpoint",
    "sg": "security-group",
    "sgr": "security-group-rule",
    "eni": "network-interface",
    "i": "instance",
    "vol": "volume",
    "ami": "image",
    "acl": "network-acl",
    "dopt": "dhcp-options",
    "pl": "prefix-list",
}

# What is emulated; anything else of EC2 answers 501.
_ACTIONS = """
CreateVpc DeleteVpc DescribeVpcs ModifyVpcAttribute DescribeVpcAttribute
CreateSubnet DeleteSubnet DescribeSubnets ModifySubnetAttribute
CreateRouteTable DeleteRouteTable DescribeRouteTables AssociateRouteTable DisassociateRouteTable
ReplaceRouteTableAssociation CreateRoute ReplaceRoute DeleteRoute
CreateInternetGateway DeleteInternetGateway DescribeInternetGateways AttachInternetGateway DetachInternetGateway
CreateNatGateway DeleteNatGateway DescribeNatGateways
AllocateAddress ReleaseAddress DescribeAddresses
CreateVpcEndpoint ModifyVpcEndpoint DeleteVpcEndpoints DescribeVpcEndpoints DescribeVpcEndpointServices
CreateSecurityGroup DeleteSecurityGroup DescribeSecurityGroups DescribeSecurityGroupRules
AuthorizeSecurityGroupIngress AuthorizeSecurityGroupEgress RevokeSecurityGroupIngress RevokeSecurityGroupEgress
UpdateSecurityGroupRuleDescriptionsIngress UpdateSecurityGroupRuleDescriptionsEgress
DescribePrefixLists DescribeManagedPrefixLists
RunInstances DescribeInstances DescribeInstanceStatus DescribeInstanceAttribute ModifyInstanceAttribute
ModifyInstanceMetadataOptions StartInstances StopInstances RebootInstances TerminateInstances
AssociateIamInstanceProfile DisassociateIamInstanceProfile ReplaceIamInstanceProfileAssociation
DescribeIamInstanceProfileAssociations DescribeInstanceTypes DescribeImages DescribeVolumes ModifyVolume
DescribeNetworkInterfaces DescribeNetworkAcls DescribeDhcpOptions
DescribeAvailabilityZones DescribeRegions DescribeAccountAttributes
CreateTags DeleteTags DescribeTags
"""
ACTIONS = frozenset(_ACTIONS.split())

# Attributes that a running instance keeps.
ONLY_WHEN_STOPPED = ("InstanceType", "UserData", "EbsOptimized", "Kernel")
METADATA_OPTIONS = {
    "HttpTokens": "http_tokens",
    "HttpPutResponseHopLimit": "http_put_response_hop_limit",
    "HttpEndpoint": "http_endpoint",
    "HttpProtocolIpv6": "http_protocol_ipv6",
    "InstanceMetadataTags": "instance_metadata_tags",
}
AMI_PARAMETERS = "/aws/service/ami-amazon-linux-latest/"
AMI_NAMES = {
    f"{AMI_PARAMETERS}al2023-ami-kernel-default-x86_64": "al2023-ami-2023.*-kernel-6.1-x86_64",
    f"{AMI_PARAMETERS}al2023-ami-kernel-default-arm64": "al2023-ami-2023.*-kernel-6.1-arm64",
    f"{AMI_PARAMETERS}al2023-ami-minimal-kernel-default-x86_64": "al2023-ami-minimal-2023.*-kernel-6.1-x86_64",
    f"{AMI_PARAMETERS}amzn2-ami-hvm-x86_64-gp2": "amzn2-ami-hvm-2.*-x86_64-gp2",
}


class Refused(Exception):
    """A request that EC2 refuses: error code and message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


# One request at a time: moto's records have no locks.
LOCK = threading.Lock()


class Ec2:
    """The EC2 endpoint."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, str], tuple[Parameters, Answer]] = {}  # by action and client token
        self._before: dict[str, Callable[[Parameters], None]] = {
            "DeleteSecurityGroup": _check_group_is_unused,
            "DeleteSubnet": _check_subnet_is_empty,
            "DeleteVpc": _check_vpc_is_empty,
            "DetachInternetGateway": _check_no_public_address,
            "ReleaseAddress": _check_address_is_free,
            "DeleteNatGateway": _check_nat_exists,
            "CreateVpcEndpoint": _prepare_endpoint,
            "ModifyVpcEndpoint": _remember_endpoint,
            "RunInstances": _prepare_instances,
            "ModifyInstanceAttribute": _prepare_attribute,
            "ModifyInstanceMetadataOptions": _keep_metadata_options,
            "CreateTags": _check_tagged_exist,
        }
        self._after: dict[str, Callable[[Parameters], None]] = {
            "CreateVpc": _open_default_groups,
            "RunInstances": _show_groups,
            "CreateVpcEndpoint": _shape_endpoints,
            "ModifyVpcEndpoint": _shape_endpoints,
            "DeleteVpcEndpoints": _forget_endpoints,
            "DeleteNatGateway": _free_nat_address,
            "TerminateInstances": _remove_interfaces,
            "ReplaceIamInstanceProfileAssociation": _show_profile,
        }

    async def handle(
        self, method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, list[str]]
    ) -> Answer:
        parameters = {name: values[0] for name, values in query.items()}
        parameters.update(_form(body))
        return await asyncio.to_thread(self._answer, path, headers, parameters)

    def _answer(self, path: str, headers: dict[str, str], parameters: Parameters) -> Answer:
        action, token = parameters["Action"], parameters.get("ClientToken", "")
        with LOCK:
            _join_iam()
            try:
                if token and (action, token) in self._answers:
                    asked, answer = self._answers[action, token]
                    if asked != parameters:
                        raise Refused(
                            "IdempotentParameterMismatch", f"ClientToken {token}: other arguments than before"
                        )
                    return answer
                asked = dict(parameters)
                self._before.get(action, lambda _: None)(parameters)
            except Refused as error:
                return answers.error("ec2", headers, error.code, str(error), 400)
            answer = moto_bridge.call("ec2", "POST", path, headers, urlencode(parameters).encode(), {})
            if answer[0] == 200:
                self._after.get(action, lambda _: None)(parameters)
                if token:
                    self._answers[action, token] = asked, answer
            return answer


def used() -> bool:
    """Whether anybody asked for EC2 yet: its records cost a second and 120 MB to load."""
    return "moto.ec2.models" in sys.modules


def install() -> None:
    """SSM's public parameters name an image that EC2 has."""
    public_parameter = ssm._public_parameter

    def with_known_images(name: str) -> Any:
        if not str(name).startswith(AMI_PARAMETERS):
            return public_parameter(name)
        pattern = AMI_NAMES.get(name)
        images = [image for image in _backend().amis.values() if pattern and fnmatch.fnmatch(image.name, pattern)]
        if not images:
            return None
        ssm._PUBLIC_AMI_PARAMETERS[name] = max(images, key=lambda image: image.name).id
        return public_parameter(name)

    ssm._public_parameter = with_known_images


def owner_of_image(image_id: str) -> str:
    """As policies name it: ``amazon``, or an account."""
    image = _backend().amis.get(image_id)
    return str(image.owner_alias or image.owner_id) if image else ""


def arn(resource_id: str) -> str:
    """The ARN of a resource, by its id."""
    return f"{ARN}{TYPES.get(resource_id.rpartition('-')[0], '*')}/{resource_id}"


def associated(association_id: str) -> list[str]:
    """The ids of what an association joins; none where it does not exist."""
    if not used():
        return []
    for profile in _backend().iam_instance_profile_associations.values():
        if profile.association_id == association_id:
            return [profile.instance_id]
    for table in _backend().route_tables.values():
        if association_id in table._associations:
            return [table.id, table._associations[association_id]]
    return []


def tagged() -> Iterator[tuple[str, dict[str, str]]]:
    """Every resource that has tags: its ARN and the tags."""
    if not used():
        return
    deleted = {gateway.id for gateway in _backend().nat_gateways.values() if gateway.state == "deleted"}
    for resource_id, tags in list(_backend().tags.items()):
        known = resource_id.rpartition("-")[0] in TYPES and resource_id not in deleted
        if tags and known and _exists(resource_id):  # moto keeps those of the gone
            yield arn(resource_id), dict(tags)


def set_tags(resource_id: str, tags: dict[str, str]) -> bool:
    """Add tags to a resource; False where there is none of that id."""
    if not used() or not _exists(resource_id):
        return False
    _backend().create_tags([resource_id], tags)
    return True


def remove_tags(resource_id: str, keys: list[str]) -> bool:
    """Remove tags of a resource; False where there is none of that id."""
    if not used() or not _exists(resource_id):
        return False
    _backend().delete_tag_keys([resource_id], keys)
    return True


def _backend() -> Any:
    return moto_bridge.backend("ec2")


def _form(body: bytes) -> Parameters:
    return {name: values[0] for name, values in parse_qs(body.decode(), keep_blank_values=True).items()}


def _members(parameters: Parameters, prefix: str) -> list[str]:
    """The values of ``Prefix.1``, ``Prefix.2``, ..."""
    return [value for name, value in parameters.items() if name.rpartition(".")[0] == prefix]


# ---- IAM is ministack's


class _Profile:
    """An instance profile as moto's EC2 reads it."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.name = record["InstanceProfileName"]
        self.arn = record["Arn"]
        self.id = record["InstanceProfileId"]


def _join_iam() -> None:
    """Let moto's EC2 look instance profiles up in ministack's IAM, and filter what it does not."""
    from moto.ec2.models import iam_instance_profile, nat_gateways  # noqa: PLC0415 (loads EC2, 120 MB)
    from moto.ec2.responses import instances  # noqa: PLC0415
    from moto.ec2.utils import generic_filter  # noqa: PLC0415

    if iam_instance_profile.filter_iam_instance_profiles is _find_profile:
        return
    iam_instance_profile.filter_iam_instance_profiles = _find_profile
    instances.filter_iam_instance_profiles = _find_profile
    describe = nat_gateways.NatGatewayBackend.describe_nat_gateways

    def describe_with_tags(backend: Any, filters: Any, nat_gateway_ids: Any) -> Any:
        tag_filters = {name: value for name, value in (filters or {}).items() if name.startswith("tag")}
        return generic_filter(tag_filters, describe(backend, filters, nat_gateway_ids))

    nat_gateways.NatGatewayBackend.describe_nat_gateways = describe_with_tags
    _open_default_groups({})  # also of the VPC that every account has


def _find_profile(
    account_id: str,
    partition: str,
    iam_instance_profile_arn: str | None,
    iam_instance_profile_name: str | None,
) -> _Profile | None:
    name = iam_instance_profile_name or str(iam_instance_profile_arn).rpartition("/")[2]
    record = iam._instance_profiles.get_scoped(account_id, None, name)
    return _Profile(record) if record else None


def instance_profile_roles(parameters: Parameters) -> list[str]:
    """The ARNs of the roles in the instance profile that a request names."""
    named = parameters.get("IamInstanceProfile.Name"), parameters.get("IamInstanceProfile.Arn")
    name = named[0] or str(named[1] or "").rpartition("/")[2]
    record = iam._instance_profiles.get_scoped(ACCOUNT, None, name) if name else None
    roles = [iam._roles.get_scoped(ACCOUNT, None, role) for role in (record or {}).get("Roles", [])]
    return [role["Arn"] for role in roles if role]


# ---- what is still in use


def _check_group_is_unused(parameters: Parameters) -> None:
    group_id = parameters.get("GroupId", "")
    interfaces = [one for one in _backend().enis.values() if group_id in {group.id for group in one.group_set}]
    endpoints = [one for one in _backend().vpc_end_points.values() if group_id in one.security_group_ids]
    others = [
        group
        for groups in _backend().groups.values()
        for group in groups.values()
        for rule in (*group.ingress_rules, *group.egress_rules)
        if group.id != group_id and (rule.source_group or {}).get("GroupId") == group_id
    ]
    if interfaces or endpoints or others:
        raise Refused("DependencyViolation", f"resource {group_id} has a dependent object")


def _check_subnet_is_empty(parameters: Parameters) -> None:
    subnet_id = parameters.get("SubnetId", "")
    if any(interface.subnet.id == subnet_id for interface in _backend().enis.values()):
        message = f"The subnet '{subnet_id}' has dependencies and cannot be deleted."
        raise Refused("DependencyViolation", message)


def _check_vpc_is_empty(parameters: Parameters) -> None:
    vpc_id, backend = parameters.get("VpcId", ""), _backend()
    groups = [group for group in backend.groups.get(vpc_id, {}).values() if group.name != "default"]
    gateways = [gateway for gateway in backend.internet_gateways.values() if gateway.vpc and gateway.vpc.id == vpc_id]
    endpoints = [endpoint for endpoint in backend.vpc_end_points.values() if endpoint.vpc_id == vpc_id]
    if groups or gateways or endpoints:
        raise Refused("DependencyViolation", f"The vpc '{vpc_id}' has dependencies and cannot be deleted.")


def _check_no_public_address(parameters: Parameters) -> None:
    vpc_id = parameters.get("VpcId", "")
    if any(address.eni and address.eni.subnet.vpc_id == vpc_id for address in _backend().addresses):
        message = (
            f"Network {vpc_id} has some mapped public address(es). Please unmap those before detaching the gateway."
        )
        raise Refused("DependencyViolation", message)


def _check_address_is_free(parameters: Parameters) -> None:
    allocation_id = parameters.get("AllocationId")
    for address in _backend().addresses:
        if address.allocation_id == allocation_id and address.association_id:
            raise Refused("InvalidIPAddress.InUse", f"Address {address.public_ip} is in use.")


def _check_nat_exists(parameters: Parameters) -> None:
    gateway_id = parameters.get("NatGatewayId", "")
    if gateway_id not in _backend().nat_gateways:
        raise Refused("NatGatewayNotFound", f"NatGateway {gateway_id} was not found")


def _free_nat_address(parameters: Parameters) -> None:
    gateway = _backend().nat_gateways[parameters["NatGatewayId"]]
    for address in _backend().addresses:
        if address.eni is gateway._eni:
            _backend().disassociate_address(association_id=address.association_id)
    _backend().enis.pop(gateway._eni.id, None)


def _open_default_groups(parameters: Parameters) -> None:
    """In a new VPC's default group everything of the group reaches everything else of it."""
    backend = _backend()
    for vpc_id, groups in backend.groups.items():
        for group in groups.values():
            if group.is_default and vpc_id not in _opened:
                _opened.add(vpc_id)
                itself = [{"GroupId": group.id}]
                backend.authorize_security_group_ingress(group.id, "-1", None, None, [], source_groups=itself)


# The VPCs whose default group has its first rule: whoever takes it away does not get it back.
_opened: set[str] = set()


# ---- endpoints


def _is_interface(parameters: Parameters) -> bool:
    return parameters["VpcEndpointType"] == "Interface"


def _prepare_endpoint(parameters: Parameters) -> None:
    parameters.setdefault("VpcEndpointType", "Gateway")
    parameters.setdefault("PrivateDnsEnabled", "true" if _is_interface(parameters) else "false")
    vpc_id, service = parameters.get("VpcId", ""), parameters.get("ServiceName", "")
    present = [one for one in _backend().vpc_end_points.values() if (one.vpc_id, one.service_name) == (vpc_id, service)]
    if not _is_interface(parameters):
        for table_id in _members(parameters, "RouteTableId"):
            _check_route_is_free(table_id, present)
        return
    if parameters["PrivateDnsEnabled"] != "true":
        return
    vpc = _backend().get_vpc(vpc_id) if vpc_id in _backend().vpcs else None
    if vpc and "false" in {str(vpc.enable_dns_support).lower(), str(vpc.enable_dns_hostnames).lower()}:
        message = (
            "Enabling private DNS requires both enableDnsSupport and enableDnsHostnames VPC attributes set to true for "
            f"{vpc_id}"
        )
        raise Refused("InvalidParameter", message)
    if any(endpoint.private_dns_enabled for endpoint in present):
        message = f"private-dns-enabled cannot be set because there is already a conflicting DNS domain for {service}"
        raise Refused("InvalidParameter", message)


def _check_route_is_free(table_id: str, endpoints: list[Any]) -> None:
    for endpoint in endpoints:
        if table_id in endpoint.route_table_ids:
            message = (
                f"route table {table_id} already has a route with destination-prefix-list-id "
                f"{endpoint.destination_prefix_list_id}"
            )
            raise Refused("RouteAlreadyExists", message)


def _remember_endpoint(parameters: Parameters) -> None:
    """Routes follow the route tables of a gateway endpoint."""
    endpoint = _backend().vpc_end_points.get(parameters.get("VpcEndpointId"))
    if endpoint is None:
        return
    others = [one for one in _backend().vpc_end_points.values() if one.service_name == endpoint.service_name]
    for table_id in _members(parameters, "AddRouteTableId"):
        _check_route_is_free(table_id, others)
    if parameters.get("ResetPolicy") == "true":
        endpoint.policy_document = ""
    if "PrivateDnsEnabled" in parameters:
        endpoint.private_dns_enabled = parameters["PrivateDnsEnabled"] == "true"
    if endpoint.destination_prefix_list_id:
        for table_id in _members(parameters, "AddRouteTableId"):
            _backend().create_route(
                table_id,
                None,
                gateway_id=endpoint.id,
                destination_prefix_list_id=endpoint.destination_prefix_list_id,
            )
        for table_id in set(_members(parameters, "RemoveRouteTableId")) & set(endpoint.route_table_ids):
            _backend().delete_route(table_id, endpoint.destination_prefix_list_id)


def _shape_endpoints(parameters: Parameters) -> None:
    """An interface endpoint has a network interface in each of its subnets, in its security groups."""
    backend = _backend()
    for endpoint in backend.vpc_end_points.values():
        if not endpoint.policy_document:
            endpoint.policy_document = json.dumps(endpoint.DEFAULT_POLICY)
        if endpoint.vpc_endpoint_type != "Interface":
            continue
        if not endpoint.security_group_ids:
            endpoint.security_group_ids = [backend.get_security_group_from_name("default", endpoint.vpc_id).id]
        groups = [backend.get_security_group_from_id(group_id) for group_id in endpoint.security_group_ids]
        interfaces = {backend.enis[one].subnet.id: backend.enis[one] for one in endpoint.network_interface_ids}
        for subnet_id in interfaces.keys() - set(endpoint.subnet_ids):
            backend.enis.pop(interfaces.pop(subnet_id).id)
        for subnet_id in set(endpoint.subnet_ids) - interfaces.keys():
            subnet = backend.get_subnet(subnet_id)
            interfaces[subnet_id] = backend.create_network_interface(subnet, subnet.get_available_subnet_ip(endpoint))
        for interface in interfaces.values():
            interface._group_set = groups
        endpoint.network_interface_ids = [interfaces[subnet_id].id for subnet_id in endpoint.subnet_ids]


def _forget_endpoints(parameters: Parameters) -> None:
    for endpoint_id in _members(parameters, "VpcEndpointId"):
        _backend().vpc_end_points.pop(endpoint_id, None)
        _backend().tags.pop(endpoint_id, None)


# ---- instances


def _prepare_instances(parameters: Parameters) -> None:
    from moto.ec2.models.instance_types import INSTANCE_TYPES  # noqa: PLC0415 (loads EC2, 120 MB)

    if parameters.get("InstanceType", "m1.small") not in INSTANCE_TYPES:
        raise Refused("InvalidParameterValue", f"Invalid value '{parameters['InstanceType']}' for InstanceType.")
    if parameters.get("ImageId") not in _backend().amis:
        message = f"The image id '[{parameters.get('ImageId')}]' does not exist"
        raise Refused("InvalidAMIID.NotFound", message)
    if any(name.startswith("IamInstanceProfile.") for name in parameters):
        profile = _find_profile(
            ACCOUNT, "aws", parameters.get("IamInstanceProfile.Arn"), parameters.get("IamInstanceProfile.Name")
        )
        if profile is None:
            named = parameters.get("IamInstanceProfile.Name") or parameters.get("IamInstanceProfile.Arn")
            message = (
                f"Value ({named}) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name"
            )
            raise Refused("InvalidParameterValue", message)
    devices = {".".join(name.split(".")[:2]) for name in parameters if name.startswith("BlockDeviceMapping.")}
    for device in devices:  # a volume made with its instance goes with it, unless the request says otherwise
        parameters.setdefault(f"{device}.Ebs.DeleteOnTermination", "true")


def _show_groups(parameters: Parameters) -> None:
    """An instance is in the groups of its first interface, also where the request named them for that one."""
    for instance in _backend().all_instances():
        if not instance.security_groups and 0 in instance.nics:
            instance.security_groups = list(instance.nics[0]._group_set)


def _prepare_attribute(parameters: Parameters) -> None:
    instance = _backend().get_instance_by_id(parameters.get("InstanceId", ""))
    changed = [name for name in ONLY_WHEN_STOPPED if f"{name}.Value" in parameters]
    if instance and changed and instance.state != "stopped":
        raise Refused("IncorrectInstanceState", f"The instance '{instance.id}' is not in the 'stopped' state.")
    if "UserData.Value" in parameters:  # moto decodes it, and then expects it encoded
        try:
            data = base64.b64decode(parameters["UserData.Value"], validate=True)
        except binascii.Error:
            raise Refused("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data.") from None
        parameters["UserData.Value"] = base64.b64encode(base64.b64encode(data)).decode()


def _keep_metadata_options(parameters: Parameters) -> None:
    """Options that the request leaves out stay; moto drops them."""
    instance = _backend().get_instance_by_id(parameters.get("InstanceId", ""))
    for name, attribute in METADATA_OPTIONS.items() if instance else ():
        value = getattr(instance.metadata_options, attribute, None)
        if value is not None:
            parameters.setdefault(name, str(value))


def _show_profile(parameters: Parameters) -> None:
    """The instance shows its new profile; moto notes it at the association only."""
    for instance_id, association in _backend().iam_instance_profile_associations.items():
        if association.association_id == parameters["AssociationId"]:
            profile = {"Arn": association.iam_instance_profile.arn, "Id": association.association_id}
            _backend().modify_instance_attribute(instance_id, "iam_instance_profile", profile)


def _remove_interfaces(parameters: Parameters) -> None:
    """The first interface of an instance goes with it."""
    instance_ids = set(_members(parameters, "InstanceId"))
    for interface in list(_backend().enis.values()):
        if interface.instance and interface.instance.id in instance_ids and interface.device_index == 0:
            _backend().enis.pop(interface.id)


# ---- tags


def _exists(resource_id: str) -> bool:
    backend = _backend()
    records: dict[str, Callable[[], Any]] = {
        "vpc": lambda: backend.vpcs,
        "subnet": lambda: {key for zone in backend.subnets.values() for key in zone},
        "rtb": lambda: backend.route_tables,
        "igw": lambda: backend.internet_gateways,
        "nat": lambda: backend.nat_gateways,
        "eipalloc": lambda: {address.allocation_id for address in backend.addresses},
        "vpce": lambda: backend.vpc_end_points,
        "sg": lambda: {key for groups in backend.groups.values() for key in groups},
        "eni": lambda: backend.enis,
        "i": lambda: {instance.id for instance in backend.all_instances() if instance.state != "terminated"},
        "vol": lambda: backend.volumes,
    }
    known = records.get(resource_id.rpartition("-")[0])
    return known is None or resource_id in known()


def _check_tagged_exist(parameters: Parameters) -> None:
    for resource_id in _members(parameters, "ResourceId"):
        if not _exists(resource_id):
            raise Refused("InvalidID", f"The ID '{resource_id}' is not valid")
