"""What a request is authorised on: the actions and ARNs that AWS's service authorisation reference names.

ministack derives one ARN a request, for many operations a wrong one or none, and takes Lambda's operations for one
another. A policy that is scoped to a name must match here exactly when it does in AWS; where AWS knows no narrower
resource than ``*``, ``*`` is needed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import unquote

from ministack.core import iam_actions
from ministack.services import cloudwatch, iam, kms

from sandbox.emulator import ec2
from sandbox.settings import ACCOUNT, REGION

EVERYTHING = "*"
LOCAL = f"{REGION}:{ACCOUNT}"


@dataclass(frozen=True)
class Check:
    """One thing that the caller must be allowed to do. ``creates``: the request's tags are those of this resource."""

    action: str
    arn: str
    creates: bool = False
    context: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """A request as far as its authorisation depends on it. ``parameters``: query and form, the first value of each."""

    service: str
    operation: str
    path: str
    body: bytes
    parameters: Mapping[str, str]

    @cached_property
    def document(self) -> dict[str, Any]:
        """The body of a JSON request; empty for others."""
        try:
            document = json.loads(self.body) if self.body[:1] == b"{" else {}
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}

    def get(self, *names: str) -> str:
        """The first of these members that the request has, as JSON or as a parameter."""
        for name in names:
            value = self.document.get(name, self.parameters.get(name))
            if isinstance(value, str) and value:
                return value
        return ""

    def listed(self, name: str) -> list[str]:
        """A list, in JSON or as ``Name.member.1`` or ``Name.1``."""
        values = self.document.get(name)
        if isinstance(values, list):
            return [str(value) for value in values]
        pattern = re.compile(rf"{re.escape(name)}(\.member)?\.\d+")
        return [value for key, value in self.parameters.items() if pattern.fullmatch(key)]

    @property
    def has_tags(self) -> bool:
        tags = self.document.get("Tags") or self.document.get("tags")
        return bool(tags) or any(re.match(r"Tags?(\.member)?\.\d+\.Key", name) for name in self.parameters)


def checks(request: Request) -> list[Check] | None:
    """Everything the caller must be allowed to do; None where ministack's own derivation is right."""
    find = FINDERS.get(request.service)
    found = find(request) if find else None
    return None if found is None else list(found)


def one(request: Request, arn: str, *, tag_action: str = "") -> Iterator[Check]:
    """The operation itself on one resource; with tags in the request, also the action that sets them."""
    namespace = iam_actions.SERVICE_TO_IAM_NAMESPACE[request.service]
    yield Check(f"{namespace}:{request.operation}", arn, creates=True)
    if tag_action and request.has_tags:
        yield Check(f"{namespace}:{tag_action}", arn, creates=True)


def each(request: Request, arns: list[str]) -> Iterator[Check]:
    for arn in arns or [EVERYTHING]:
        yield from one(request, arn)


# ---- Lambda


def function_arn(reference: str) -> str:
    """The ARN of a function named by name, partial ARN or ARN."""
    reference = unquote(reference)
    if reference.startswith("arn:"):
        return reference
    name = reference.split(":function:")[-1]
    return f"arn:aws:lambda:{LOCAL}:function:{name}"


def lambda_checks(request: Request) -> Iterator[Check]:
    parts = [unquote(part) for part in request.path.split("/") if part]
    kind = parts[1] if len(parts) > 1 else ""
    if kind == "tags":
        yield from one(request, "/".join(parts[2:]) or EVERYTHING)
    elif request.operation == "CreateFunction":
        yield from one(request, function_arn(request.get("FunctionName")), tag_action="TagResource")
    elif kind == "functions" and len(parts) > 2:
        arn = function_arn(parts[2])
        qualifier = request.parameters.get("Qualifier")
        if qualifier and request.operation == "InvokeFunction" and not arn.endswith(f":{qualifier}"):
            arn = f"{arn}:{qualifier}"
        yield from one(request, arn)
    elif kind == "layers" and len(parts) > 2:
        yield from one(request, ":".join([f"arn:aws:lambda:{LOCAL}:layer", parts[2], *parts[4:5]]))
    elif request.parameters.get("find") == "LayerVersion":
        yield from one(request, request.parameters.get("Arn", EVERYTHING))
    else:
        yield from one(request, EVERYTHING)
    for layer in request.document.get("Layers") or []:
        yield Check("lambda:GetLayerVersion", str(layer))


