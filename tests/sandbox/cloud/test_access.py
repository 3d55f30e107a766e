"""Roles, policies and providers, changed by hand; another environment's role; and who is let in from elsewhere."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from twinops import desired
from twinops.aws.reconcile import observe
from twinops.resources import Resource, Scope

from tests.sandbox.cloud.support import PLANT, Environment, Tamper, check_drift, complete
from tests.sandbox.support import OwnSandbox, policy

pytestmark = pytest.mark.sandbox

Aws = Callable[[str], Any]

ANYTHING = policy({"Effect": "Allow", "Action": "s3:*", "Resource": "*"})
GITLAB = {
    "url": "https://gitlab.plant.test",
    "audience": "https://deploy.plant.test",
    "project": "plant/twinops",
    "branches": ["main"],
}


def role_of(scope: Scope) -> str:
    return scope.names.role("deployment-twin")


def widen(purpose: str) -> Tamper:
    return lambda aws, scope: aws("iam").create_policy_version(
        PolicyArn=scope.policy_arn(purpose), PolicyDocument=ANYTHING, SetAsDefault=True
    )


DRIFT: dict[str, tuple[Tamper, str]] = {
    "a role loses its boundary": (
        lambda aws, scope: aws("iam").delete_role_permissions_boundary(RoleName=role_of(scope)),
        "update role: boundary",
    ),
    "a role gets another boundary": (
        lambda aws, scope: aws("iam").put_role_permissions_boundary(
            RoleName=role_of(scope), PermissionsBoundary=scope.policy_arn("data-access")
        ),
        "update role: boundary",
    ),
    "a role may be had for longer": (
        lambda aws, scope: aws("iam").update_role(RoleName=scope.names.role("mlops"), MaxSessionDuration=43200),
        "update role: session_s",
    ),
    "a role is described otherwise": (
        lambda aws, scope: aws("iam").update_role(RoleName=role_of(scope), Description="mine"),
        "update role: description",
    ),
    "a role gets a managed policy": (
        lambda aws, scope: aws("iam").attach_role_policy(
            RoleName=role_of(scope), PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess"
        ),
        "update role: attached",
    ),
    "a role loses its data": (
        lambda aws, scope: aws("iam").detach_role_policy(
            RoleName=role_of(scope), PolicyArn=scope.policy_arn("data-access")
        ),
        "update role: attached",
    ),
    "what twins may read is widened": (widen("data-access"), "update managed_policy: document"),
    "the boundary is widened": (widen("boundary"), "update managed_policy: document"),
    "a policy loses its tags": (
        lambda aws, scope: aws("iam").untag_policy(PolicyArn=scope.policy_arn("boundary"), TagKeys=["twinops:part"]),
        "update managed_policy: tags",
    ),
}


@pytest.mark.parametrize("title", DRIFT)
def test_drift_is_seen_and_repaired(title: str, staging: Environment, aws: Aws) -> None:
    tamper, expected = DRIFT[title]
    check_drift(staging, aws, tamper, expected)


def test_a_policy_can_be_changed_any_number_of_times(staging: Environment, aws: Aws) -> None:
    """AWS keeps five versions; the oldest make room."""
    for number in range(6):
        sources = [PLANT, {"name": "archive", "type": "s3", "bucket": f"archive-{number}"}]
        wider = staging.resources("env", "data_access", env={"data_sources": sources}, data_access={"sources": sources})
        changed = {each["name"] for each in staging.reconcile(wider)["changes"]}
        assert changed == {staging.scope.names.policy("boundary"), staging.scope.names.policy("data-access")}
    versions = aws("iam").list_policy_versions(PolicyArn=staging.scope.policy_arn("data-access"))["Versions"]
    assert len(versions) == 5
    staging.reconcile(staging.resources("env"))


@pytest.fixture
def bootstrapped(production: Environment) -> Iterator[tuple[Resource, ...]]:
    resources = made(production)
    production.reconcile(resources, parts=("bootstrap",))
    yield resources
    production.remove(resources)


def made(environment: Environment, **gitlab: Any) -> tuple[Resource, ...]:
    options = complete("bootstrap", {"gitlab": {**GITLAB, **gitlab}, "data_sources": [PLANT]})
    return desired.resources(desired.Estate(environment.scope), {"bootstrap": options})


BOOTSTRAP_DRIFT: dict[str, tuple[Tamper, str]] = {
    "somebody else's tokens are taken": (
        lambda aws, scope: aws("iam").add_client_id_to_open_id_connect_provider(
            OpenIDConnectProviderArn=provider_arn(scope), ClientID="https://elsewhere.plant.test"
        ),
        "update oidc_provider: audiences",
    ),
    "the provider loses a tag": (
        lambda aws, scope: aws("iam").untag_open_id_connect_provider(
            OpenIDConnectProviderArn=provider_arn(scope), TagKeys=["twinops:owner"]
        ),
        "update oidc_provider: tags",
    ),
    "the deploy role trusts everybody": (
        lambda aws, scope: aws("iam").update_assume_role_policy(
            RoleName=scope.names.role("deploy"),
            PolicyDocument=policy({"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}),
        ),
        "update role: trust",
    ),
    "the deploy role may do more": (
        lambda aws, scope: aws("iam").put_role_policy(
            RoleName=scope.names.role("deploy"), PolicyName="more", PolicyDocument=ANYTHING
        ),
        "update role: policies",
    ),
    "a policy of the deploy role may do more": (widen("deploy-storage"), "update managed_policy: document"),
    "the state bucket keeps no versions": (
        lambda aws, scope: aws("s3").put_bucket_versioning(
            Bucket=scope.names.bucket("state"), VersioningConfiguration={"Status": "Suspended"}
        ),
        "update bucket: versioning",
    ),
}


def provider_arn(scope: Scope) -> str:
    return f"arn:aws:iam::{scope.account}:oidc-provider/gitlab.plant.test"


@pytest.mark.parametrize("title", BOOTSTRAP_DRIFT)
def test_drift_of_the_bootstrap(
    title: str, production: Environment, aws: Aws, bootstrapped: tuple[Resource, ...]
) -> None:
    tamper, expected = BOOTSTRAP_DRIFT[title]
    tamper(aws, production.scope)
    seen, writes = production.writes_of(lambda: production.reconcile(bootstrapped, apply=False, parts=("bootstrap",)))
    assert [f"{it['action']} {it['kind']}: {' '.join(it['fields'])}" for it in seen["changes"]] == [expected]
    assert writes == []
    assert production.reconcile(bootstrapped, parts=("bootstrap",))["changes"] == seen["changes"]
    assert production.reconcile(bootstrapped, apply=False, parts=("bootstrap",))["changes"] == []


def test_another_gitlab_leaves_the_first_as_an_orphan(
    production: Environment, bootstrapped: tuple[Resource, ...]
) -> None:
    moved = made(production, url="https://git.plant.test")
    found = production.reconcile(moved, parts=("bootstrap",))
    assert found["orphans"] == [{"kind": "oidc_provider", "name": "gitlab.plant.test"}]
    pruned = production.reconcile(moved, parts=("bootstrap",), prune=True)
    assert [(each["action"], each["name"]) for each in pruned["changes"]] == [("delete", "gitlab.plant.test")]
    production.remove(moved)


def test_a_policy_of_an_earlier_commit_goes_from_the_role_that_has_it(
    production: Environment, aws: Aws, bootstrapped: tuple[Resource, ...]
) -> None:
    scope, tags = production.scope, [{"Key": key, "Value": value} for key, value in production.scope.names.tags.items()]
    name = scope.names.policy("deploy-earlier")
    arn = aws("iam").create_policy(PolicyName=name, PolicyDocument=ANYTHING, Tags=tags)["Policy"]["Arn"]
    aws("iam").attach_role_policy(RoleName=scope.names.role("deploy"), PolicyArn=arn)
    seen = production.reconcile(bootstrapped, apply=False, parts=("bootstrap",))
    assert seen["orphans"] == [{"kind": "managed_policy", "name": name}]
    pruned = production.reconcile(bootstrapped, parts=("bootstrap",), prune=True)["changes"]
    assert [(each["action"], each["kind"]) for each in pruned] == [("delete", "managed_policy"), ("update", "role")]
    assert production.reconcile(bootstrapped, parts=("bootstrap",))["changes"] == []


def test_an_interrupted_bootstrap_is_completed(production: Environment, aws: Aws) -> None:
    """What a run leaves that was killed after the first call of each creation."""
    scope, resources = production.scope, made(production)
    aws("iam").create_open_id_connect_provider(Url=GITLAB["url"], ClientIDList=[GITLAB["audience"]])
    aws("iam").create_policy(PolicyName=scope.names.policy("boundary"), PolicyDocument=ANYTHING)
    aws("iam").create_role(
        RoleName=scope.names.role("deploy"),
        AssumeRolePolicyDocument=policy(
            {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ),
    )
    changes = production.reconcile(resources, parts=("bootstrap",))["changes"]
    updated = {each["kind"] for each in changes if each["action"] == "update"}
    assert updated == {"oidc_provider", "managed_policy", "role"}
    assert production.reconcile(resources, apply=False, parts=("bootstrap",))["changes"] == []
    production.remove(resources)
    assert observe(production.aws, {(each.kind, each.name) for each in resources}) == {}


# ---- another environment


EXTERNAL_ID = "made-up-by-us"


@pytest.fixture
def target(staging: Environment, production: Environment) -> Iterator[str]:
    """Production trusts staging's mlops role, and staging lets it: as a tools account and a target do."""
    arn = production.scope.role_arn("mlops")
    staging.reconcile(staging.resources("env", env={"targets": [arn]}))
    tools = {"role_arn": staging.scope.role_arn("mlops"), "external_id": EXTERNAL_ID}
    trusting = production.resources("env", env={"tools": tools, "trusted_principals": ["arn:aws:iam::1:role/nobody"]})
    production.reconcile(trusting)
    yield arn
    production.remove(trusting)
    staging.reconcile(staging.resources("env"))


