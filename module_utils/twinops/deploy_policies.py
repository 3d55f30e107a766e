"""IAM policies of the deploy role: what ``site.yml`` and ``playbooks/teardown.yml`` do in an environment, no more.

Scoped by name, and by tag where AWS makes up the name. It can make roles, but only such as stay within the boundary,
which it cannot change; nor can it change itself. A policy a part, because AWS limits the length of each.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from . import policies
from .iam import Document, Statement, allow, document
from .names import ENVIRONMENT_TAG
from .resources import Scope

BUCKETS = ("models", "reports", "data")

NETWORK_TYPES = (
    *("elastic-ip", "internet-gateway", "natgateway", "route-table", "security-group", "subnet", "vpc"),
    "vpc-endpoint",
)
NETWORK_LISTINGS = (
    *("DescribeAddresses", "DescribeInternetGateways", "DescribeManagedPrefixLists"),
    *("DescribeNatGateways", "DescribeNetworkInterfaces", "DescribeRouteTables", "DescribeSecurityGroups"),
    *("DescribeSubnets", "DescribeVpcEndpoints", "DescribeVpcs"),
)
NETWORK_CREATIONS = (
    *("AllocateAddress", "CreateInternetGateway", "CreateNatGateway", "CreateRouteTable", "CreateSecurityGroup"),
    *("CreateSubnet", "CreateVpc", "CreateVpcEndpoint"),
)
NETWORK_CHANGES = (
    *("AssociateRouteTable", "AttachInternetGateway", "AuthorizeSecurityGroupEgress", "AuthorizeSecurityGroupIngress"),
    *("CreateRoute", "DeleteInternetGateway", "DeleteNatGateway", "DeleteRoute", "DeleteRouteTable"),
    *("DeleteSecurityGroup", "DeleteSubnet", "DeleteVpc", "DeleteVpcEndpoints", "DetachInternetGateway"),
    *("DisassociateRouteTable", "ModifySubnetAttribute", "ModifyVpcAttribute", "ModifyVpcEndpoint", "ReleaseAddress"),
    *("ReplaceRoute", "ReplaceRouteTableAssociation"),
)
HOST_TYPES = ("instance", "network-interface", "volume")
HOST_LISTINGS = (*("DescribeIamInstanceProfileAssociations", "DescribeImages", "DescribeInstances", "DescribeVolumes"),)
HOST_CHANGES = (
    *("AssociateIamInstanceProfile", "ModifyInstanceAttribute", "ModifyInstanceMetadataOptions", "ModifyVolume"),
    *("ReplaceIamInstanceProfileAssociation", "StartInstances", "StopInstances", "TerminateInstances"),
)

LISTINGS = ("events:ListRules", "lambda:ListLayerVersions", "logs:DescribeLogGroups", "tag:GetResources")


def trust(scope: Scope, issuer: str, audience: str, subjects: Iterable[str], *, patterns: bool = False) -> Document:
    """Pipelines of ``issuer`` (a URL without ``https://``) with this audience and one of the ``subjects`` exactly.

    With ``patterns``, an asterisk in a subject stands for anything.
    """
    provider = f"arn:{scope.partition}:iam::{scope.account}:oidc-provider/{issuer}"
    of_subject = {f"{issuer}:sub": list(subjects)}
    condition: dict[str, dict[str, object]] = {"StringEquals": {f"{issuer}:aud": audience}}
    condition.setdefault("StringLike" if patterns else "StringEquals", {}).update(of_subject)
    return document(
        [
            {
                "Effect": "Allow",
                "Principal": {"Federated": provider},
                "Action": "sts:AssumeRoleWithWebIdentity",
                "Condition": condition,
            }
        ]
    )


def by_part(scope: Scope) -> Mapping[str, Document]:
    """The policies, by what they are for. A statement's Sid is unique over all of them."""
    parts = {
        "access": access(scope),
        "network": network(scope),
        "host": host(scope),
        "keys": keys(scope),
        "storage": storage(scope),
        "twins": twins(scope),
        "workflows": workflows(scope),
        "observability": observability(scope),
        "edge": edge(scope),
    }
    return {part: document(statements) for part, statements in parts.items()}


def reading_by_part(scope: Scope) -> Mapping[str, Document]:
    """The policies of the plan role, by part: what of the deploy role's rights only reads, and mail.

    Of what is in buckets only models: a plan looks at releases, and at nobody's data.
    """
    models = [f"{scope.bucket_arn('models')}/*"]
    parts: dict[str, list[Statement]] = {}
    for part, policy in by_part(scope).items():
        kept = parts.setdefault("network" if part in ("access", "network", "host", "keys") else "workflows", [])
        for statement in policy["Statement"]:
            actions = [action for action in statement["Action"] if _READS.fullmatch(action)]
            resources = models if statement["Sid"] == "KeepObjects" else statement["Resource"]
            if actions:
                kept.append({**statement, "Action": actions, "Resource": resources})
    return {part: document(statements) for part, statements in parts.items()}


_READS = re.compile(r"[a-z0-9]+:(Describe|Get|List|Query)[A-Za-z]*|kms:Decrypt|kms:GenerateDataKey|sns:Publish")


def access(scope: Scope) -> list[Statement]:
    """Roles, within the boundary, and the policy of data access."""
    roles = [scope.role_arn(purpose) for purpose in policies.DESCRIPTIONS]
    within = {"ArnEquals": {"iam:PermissionsBoundary": scope.policy_arn(policies.BOUNDARY)}}
    return [
        # Neither has a narrower resource, and IAM is in no region.
        allow("SeeRolesAndPolicies", ["iam:GetAccountAuthorizationDetails", "iam:ListRoles"], ["*"]),
        allow(
            "SeeTagsOfPolicies",
            ["iam:ListPolicyTags"],
            [scope.policy_arn(policies.BOUNDARY), scope.policy_arn(policies.DATA_ACCESS)],
        ),
        allow(
            "MakeRolesWithinBoundary",
            _iam("CreateRole", "PutRolePermissionsBoundary", "PutRolePolicy", "DeleteRolePolicy")
            + _iam("AttachRolePolicy", "DetachRolePolicy"),
            roles,
            within,
        ),
        allow("KeepRoles", _iam("DeleteRole", "TagRole", "UpdateAssumeRolePolicy", "UpdateRole"), roles),
        allow(
            "KeepDataAccess",
            _iam("CreatePolicy", "CreatePolicyVersion", "DeletePolicy", "DeletePolicyVersion", "TagPolicy"),
            [scope.policy_arn(policies.DATA_ACCESS)],
        ),
        *(
            _pass(scope, purpose, policies.SERVICE_OF[purpose])
            for purpose in (policies.DISPATCH, policies.DEVELOPMENT_TWIN, policies.DEPLOYMENT_TWIN, policies.SCHEDULER)
        ),
    ]


def network(scope: Scope) -> list[Statement]:
    """The VPC and what is in it. AWS makes up the names of all of it, so what is ours is told by its tag."""
    resources = [scope.arn("ec2", f"{each}/*") for each in NETWORK_TYPES]
    groups = [scope.arn("ec2", "security-group/*")]
    revoke = _of("ec2", "RevokeSecurityGroupEgress", "RevokeSecurityGroupIngress")
    return [
        _list_all(scope, "SeeNetworks", *_of("ec2", *NETWORK_LISTINGS)),
        allow("SeeSettingsOfNetwork", ["ec2:DescribeVpcAttribute"], [scope.arn("ec2", "vpc/*")], _has_our_tag(scope)),
        allow("MakeNetwork", _of("ec2", *NETWORK_CREATIONS), resources, _with_our_tag(scope)),
        # What is made is made in something that is there already: a subnet in its VPC.
        allow("MakeInOwnNetwork", _of("ec2", *NETWORK_CREATIONS), resources, _has_our_tag(scope)),
        allow("TagNetwork", ["ec2:CreateTags"], resources, _with_our_tag(scope, on=NETWORK_CREATIONS)),
        allow("ChangeNetwork", ["ec2:CreateTags", *_of("ec2", *NETWORK_CHANGES)], resources, _has_our_tag(scope)),
        # AWS makes the default group of a VPC, without tags. It is emptied, which lets nobody in.
        allow("EmptyDefaultGroup", revoke, groups, {"StringEquals": {"aws:RequestedRegion": scope.region}}),
        # Names of AWS's services lead to their endpoints in the VPC by a private zone, which is AWS's.
        allow(
            "NameEndpoints",
            ["route53:AssociateVPCWithHostedZone"],
            [f"arn:{scope.partition}:route53:::hostedzone/*"],
            {"ForAllValues:StringLike": {"route53:VPCs": f"VPCId=*,VPCRegion={scope.region}"}},
        ),
    ]


def host(scope: Scope) -> list[Statement]:
    """The machine of Airflow and Ansible, with its instance profile and volume."""
    new = [scope.arn("ec2", f"{each}/*") for each in HOST_TYPES]
    images, profile = f"arn:{scope.partition}:ec2:{scope.region}::image/*", scope.names.role(policies.HOST)
    # AWS asks for each of these to make an instance. A condition picks: only what is made has tags of the request,
    # only what is there has tags of its own, only an image has an owner.
    involved = [*new, *(scope.arn("ec2", f"{each}/*") for each in ("subnet", "security-group")), images]
    parameters = f"arn:{scope.partition}:ssm:{scope.region}:*:parameter/aws/service/ami-amazon-linux-latest/*"
    return [
        _list_all(scope, "SeeInstances", *_of("ec2", *HOST_LISTINGS)),
        allow("SeeImages", ["ssm:GetParameter"], [parameters]),
        allow(
            "KeepInstanceProfile",
            _iam("AddRoleToInstanceProfile", "CreateInstanceProfile", "DeleteInstanceProfile", "GetInstanceProfile")
            + _iam("RemoveRoleFromInstanceProfile"),
            [f"arn:{scope.partition}:iam::{scope.account}:instance-profile/{profile}"],
        ),
        _pass(scope, policies.HOST, policies.SERVICE_OF[policies.HOST]),
        allow("MakeInstances", ["ec2:RunInstances"], involved, _with_our_tag(scope)),
        allow("MakeInstancesInOwnNetwork", ["ec2:RunInstances"], involved, _has_our_tag(scope)),
        allow("MakeInstancesOfAmazon", ["ec2:RunInstances"], involved, {"StringEquals": {"ec2:Owner": "amazon"}}),
        allow("TagInstances", ["ec2:CreateTags"], new, _with_our_tag(scope, on=["RunInstances"])),
        allow(
            "ChangeInstances",
            ["ec2:CreateTags", *_of("ec2", *HOST_CHANGES)],
            [*new, scope.arn("ec2", "security-group/*")],
            _has_our_tag(scope),
        ),
    ]


def keys(scope: Scope) -> list[Statement]:
    """The environment's key of KMS, with its alias, and its use for what is published."""
    ours, alias = [scope.arn("kms", "key/*")], scope.arn("kms", f"alias/{scope.names.prefix}*")
    changes = (
        *("CancelKeyDeletion", "DisableKeyRotation", "EnableKey", "EnableKeyRotation", "GetKeyPolicy"),
        *("GetKeyRotationStatus", "PutKeyPolicy", "ScheduleKeyDeletion", "UpdateKeyDescription"),
    )
    return [
        allow("MakeKeys", ["kms:CreateKey"], ["*"], _with_our_tag(scope)),
        allow("TagKeys", ["kms:TagResource"], ours, _with_our_tag(scope)),
        allow("KeepKeys", _of("kms", *changes), ours, _has_our_tag(scope)),
        # Aliases have no tags: this one is ours by its name, whichever key it names.
        allow("NameKeys", _of("kms", "CreateAlias", "DeleteAlias", "UpdateAlias"), [alias, *ours]),
        allow("SeeKeys", _of("kms", "DescribeKey", "ListResourceTags"), ours),
        _list_all(scope, "ListKeys", "kms:ListKeys"),
        {**policies.use_key(scope, "Decrypt", "GenerateDataKey", via=("s3", "sns")), "Sid": "PublishEncrypted"},
    ]


def storage(scope: Scope) -> list[Statement]:
    """Buckets with what is in them, which a teardown with data removes, and the ledger."""
    buckets = [scope.bucket_arn(purpose) for purpose in BUCKETS]
    settings = (
        *("BucketPolicy", "BucketPublicAccessBlock", "BucketTagging", "BucketVersioning"),
        *("EncryptionConfiguration", "LifecycleConfiguration"),
    )
    tables = (
        *("CreateTable", "DeleteTable", "DescribeContinuousBackups", "DescribeTable", "ListTagsOfResource"),
        *("TagResource", "UpdateContinuousBackups", "UpdateTable"),
    )
    return [
        allow(
            "KeepBuckets",
            ["s3:CreateBucket", "s3:DeleteBucket", "s3:ListBucket", "s3:ListBucketVersions"]
            + [f"s3:{verb}{setting}" for verb in ("Get", "Put") for setting in settings],
            buckets,
        ),
        # Publishing reads and writes models, a teardown with data deletes versions of everything. Not narrower:
        # who may set a bucket's policy can get at its objects anyway, and a policy that hid it would only mislead.
        allow(
            "KeepObjects",
            ["s3:DeleteObject", "s3:DeleteObjectVersion", "s3:GetObject", "s3:PutObject"],
            [f"{bucket}/*" for bucket in buckets],
        ),
        allow("KeepLedger", [f"dynamodb:{action}" for action in tables], [scope.ledger_arn]),
    ]


def twins(scope: Scope) -> list[Statement]:
    """Notebook instances and the scripts they start with."""
    instances = (
        *("AddTags", "CreateNotebookInstance", "DeleteNotebookInstance", "DescribeNotebookInstance", "ListTags"),
        *("StartNotebookInstance", "StopNotebookInstance", "UpdateNotebookInstance"),
    )
    scripts = [
        f"sagemaker:{verb}NotebookInstanceLifecycleConfig" for verb in ("Create", "Delete", "Describe", "Update")
    ]
    prefix = scope.names.prefix
    return [
        allow("KeepTwins", [f"sagemaker:{action}" for action in instances], [scope.twin_arn("*")]),
        # SageMaker connects a twin to the VPC in the name of who makes it. Its interface has no tags when it is made.
        allow(
            "ConnectTwins",
            ["ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface"],
            [scope.arn("ec2", f"{each}/*") for each in ("network-interface", "security-group", "subnet")],
            {"StringEqualsIfExists": _has_our_tag(scope)["StringEquals"]},
        ),
        allow("KeepScripts", scripts, [scope.arn("sagemaker", f"notebook-instance-lifecycle-config/{prefix}*")]),
    ]


def workflows(scope: Scope) -> list[Statement]:
    """Rules, schedules, functions, layers, log groups, the dead-letter queue and the topic."""
    prefix = scope.names.prefix
    log_groups = [
        scope.arn("logs", f"log-group:/twinops/{scope.env}/*"),
        scope.arn("logs", f"log-group:/aws/lambda/{prefix}*"),
    ]
    return [
        allow(
            "KeepRules",
            _of("events", "DeleteRule", "ListTagsForResource", "ListTargetsByRule", "PutRule", "PutTargets")
            + _of("events", "RemoveTargets", "TagResource"),
            [scope.arn("events", f"rule/{prefix}*")],
        ),
        allow(
            "KeepSchedules",
            _of("scheduler", "CreateSchedule", "DeleteSchedule", "GetSchedule", "UpdateSchedule"),
            [scope.arn("scheduler", f"schedule/{scope.names.schedule_group}/*")],
        ),
        allow(
            "KeepScheduleGroup",
            _of("scheduler", "CreateScheduleGroup", "DeleteScheduleGroup", "GetScheduleGroup", "ListTagsForResource")
            + _of("scheduler", "TagResource"),
            [scope.schedule_group_arn],
        ),
        allow(
            "KeepFunctions",
            _of("lambda", "AddPermission", "CreateFunction", "DeleteFunction", "GetFunction")
            + _of("lambda", "GetFunctionConfiguration", "GetFunctionEventInvokeConfig", "GetPolicy", "ListTags")
            + _of("lambda", "PutFunctionEventInvokeConfig", "RemovePermission", "TagResource")
            + _of("lambda", "UpdateFunctionCode", "UpdateFunctionConfiguration"),
            [scope.arn("lambda", f"function:{prefix}*")],
        ),
        allow("PublishLayers", ["lambda:PublishLayerVersion"], [scope.arn("lambda", f"layer:{prefix}*")]),
        allow(
            "UseLayers",
            ["lambda:DeleteLayerVersion", "lambda:GetLayerVersion"],
            [scope.arn("lambda", f"layer:{prefix}*:*")],
        ),
        allow(
            "KeepLogGroups",
            _of("logs", "CreateLogGroup", "DeleteLogGroup", "ListTagsForResource", "PutRetentionPolicy", "TagResource"),
            log_groups,
        ),
        allow(
            "KeepQueues",
            _of("sqs", "CreateQueue", "DeleteQueue", "GetQueueAttributes", "ListQueueTags", "SetQueueAttributes")
            + _of("sqs", "TagQueue"),
            [scope.arn("sqs", f"{prefix}*")],
        ),
        allow(
            "KeepTopics",
            _of("sns", "CreateTopic", "DeleteTopic", "GetTopicAttributes", "ListSubscriptionsByTopic")
            + _of("sns", "ListTagsForResource", "SetTopicAttributes", "Subscribe", "TagResource"),
            [scope.arn("sns", f"{prefix}*")],
        ),
        # SNS checks a subscription's removal against no topic.
        _list_all(scope, "Unsubscribe", "sns:Unsubscribe"),
        _list_all(
            scope,
            "SeeAll",
            "events:ListRules",
            "lambda:ListLayerVersions",
            "logs:DescribeLogGroups",
            "scheduler:ListSchedules",
            "tag:GetResources",
        ),
    ]


def observability(scope: Scope) -> list[Statement]:
    """Alarms and the dashboard."""
    prefix = scope.names.prefix
    dashboards = f"arn:{scope.partition}:cloudwatch::{scope.account}:dashboard/{prefix}*"
    return [
        allow(
            "KeepAlarms",
            _of("cloudwatch", "ListTagsForResource", "PutMetricAlarm", "TagResource"),
            [scope.arn("cloudwatch", f"alarm:{prefix}*")],
        ),
        # Whoever makes, removes or lists composite alarms needs it for all alarms, say their API references.
        _list_all(
            scope, "KeepCompositeAlarms", *_of("cloudwatch", "DeleteAlarms", "DescribeAlarms", "PutCompositeAlarm")
        ),
        allow("KeepDashboards", _of("cloudwatch", "DeleteDashboards", "GetDashboard", "PutDashboard"), [dashboards]),
    ]


def edge(scope: Scope) -> list[Statement]:
    """Recording rollouts and telling of their ends, by mail as well (``playbooks/{edge,tell}.yml``)."""
    return [
        allow("RecordRollouts", _of("dynamodb", "GetItem", "PutItem", "UpdateItem"), [scope.ledger_arn]),
        allow("TellOfRollouts", ["events:PutEvents"], [scope.arn("events", "event-bus/default")]),
        allow("TellPeople", ["sns:Publish"], [scope.topic_arn]),
        allow("SeeRollouts", ["dynamodb:Query"], [scope.ledger_arn, f"{scope.ledger_arn}/index/*"]),
    ]


def _with_our_tag(scope: Scope, on: Sequence[str] = ()) -> Document:
    """Only what is given the environment's tag; ``on``: only by these calls, not later."""
    tag = {f"aws:RequestTag/{ENVIRONMENT_TAG}": scope.env}
    return {"StringEquals": {**tag, "ec2:CreateAction": list(on)} if on else tag}


def _has_our_tag(scope: Scope) -> Document:
    return {"StringEquals": {f"aws:ResourceTag/{ENVIRONMENT_TAG}": scope.env}}


def _pass(scope: Scope, purpose: str, service: str) -> Statement:
    words = "".join(word.capitalize() for word in purpose.split("-"))
    to_service = {"StringEquals": {"iam:PassedToService": service}}
    return allow(f"Pass{words}", ["iam:PassRole"], [scope.role_arn(purpose)], to_service)


def _list_all(scope: Scope, sid: str, *actions: str) -> Statement:
    """What has no narrower resource: only in the environment's region."""
    return {**policies.list_all(scope, *actions), "Sid": sid}


def _iam(*actions: str) -> list[str]:
    return _of("iam", *actions)


def _of(service: str, *actions: str) -> list[str]:
    return [f"{service}:{action}" for action in actions]