# ---- EventBridge


def rule_arn(name: str, bus: str) -> str:
    bus = bus.rpartition("event-bus/")[2] if bus.startswith("arn:") else bus
    return f"arn:aws:events:{LOCAL}:rule/{name if bus in ('', 'default') else f'{bus}/{name}'}"


BUS_OPERATIONS = ("CreateEventBus", "DeleteEventBus", "DescribeEventBus", "PutPermission", "RemovePermission")


def events_checks(request: Request) -> Iterator[Check] | None:
    bus = request.get("EventBusName") or "default"
    if request.operation == "PutEvents":
        return None
    if request.operation in BUS_OPERATIONS:
        name = request.get("Name", "EventBusName") or "default"
        return one(request, name if name.startswith("arn:") else f"arn:aws:events:{LOCAL}:event-bus/{name}")
    if arn := request.get("ResourceARN"):
        return one(request, arn)
    name = request.get("Rule") or ("" if request.operation.startswith("List") else request.get("Name"))
    return one(request, rule_arn(name, bus) if name else EVERYTHING, tag_action="TagResource")


# ---- EventBridge Scheduler


def scheduler_checks(request: Request) -> Iterator[Check]:
    """Schedules are named with their group, which is in the body or, to read and delete, a parameter."""
    kind, _, name = unquote(request.path).strip("/").partition("/")
    if kind == "tags":
        yield from one(request, name)
    elif kind == "schedule-groups" and name:
        arn = f"arn:aws:scheduler:{LOCAL}:schedule-group/{name}"
        yield from one(request, arn)
        if request.operation == "CreateScheduleGroup" and request.has_tags:
            yield Check("scheduler:TagResource", arn, creates=True)
        if request.operation == "DeleteScheduleGroup":
            yield Check("scheduler:DeleteSchedule", f"arn:aws:scheduler:{LOCAL}:schedule/{name}/*")
    elif kind == "schedules" and name:
        group = request.get("GroupName", "groupName") or "default"
        yield from one(request, f"arn:aws:scheduler:{LOCAL}:schedule/{group}/{name}")
    else:
        yield from one(request, EVERYTHING)


# ---- Logs


def log_group_arn(group: str, stream: str = "") -> str:
    """As AWS evaluates it: a policy needs ``log-group:NAME:*``, except for tags."""
    return f"arn:aws:logs:{LOCAL}:log-group:{group}:log-stream:{stream}"


def logs_checks(request: Request) -> Iterator[Check]:
    if arn := request.get("resourceArn"):
        yield from one(request, arn)
        return
    if request.operation == "DescribeLogGroups":
        yield from one(request, log_group_arn(""))
        return
    groups = [request.get("logGroupName", "logGroupIdentifier")]
    groups = (
        request.listed("logGroupNames") or request.listed("logGroupIdentifiers") or [name for name in groups if name]
    )
    stream = request.get("logStreamName")
    names = [name.partition(":log-group:")[2] or name for name in groups]
    yield from each(request, [log_group_arn(name.removesuffix(":*"), stream) for name in names])
    if request.operation == "CreateLogGroup" and request.has_tags:
        yield Check("logs:TagResource", f"arn:aws:logs:{LOCAL}:log-group:{names[0]}", creates=True)


# ---- CloudWatch

ALARM_OPERATIONS = ("PutMetricAlarm", "SetAlarmState", "EnableAlarmActions", "DisableAlarmActions", "DeleteAlarms")


def alarm_arn(name: str) -> str:
    return f"arn:aws:cloudwatch:{LOCAL}:alarm:{name}"


def dashboard_arn(name: str) -> str:
    return f"arn:aws:cloudwatch::{ACCOUNT}:dashboard/{name}"