def assume_from_staging(own: OwnSandbox, aws: Aws, scope: Scope, role: str, arn: str, **options: str) -> str:
    """The ARN that ``role`` of staging becomes by assuming ``arn``."""
    keys = aws("sts").assume_role(RoleArn=scope.role_arn(role), RoleSessionName="tools")["Credentials"]
    sts = boto3.client(
        "sts",
        region_name=scope.region,
        endpoint_url=own.settings.endpoint_url,
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"],
    )
    return str(sts.assume_role(RoleArn=arn, RoleSessionName="person", **options)["AssumedRoleUser"]["Arn"])


def test_the_tools_account_operates_another_environment(
    own_sandbox: OwnSandbox, aws: Aws, staging: Environment, target: str
) -> None:
    become = assume_from_staging(own_sandbox, aws, staging.scope, "mlops", target, ExternalId=EXTERNAL_ID)
    assert ":assumed-role/twinops-production-mlops/" in become


@pytest.mark.parametrize("options", [{}, {"ExternalId": "guessed"}], ids=["no identifier", "another identifier"])
def test_without_the_identifier_nobody_gets_in(
    own_sandbox: OwnSandbox, aws: Aws, staging: Environment, target: str, options: dict[str, str]
) -> None:
    with pytest.raises(ClientError, match="AccessDenied"):
        assume_from_staging(own_sandbox, aws, staging.scope, "mlops", target, **options)


