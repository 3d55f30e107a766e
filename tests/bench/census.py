"""What exists in an account, counted by listing the endpoint, and the fewest write calls that make it.

The count does not look at what a contender did or says: a call made twice, or for nothing, is above the minimum.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from botocore.exceptions import ClientError

MADE_BY: Mapping[str, tuple[str, ...]] = {
    "role": ("iam:CreateRole",),
    "role policy": ("iam:PutRolePolicy",),
    "attached policy": ("iam:AttachRolePolicy",),
    "managed policy": ("iam:CreatePolicy",),
    "instance profile": ("iam:CreateInstanceProfile", "iam:AddRoleToInstanceProfile"),
    "bucket": ("s3:CreateBucket",),
    "bucket versioning": ("s3:PutBucketVersioning",),
    "bucket encryption": ("s3:PutBucketEncryption",),
    "bucket public access block": ("s3:PutPublicAccessBlock",),
    "bucket policy": ("s3:PutBucketPolicy",),
    "bucket lifecycle": ("s3:PutBucketLifecycleConfiguration",),
    "bucket tags": ("s3:PutBucketTagging",),
    "table": ("dynamodb:CreateTable",),
    "table recovery": ("dynamodb:UpdateContinuousBackups",),
    "topic": ("sns:CreateTopic",),
    "subscription": ("sns:Subscribe",),
    "queue": ("sqs:CreateQueue",),
    "key": ("kms:CreateKey",),
    "key alias": ("kms:CreateAlias",),
    "key rotation": ("kms:EnableKeyRotation",),
    "log group": ("logs:CreateLogGroup",),
    "log retention": ("logs:PutRetentionPolicy",),
    "alarm": ("monitoring:PutMetricAlarm",),
    "composite alarm": ("monitoring:PutCompositeAlarm",),
    "dashboard": ("monitoring:PutDashboard",),
    "layer version": ("lambda:PublishLayerVersion",),
    "function": ("lambda:CreateFunction",),
    "function permission": ("lambda:AddPermission",),
    "function invocation": ("lambda:PutFunctionEventInvokeConfig",),
    "rule": ("events:PutRule",),
    "rule targets": ("events:PutTargets",),
    "notebook script": ("sagemaker:CreateNotebookInstanceLifecycleConfig",),
    "notebook": ("sagemaker:CreateNotebookInstance",),
    "vpc": ("ec2:CreateVpc",),
    "vpc host names": ("ec2:ModifyVpcAttribute",),
    "subnet": ("ec2:CreateSubnet",),
    "route table": ("ec2:CreateRouteTable",),
    "route table association": ("ec2:AssociateRouteTable",),
    "vpc endpoint": ("ec2:CreateVpcEndpoint",),
    "security group": ("ec2:CreateSecurityGroup",),
    "ingress of a group": ("ec2:AuthorizeSecurityGroupIngress",),
    "closed egress of a group": ("ec2:RevokeSecurityGroupEgress",),
    "egress of a group": ("ec2:AuthorizeSecurityGroupEgress",),
    "instance": ("ec2:RunInstances",),
}
"""What exists -> the calls that one of it takes, where each call says as much as AWS lets it (tags at creation)."""


def minimum_calls(census: Mapping[str, int]) -> Counter[str]:
    """How many calls of each action it takes at least to make what was counted."""
    calls: Counter[str] = Counter()
    for thing, number in census.items():
        calls.update(dict.fromkeys(MADE_BY[thing], number))
    return calls


def take(session: Any) -> Counter[str]:
    """What exists in the account of a session. Reads only."""
    counted: Counter[str] = Counter()
    for count in (_iam, _s3, _dynamodb, _messages, _kms, _logs, _alarms, _functions, _rules, _notebooks, _network):
        counted.update({thing: number for thing, number in count(session).items() if number})
    return counted


def _iam(session: Any) -> Mapping[str, int]:
    iam = session.client("iam")
    roles = _all(iam, "get_account_authorization_details", "RoleDetailList")
    return {
        "role": len(roles),
        "role policy": sum(len(role["RolePolicyList"]) for role in roles),
        "attached policy": sum(len(role["AttachedManagedPolicies"]) for role in roles),
        "managed policy": len(_all(iam, "list_policies", "Policies", Scope="Local")),
        "instance profile": len(_all(iam, "list_instance_profiles", "InstanceProfiles")),
    }


def _s3(session: Any) -> Mapping[str, int]:
    s3 = session.client("s3")
    counted: Counter[str] = Counter()
    for bucket in s3.list_buckets()["Buckets"]:
        name = bucket["Name"]
        has_versions = s3.get_bucket_versioning(Bucket=name).get("Status") == "Enabled"
        counted.update(
            {
                "bucket": 1,
                "bucket versioning": int(has_versions),
                "bucket encryption": _own_encryption(s3, name),
                "bucket public access block": _exists(s3.get_public_access_block, Bucket=name),
                "bucket policy": _exists(s3.get_bucket_policy, Bucket=name),
                "bucket lifecycle": _exists(s3.get_bucket_lifecycle_configuration, Bucket=name),
                "bucket tags": _exists(s3.get_bucket_tagging, Bucket=name),
            }
        )
    return counted


def _own_encryption(s3: Any, bucket: str) -> int:
    """1 for another encryption than the one (AES256) that AWS gives to every new bucket."""
    try:
        rules = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    except ClientError as error:
        return _none_if_absent(error)
    return int(any(rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] != "AES256" for rule in rules))


def _dynamodb(session: Any) -> Mapping[str, int]:
    dynamodb = session.client("dynamodb")
    tables = _all(dynamodb, "list_tables", "TableNames")

    def recovers(name: str) -> bool:
        backups = dynamodb.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
        return bool(backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED")

    return {"table": len(tables), "table recovery": sum(map(recovers, tables))}


def _messages(session: Any) -> Mapping[str, int]:
    sns, sqs = session.client("sns"), session.client("sqs")
    return {
        "topic": len(_all(sns, "list_topics", "Topics")),
        "subscription": len(_all(sns, "list_subscriptions", "Subscriptions")),
        "queue": len(sqs.list_queues().get("QueueUrls", [])),
    }


def _kms(session: Any) -> Mapping[str, int]:
    kms = session.client("kms")
    keys = [key["KeyId"] for key in _all(kms, "list_keys", "Keys")]
    described = [kms.describe_key(KeyId=key)["KeyMetadata"] for key in keys]
    ours = [key["KeyId"] for key in described if key["KeyManager"] == "CUSTOMER" and key["Enabled"]]
    aliases = [alias for alias in _all(kms, "list_aliases", "Aliases") if alias.get("TargetKeyId") in ours]
    rotating = [key for key in ours if kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"]]
    return {"key": len(ours), "key alias": len(aliases), "key rotation": len(rotating)}


def _logs(session: Any) -> Mapping[str, int]:
    groups = _all(session.client("logs"), "describe_log_groups", "logGroups")
    return {"log group": len(groups), "log retention": sum("retentionInDays" in group for group in groups)}


def _alarms(session: Any) -> Mapping[str, int]:
    cloudwatch = session.client("cloudwatch")
    kinds = {"AlarmTypes": ["MetricAlarm", "CompositeAlarm"]}
    return {
        "alarm": len(_all(cloudwatch, "describe_alarms", "MetricAlarms", **kinds)),
        "composite alarm": len(_all(cloudwatch, "describe_alarms", "CompositeAlarms", **kinds)),
        "dashboard": len(_all(cloudwatch, "list_dashboards", "DashboardEntries")),
    }


def _functions(session: Any) -> Mapping[str, int]:
    functions = session.client("lambda")
    names = [function["FunctionName"] for function in _all(functions, "list_functions", "Functions")]
    layers = [layer["LayerName"] for layer in _all(functions, "list_layers", "Layers")]
    return {
        "layer version": sum(len(_all(functions, "list_layer_versions", "LayerVersions", LayerName=n)) for n in layers),
        "function": len(names),
        "function permission": sum(_permissions(functions, name) for name in names),
        "function invocation": sum(_exists(functions.get_function_event_invoke_config, FunctionName=n) for n in names),
    }


def _permissions(functions: Any, name: str) -> int:
    try:
        return len(json.loads(functions.get_policy(FunctionName=name)["Policy"])["Statement"])
    except ClientError as error:
        return _none_if_absent(error)


def _rules(session: Any) -> Mapping[str, int]:
    events = session.client("events")
    names = [rule["Name"] for rule in _all(events, "list_rules", "Rules")]
    targets = [name for name in names if events.list_targets_by_rule(Rule=name)["Targets"]]
    return {"rule": len(names), "rule targets": len(targets)}


def _notebooks(session: Any) -> Mapping[str, int]:
    sagemaker = session.client("sagemaker")
    scripts = _all(sagemaker, "list_notebook_instance_lifecycle_configs", "NotebookInstanceLifecycleConfigs")
    return {
        "notebook script": len(scripts),
        "notebook": len(_all(sagemaker, "list_notebook_instances", "NotebookInstances")),
    }


def _network(session: Any) -> Mapping[str, int]:
    ec2 = session.client("ec2")
    vpcs = [vpc["VpcId"] for vpc in _all(ec2, "describe_vpcs", "Vpcs") if not vpc["IsDefault"]]
    if not vpcs:
        return {}
    inside = {"Filters": [{"Name": "vpc-id", "Values": vpcs}]}
    tables = [
        table
        for table in _all(ec2, "describe_route_tables", "RouteTables", **inside)
        if not any(association.get("Main") for association in table["Associations"])
    ]
    groups = _all(ec2, "describe_security_groups", "SecurityGroups", **inside)
    made = [group for group in groups if group["GroupName"] != "default"]  # that one comes with the VPC
    closed = [group for group in groups if not _is_all(group["IpPermissionsEgress"])]
    reservations = _all(ec2, "describe_instances", "Reservations", **inside)
    return {
        "vpc": len(vpcs),
        "vpc host names": sum(_has_host_names(ec2, vpc) for vpc in vpcs),
        "subnet": len(_all(ec2, "describe_subnets", "Subnets", **inside)),
        "route table": len(tables),
        "route table association": sum(len(table["Associations"]) for table in tables),
        "vpc endpoint": len(_all(ec2, "describe_vpc_endpoints", "VpcEndpoints", **inside)),
        "security group": len(made),
        "ingress of a group": sum(bool(group["IpPermissions"]) for group in made),
        "closed egress of a group": len(closed),
        "egress of a group": sum(bool(group["IpPermissionsEgress"]) for group in closed),
        "instance": sum(len(reservation["Instances"]) for reservation in reservations),
    }


def _has_host_names(ec2: Any, vpc: str) -> bool:
    answer = ec2.describe_vpc_attribute(VpcId=vpc, Attribute="enableDnsHostnames")
    return bool(answer["EnableDnsHostnames"]["Value"])


def _is_all(permissions: list[Any]) -> bool:
    """Whether these are the outgoing connections that AWS gives to every new group."""
    return [permission.get("IpProtocol") for permission in permissions] == ["-1"]


def _all(client: Any, operation: str, key: str, **arguments: object) -> list[Any]:
    pages: Iterable[Mapping[str, Any]] = client.get_paginator(operation).paginate(**arguments)
    return [item for page in pages for item in page.get(key, [])]


def _exists(read: Callable[..., object], **arguments: object) -> int:
    try:
        read(**arguments)
    except ClientError as error:
        return _none_if_absent(error)
    return 1


def _none_if_absent(error: ClientError) -> int:
    """0 where AWS says that there is none; any other error is one."""
    if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
        raise error
    return 0