def cloudwatch_checks(request: Request) -> Iterator[Check]:
    """Whoever writes, deletes or lists composite alarms needs it on ``*``, says their reference."""
    names = [request.get("AlarmName")] if request.get("AlarmName") else request.listed("AlarmNames")
    if arn := request.get("ResourceARN"):
        yield from one(request, arn)
    elif request.operation == "PutCompositeAlarm":
        yield from one(request, EVERYTHING)
        if request.has_tags:
            yield Check("cloudwatch:TagResource", alarm_arn(names[0]), creates=True)
    elif request.operation == "DeleteAlarms" and any(name in cloudwatch._composite_alarms for name in names):
        yield from one(request, EVERYTHING)
    elif request.operation in ALARM_OPERATIONS:
        for name in names:
            yield from one(request, alarm_arn(name), tag_action="TagResource")
    elif request.operation == "DescribeAlarms":
        composite = "CompositeAlarm" in request.listed("AlarmTypes")
        yield from one(request, EVERYTHING if composite else alarm_arn("*"))
    elif request.operation == "DescribeAlarmHistory":
        yield from one(request, alarm_arn(names[0] if names else "*"))
    elif dashboards := request.listed("DashboardNames") or [request.get("DashboardName")]:
        named = [dashboard_arn(name) for name in dashboards if name]
        yield from each(request, named)


# ---- SNS, SQS, DynamoDB, SSM


def sns_checks(request: Request) -> Iterator[Check]:
    if request.operation in ("GetSubscriptionAttributes", "SetSubscriptionAttributes", "Unsubscribe", "ListTopics"):
        return one(request, EVERYTHING)
    arn = request.get("TopicArn", "TargetArn", "ResourceArn")
    if not arn and request.get("Name"):
        arn = f"arn:aws:sns:{LOCAL}:{request.get('Name')}"
    return one(request, arn or EVERYTHING, tag_action="TagResource")


def sqs_checks(request: Request) -> Iterator[Check] | None:
    if request.operation != "CreateQueue":
        return None
    tags = Check("sqs:TagQueue", f"arn:aws:sqs:{LOCAL}:{request.get('QueueName')}", creates=True)
    own = Check("sqs:CreateQueue", tags.arn, creates=True)
    return iter([own, tags] if request.has_tags else [own])


def dynamodb_checks(request: Request) -> Iterator[Check] | None:
    if arn := request.get("ResourceArn"):
        return one(request, arn)
    if request.operation == "CreateTable":
        return one(request, f"arn:aws:dynamodb:{LOCAL}:table/{request.get('TableName')}", tag_action="TagResource")
    return None


def parameter_arn(name: str) -> str:
    """Public parameters belong to no account."""
    owner = f"{REGION}:" if name.startswith("/aws/service/") else LOCAL
    return name if name.startswith("arn:") else f"arn:aws:ssm:{owner}:parameter/{name.lstrip('/')}"


def ssm_checks(request: Request) -> Iterator[Check] | None:
    if request.operation in ("GetParameter", "DeleteParameter", "GetParameterHistory"):
        return one(request, parameter_arn(request.get("Name")))
    if request.operation == "PutParameter":
        return one(request, parameter_arn(request.get("Name")), tag_action="AddTagsToResource")
    if request.operation == "GetParametersByPath":
        return one(request, parameter_arn(request.get("Path")))
    if names := request.listed("Names"):
        return each(request, [parameter_arn(name) for name in names])
    return None


# ---- KMS


def key_arn(reference: str) -> str:
    """An alias stands for its key: policies name keys."""
    key = kms._resolve_key(reference)
    if key is not None:
        return str(key["Arn"])
    return reference if reference.startswith("arn:") else f"arn:aws:kms:{LOCAL}:key/{reference}"


def kms_checks(request: Request) -> Iterator[Check] | None:
    if request.operation in ("CreateKey", "ListKeys", "ListAliases", "GenerateRandom"):
        tagged = [Check("kms:TagResource", key_arn("*"), creates=True)] if request.has_tags else []
        return iter([*one(request, EVERYTHING), *tagged])
    if alias := request.get("AliasName"):
        target = request.get("TargetKeyId") or alias
        return each(request, [key_arn(target), f"arn:aws:kms:{LOCAL}:{alias}"])
    if key := request.get("KeyId"):
        return one(request, key_arn(key))
    return None


# ---- IAM


def iam_arn(kind: str, name: str, path: str = "/") -> str:
    """The ARN of something in IAM: its path is part of it, and comes from the record where it exists."""
    stores = {"role": iam._roles, "user": iam._users, "group": iam._groups, "instance-profile": iam._instance_profiles}
    record = stores[kind].get(name) if kind in stores else None
    return str((record or {}).get("Arn") or f"arn:aws:iam::{ACCOUNT}:{kind}{path}{name}")


