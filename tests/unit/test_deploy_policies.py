"""The deploy role may make every call that the kinds of resources make, and no other."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import xform_name
from twinops import deploy_policies
from twinops.aws.reconcile import KINDS
from twinops.resources import Scope

SCOPE = Scope("staging", "111122223333", "eu-central-1")
AWS = Path(__file__).parents[2] / "module_utils/twinops/aws"

ONLY_BOOTSTRAP = ("oidc_provider",)
"""Kinds that the administrator makes."""

# Where IAM calls an operation otherwise than the API, or asks for more than the operation itself.
OTHERWISE = {
    "s3:DeleteObjects": ["s3:DeleteObject", "s3:DeleteObjectVersion"],
    "s3:GetBucketEncryption": ["s3:GetEncryptionConfiguration"],
    "s3:GetBucketLifecycleConfiguration": ["s3:GetLifecycleConfiguration"],
    "s3:GetPublicAccessBlock": ["s3:GetBucketPublicAccessBlock"],
    "s3:ListObjectVersions": ["s3:ListBucketVersions"],
    "s3:PutBucketEncryption": ["s3:PutEncryptionConfiguration"],
    "s3:PutBucketLifecycleConfiguration": ["s3:PutLifecycleConfiguration"],
    "s3:PutPublicAccessBlock": ["s3:PutBucketPublicAccessBlock"],
}
SERVICE_PREFIX = {"resourcegroupstaggingapi": "tag"}
WITH_TAGS = {
    "lambda:CreateFunction": ["lambda:TagResource"],
    "events:PutRule": ["events:TagResource"],
    "logs:CreateLogGroup": ["logs:TagResource"],
    "dynamodb:CreateTable": ["dynamodb:TagResource"],
    "sns:CreateTopic": ["sns:TagResource"],
    "sqs:CreateQueue": ["sqs:TagQueue"],
    "sagemaker:CreateNotebookInstance": ["sagemaker:AddTags"],
    "iam:CreateRole": ["iam:TagRole"],
    "iam:CreatePolicy": ["iam:TagPolicy"],
    "kms:CreateKey": ["kms:TagResource"],
    "cloudwatch:PutMetricAlarm": ["cloudwatch:TagResource"],
    "cloudwatch:PutCompositeAlarm": ["cloudwatch:TagResource"],
}
"""What AWS asks for besides, where something is made with tags."""

# What AWS asks for besides the calls: what a waiter calls, roles that services take over, a layer that a function uses,
# the difference between "is not there" and "you may not know", and the calls of playbooks/edge.yml.
BESIDES = {
    "lambda:ListTags",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "iam:PassRole",
    "route53:AssociateVPCWithHostedZone",
    "ec2:CreateNetworkInterface",
    "lambda:GetFunctionConfiguration",
    "lambda:GetLayerVersion",
    "s3:ListBucket",
    "s3:GetObject",
    "s3:PutObject",
    "events:PutEvents",
    "dynamodb:GetItem",
    "dynamodb:PutItem",
    "dynamodb:UpdateItem",
    "dynamodb:Query",
    "kms:Decrypt",
    "kms:GenerateDataKey",
    "sns:Publish",
}


@functools.cache
def operations(service: str) -> dict[str, str]:
    """``put_rule`` -> ``PutRule``, of a service."""
    model = botocore.session.get_session().get_service_model(service)
    return {xform_name(name): name for name in model.operation_names}


def calls(source: Path, services: tuple[str, ...]) -> Iterator[str]:
    """The operations that a file names, as ``service:Operation``: called, handed on, or paged through."""
    for node in ast.walk(ast.parse(source.read_text())):
        name = node.attr if isinstance(node, ast.Attribute) else node.value if isinstance(node, ast.Constant) else None
        for service in services:
            if isinstance(name, str) and name in operations(service):
                yield f"{SERVICE_PREFIX.get(service, service)}:{operations(service)[name]}"


def needed() -> dict[str, set[str]]:
    """Kind -> the IAM actions that keeping it takes."""
    found = {
        name: set(calls(Path(str(kind.__file__)), kind.SERVICES))
        for name, kind in KINDS.items()
        if name not in ONLY_BOOTSTRAP
    }
    found["(shared)"] = {
        *calls(AWS / "session.py", ("resourcegroupstaggingapi",)),
        *calls(AWS / "kinds/authorization.py", ("iam",)),
        *calls(AWS / "ec2.py", ("ec2",)),
    }
    return {name: {action for call in made for action in actions_of(call)} for name, made in found.items()}


def actions_of(call: str) -> list[str]:
    with_tags = ["ec2:CreateTags"] if call.removeprefix("ec2:") in deploy_policies.NETWORK_CREATIONS else []
    return [*OTHERWISE.get(call, [call]), *WITH_TAGS.get(call, with_tags)]


def allowed() -> set[str]:
    documents = deploy_policies.by_part(SCOPE).values()
    return {action for each in documents for statement in each["Statement"] for action in statement["Action"]}


NEEDED = needed()
NOT_GIVEN = {"iam:DeleteRolePermissionsBoundary"}
"""What kinds can do, but the deploy role must not."""


@pytest.mark.parametrize("kind", NEEDED)
def test_every_call_of_a_kind_is_covered(kind: str) -> None:
    assert NEEDED[kind] - allowed() - NOT_GIVEN == set()


def test_nothing_is_allowed_that_nobody_calls() -> None:
    assert allowed() - set().union(*NEEDED.values()) - BESIDES == set()


def test_it_cannot_change_itself_or_the_boundary() -> None:
    own = {SCOPE.role_arn("deploy"), SCOPE.policy_arn("boundary"), SCOPE.policy_arn("deploy-access")}
    for document in deploy_policies.by_part(SCOPE).values():
        for statement in document["Statement"]:
            only_reads = all(action.split(":")[1].startswith(("Get", "List")) for action in statement["Action"])
            assert only_reads or not own & set(statement["Resource"]), statement["Sid"]


def test_pipelines_of_other_branches_are_not_trusted() -> None:
    subject = "project_path:plant/twinops:ref_type:branch:ref:main"
    trust: Any = deploy_policies.trust(SCOPE, "gitlab.example.com", "https://audience", [subject])
    (statement,) = trust["Statement"]
    assert statement["Condition"] == {
        "StringEquals": {"gitlab.example.com:aud": ["https://audience"], "gitlab.example.com:sub": [subject]}
    }
