"""IAM's records: managed policies and their versions, paths, instance profiles, and what must go before what."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sandbox.settings import ACCOUNT
from tests.sandbox.support import policy

pytestmark = pytest.mark.sandbox

TRUST = policy({"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"})


@pytest.fixture
def iam(aws: Callable[[str], Any]) -> Any:
    return aws("iam")


@pytest.fixture
def path() -> str:
    return f"/{uuid.uuid4().hex[:8]}/"


def allowing(action: str) -> str:
    return policy({"Effect": "Allow", "Action": action, "Resource": "*"})


def code_of(call: Callable[..., Any], **arguments: Any) -> str:
    with pytest.raises(ClientError) as refused:
        call(**arguments)
    return str(refused.value.response["Error"]["Code"])


def test_versions_of_a_managed_policy(iam: Any, path: str) -> None:
    arn = iam.create_policy(PolicyName="p", Path=path, PolicyDocument=allowing("s3:GetObject"))["Policy"]["Arn"]
    assert arn == f"arn:aws:iam::{ACCOUNT}:policy{path}p"
    for number in range(2, 6):
        made = iam.create_policy_version(PolicyArn=arn, PolicyDocument=allowing(f"s3:Get{number}"), SetAsDefault=True)
        assert made["PolicyVersion"]["VersionId"] == f"v{number}"
    full = code_of(iam.create_policy_version, PolicyArn=arn, PolicyDocument=allowing("s3:GetObject"))
    assert full == "LimitExceeded"
    assert code_of(iam.delete_policy_version, PolicyArn=arn, VersionId="v5") == "DeleteConflict"
    iam.delete_policy_version(PolicyArn=arn, VersionId="v1")
    assert iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"] == "v5"
    document = iam.get_policy_version(PolicyArn=arn, VersionId="v5")["PolicyVersion"]["Document"]
    assert document["Statement"][0]["Action"] == "s3:Get5"
    versions = iam.list_policy_versions(PolicyArn=arn)["Versions"]
    assert {one["VersionId"]: one["IsDefaultVersion"] for one in versions} == {
        "v2": False,
        "v3": False,
        "v4": False,
        "v5": True,
    }
    assert code_of(iam.delete_policy, PolicyArn=arn) == "DeleteConflict"
    for number in range(2, 5):
        iam.delete_policy_version(PolicyArn=arn, VersionId=f"v{number}")
    iam.delete_policy(PolicyArn=arn)
    assert code_of(iam.get_policy, PolicyArn=arn) == "NoSuchEntity"


def test_listings_by_path(iam: Any, path: str) -> None:
    name = path.strip("/")
    iam.create_role(RoleName=name, Path=path, AssumeRolePolicyDocument=TRUST)
    iam.create_policy(PolicyName=name, Path=path, PolicyDocument=allowing("s3:GetObject"))
    iam.create_instance_profile(InstanceProfileName=name, Path=path)
    assert [one["RoleName"] for one in iam.list_roles(PathPrefix=path)["Roles"]] == [name]
    local = iam.list_policies(PathPrefix=path, Scope="Local")["Policies"]
    assert [one["PolicyName"] for one in local] == [name]
    profiles = iam.list_instance_profiles(PathPrefix=path)["InstanceProfiles"]
    assert [one["Arn"] for one in profiles] == [f"arn:aws:iam::{ACCOUNT}:instance-profile{path}{name}"]


def test_what_is_attached_is_detached_first(iam: Any, path: str) -> None:
    name = path.strip("/")
    iam.create_role(RoleName=name, Path=path, AssumeRolePolicyDocument=TRUST)
    arn = iam.create_policy(PolicyName=name, Path=path, PolicyDocument=allowing("s3:GetObject"))["Policy"]["Arn"]
    iam.attach_role_policy(RoleName=name, PolicyArn=arn)
    assert iam.get_policy(PolicyArn=arn)["Policy"]["AttachmentCount"] == 1
    assert code_of(iam.delete_policy, PolicyArn=arn) == "DeleteConflict"
    assert code_of(iam.delete_role, RoleName=name) == "DeleteConflict"
    iam.detach_role_policy(RoleName=name, PolicyArn=arn)
    assert code_of(iam.detach_role_policy, RoleName=name, PolicyArn=arn) == "NoSuchEntity"
    iam.create_instance_profile(InstanceProfileName=name, Path=path)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    assert code_of(iam.add_role_to_instance_profile, InstanceProfileName=name, RoleName=name) == "LimitExceeded"
    assert code_of(iam.delete_role, RoleName=name) == "DeleteConflict"
    assert code_of(iam.delete_instance_profile, InstanceProfileName=name) == "DeleteConflict"
    iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=name)
    iam.delete_instance_profile(InstanceProfileName=name)
    iam.delete_role(RoleName=name)
    iam.delete_policy(PolicyArn=arn)


def test_a_boundary_must_exist_and_is_read_back(iam: Any, path: str) -> None:
    name = path.strip("/")
    missing = f"arn:aws:iam::{ACCOUNT}:policy/nobody"
    role = {"RoleName": name, "Path": path, "AssumeRolePolicyDocument": TRUST}
    assert code_of(iam.create_role, **role, PermissionsBoundary=missing) == "NoSuchEntity"
    arn = iam.create_policy(PolicyName=name, Path=path, PolicyDocument=allowing("s3:GetObject"))["Policy"]["Arn"]
    iam.create_role(**role, PermissionsBoundary=arn)
    assert iam.get_role(RoleName=name)["Role"]["PermissionsBoundary"]["PermissionsBoundaryArn"] == arn
    assert code_of(iam.delete_policy, PolicyArn=arn) == "DeleteConflict"
    iam.delete_role_permissions_boundary(RoleName=name)
    assert "PermissionsBoundary" not in iam.get_role(RoleName=name)["Role"]


def test_the_whole_account(iam: Any, path: str) -> None:
    name = path.strip("/")
    iam.create_role(RoleName=name, Path=path, AssumeRolePolicyDocument=TRUST)
    iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=allowing("s3:GetObject"))
    arn = iam.create_policy(PolicyName=name, Path=path, PolicyDocument=allowing("s3:GetObject"))["Policy"]["Arn"]
    iam.attach_role_policy(RoleName=name, PolicyArn=arn)
    iam.tag_role(RoleName=name, Tags=[{"Key": "owner", "Value": "us"}])
    iam.create_instance_profile(InstanceProfileName=name, Path=path)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    pages = list(iam.get_paginator("get_account_authorization_details").paginate())
    [role] = [one for page in pages for one in page["RoleDetailList"] if one["RoleName"] == name]
    assert role["RolePolicyList"][0]["PolicyDocument"]["Statement"][0]["Action"] == "s3:GetObject"
    assert role["AttachedManagedPolicies"] == [{"PolicyName": name, "PolicyArn": arn}]
    assert role["Tags"] == [{"Key": "owner", "Value": "us"}]
    assert [one["InstanceProfileName"] for one in role["InstanceProfileList"]] == [name]
    assert role["AssumeRolePolicyDocument"]["Statement"][0]["Principal"] == {"Service": "ec2.amazonaws.com"}
    [managed] = [one for page in pages for one in page["Policies"] if one["Arn"] == arn]
    [version] = managed["PolicyVersionList"]
    assert version["Document"]["Statement"][0]["Action"] == "s3:GetObject"