IAM_TAG_ACTIONS = {
    "CreateRole": "TagRole",
    "CreateUser": "TagUser",
    "CreatePolicy": "TagPolicy",
    "CreateInstanceProfile": "TagInstanceProfile",
    "CreateOpenIDConnectProvider": "TagOpenIDConnectProvider",
}


def iam_checks(request: Request) -> Iterator[Check]:
    path, kinds = request.get("Path") or "/", {}
    kinds = {
        "InstanceProfileName": "instance-profile",
        "RoleName": "role",
        "GroupName": "group",
        "UserName": "user",
    }
    named = [(kind, request.get(field)) for field, kind in kinds.items() if request.get(field)]
    if named:
        arn = iam_arn(*named[0], path)
    elif request.operation == "CreatePolicy":
        arn = iam_arn("policy", request.get("PolicyName"), path)
    elif request.operation == "CreateOpenIDConnectProvider":
        arn = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{request.get('Url').removeprefix('https://')}"
    else:
        arn = request.get("PolicyArn", "OpenIDConnectProviderArn", "PolicySourceArn") or EVERYTHING
    return one(request, arn, tag_action=IAM_TAG_ACTIONS.get(request.operation, ""))


# ---- EC2

# What an operation makes, and what it makes it in or of. ``+`` are lists.
EC2_CREATES = {
    "CreateVpc": ("vpc", ()),
    "CreateSubnet": ("subnet", ("VpcId",)),
    "CreateRouteTable": ("route-table", ("VpcId",)),
    "CreateInternetGateway": ("internet-gateway", ()),
    "CreateNatGateway": ("natgateway", ("SubnetId", "AllocationId")),
    "AllocateAddress": ("elastic-ip", ()),
    "CreateVpcEndpoint": ("vpc-endpoint", ("VpcId", "RouteTableId", "SubnetId", "SecurityGroupId")),
    "CreateSecurityGroup": ("security-group", ("VpcId",)),
    "RunInstances": ("instance", ("SubnetId", "SecurityGroupId")),
}
EC2_READS_OF_ONE = ("DescribeInstanceAttribute", "DescribeVpcAttribute")
SPECIFIED_KIND = re.compile(r"TagSpecification\.(\d+)\.ResourceType")
EC2_MEMBERS = (
    "VpcId",
    "SubnetId",
    "RouteTableId",
    "InternetGatewayId",
    "NatGatewayId",
    "AllocationId",
    "VpcEndpointId",
    "GroupId",
    "InstanceId",
    "AddRouteTableId",
    "RemoveRouteTableId",
    "AddSubnetId",
    "RemoveSubnetId",
    "AddSecurityGroupId",
    "RemoveSecurityGroupId",
)


def ec2_checks(request: Request) -> Iterator[Check]:
    action = f"ec2:{request.operation}"
    if request.operation.startswith("Describe") and request.operation not in EC2_READS_OF_ONE:
        yield Check(action, EVERYTHING)
        return
    if request.operation in ("CreateTags", "DeleteTags"):
        for resource_id in request.listed("ResourceId"):
            yield Check(action, ec2.arn(resource_id), creates=True)
        return
    made, used = EC2_CREATES.get(request.operation, ("", EC2_MEMBERS))
    if made:
        yield Check(action, f"{ec2.ARN}{made}/*", creates=True)
    if request.operation == "RunInstances":
        image = request.get("ImageId")
        yield Check(action, f"arn:aws:ec2:{REGION}::image/{image}", context={"ec2:Owner": ec2.owner_of_image(image)})
        for kind in ("network-interface", "volume"):
            yield Check(action, f"{ec2.ARN}{kind}/*", context=specified_tags(request, kind))
    ids = [value for name in used for value in (request.get(name), *request.listed(name)) if value]
    if association := request.get("AssociationId"):
        ids += ec2.associated(association)
    for resource_id in ids:
        yield Check(action, ec2.arn(resource_id))
    if not made and not ids:
        yield Check(action, EVERYTHING)
    for name, kind in request.parameters.items():
        if SPECIFIED_KIND.fullmatch(name):
            context = {"ec2:CreateAction": request.operation, **specified_tags(request, kind)}
            yield Check("ec2:CreateTags", f"{ec2.ARN}{kind}/*", context=context)