def test_without_its_own_policy_the_tools_account_does_not_get_in(
    own_sandbox: OwnSandbox, aws: Aws, staging: Environment, target: str
) -> None:
    staging.reconcile(staging.resources("env"))
    with pytest.raises(ClientError, match="AccessDenied"):
        assume_from_staging(own_sandbox, aws, staging.scope, "mlops", target, ExternalId=EXTERNAL_ID)


def test_the_boundary_holds_whatever_a_role_is_given(own_sandbox: OwnSandbox, staging: Environment, aws: Aws) -> None:
    """Somebody gives the deployment twin everything: it still reads no other bucket."""
    scope, stranger = staging.scope, "payroll-of-the-company"
    aws("s3").create_bucket(Bucket=stranger, CreateBucketConfiguration={"LocationConstraint": scope.region})
    aws("s3").put_object(Bucket=stranger, Key="salaries", Body=b"x")
    aws("iam").put_role_policy(RoleName=role_of(scope), PolicyName="everything", PolicyDocument=ANYTHING)
    try:
        keys = json.loads(_credentials(own_sandbox, role_of(scope)))
        s3 = boto3.client(
            "s3",
            region_name=scope.region,
            endpoint_url=own_sandbox.settings.endpoint_url,
            aws_access_key_id=keys["AccessKeyId"],
            aws_secret_access_key=keys["SecretAccessKey"],
            aws_session_token=keys["Token"],
        )
        with pytest.raises(ClientError, match="AccessDenied"):
            s3.get_object(Bucket=stranger, Key="salaries")
    finally:
        staging.reconcile(staging.resources())


def _credentials(own: OwnSandbox, role: str) -> bytes:
    with urllib.request.urlopen(f"{own.settings.endpoint_url}/_sandbox/credentials/{role}", timeout=10) as answer:  # noqa: S310
        return bytes(answer.read())