def specified_tags(request: Request, kind: str) -> dict[str, Any]:
    """The tags, as condition keys, that a request gives to what it makes of one kind: each kind has a specification."""
    tags = {}
    for name, specified in request.parameters.items():
        match = SPECIFIED_KIND.fullmatch(name)
        if match and specified == kind:
            start = f"TagSpecification.{match[1]}.Tag."
            keys = {each: key for each, key in request.parameters.items() if each.startswith(start)}
            tags.update(
                {key: keys.get(f"{each[:-4]}.Value", "") for each, key in keys.items() if each.endswith(".Key")}
            )
    return (
        {**{f"aws:RequestTag/{key}": value for key, value in tags.items()}, "aws:TagKeys": list(tags)} if tags else {}
    )


# ---- SageMaker, Redshift

SAGEMAKER_KINDS = {
    "NotebookInstanceName": "notebook-instance",
    "NotebookInstanceLifecycleConfigName": "notebook-instance-lifecycle-config",
    "ModelPackageGroupName": "model-package-group",
}


def sagemaker_checks(request: Request) -> Iterator[Check]:
    for member, kind in SAGEMAKER_KINDS.items():
        if name := request.get(member):
            arn = f"arn:aws:sagemaker:{LOCAL}:{kind}/{name.lower()}"
            return one(request, arn, tag_action="AddTags")
    return one(request, request.get("ResourceArn") or EVERYTHING)


def redshift_checks(request: Request) -> Iterator[Check]:
    if arn := request.get("ResourceName"):
        return one(request, arn)
    cluster = request.get("ClusterIdentifier")
    known = cluster and request.operation != "DescribeClusters"
    return one(request, f"arn:aws:redshift:{LOCAL}:cluster:{cluster}" if known else EVERYTHING, tag_action="CreateTags")


def redshift_data_checks(request: Request) -> Iterator[Check]:
    cluster = request.get("ClusterIdentifier")
    return one(request, f"arn:aws:redshift:{LOCAL}:cluster:{cluster}" if cluster else EVERYTHING)


# ---- the tagging API needs the service's own permission too

TAG_ACTIONS = {
    "s3": ("s3:PutBucketTagging", "s3:PutBucketTagging"),
    "dynamodb": ("dynamodb:TagResource", "dynamodb:UntagResource"),
    "sns": ("sns:TagResource", "sns:UntagResource"),
    "sqs": ("sqs:TagQueue", "sqs:UntagQueue"),
    "lambda": ("lambda:TagResource", "lambda:UntagResource"),
    "events": ("events:TagResource", "events:UntagResource"),
    "scheduler": ("scheduler:TagResource", "scheduler:UntagResource"),
    "logs": ("logs:TagResource", "logs:UntagResource"),
    "cloudwatch": ("cloudwatch:TagResource", "cloudwatch:UntagResource"),
    "kms": ("kms:TagResource", "kms:UntagResource"),
    "ec2": ("ec2:CreateTags", "ec2:DeleteTags"),
    "sagemaker": ("sagemaker:AddTags", "sagemaker:DeleteTags"),
    "redshift": ("redshift:CreateTags", "redshift:DeleteTags"),
    "ssm": ("ssm:AddTagsToResource", "ssm:RemoveTagsFromResource"),
    "secretsmanager": ("secretsmanager:TagResource", "secretsmanager:UntagResource"),
}


def tagging_checks(request: Request) -> Iterator[Check]:
    yield from one(request, EVERYTHING)
    for arn in request.listed("ResourceARNList") if request.operation in ("TagResources", "UntagResources") else ():
        service = arn.split(":")[2] if arn.count(":") > 4 else ""
        if service in TAG_ACTIONS:
            yield Check(TAG_ACTIONS[service][request.operation == "UntagResources"], arn, creates=True)


FINDERS: dict[str, Callable[[Request], Iterator[Check] | None]] = {
    "lambda": lambda_checks,
    "events": events_checks,
    "scheduler": scheduler_checks,
    "logs": logs_checks,
    "monitoring": cloudwatch_checks,
    "sns": sns_checks,
    "sqs": sqs_checks,
    "dynamodb": dynamodb_checks,
    "ssm": ssm_checks,
    "kms": kms_checks,
    "iam": iam_checks,
    "ec2": ec2_checks,
    "sagemaker": sagemaker_checks,
    "redshift": redshift_checks,
    "redshift-data": redshift_data_checks,
    "tagging": tagging_checks,
}
