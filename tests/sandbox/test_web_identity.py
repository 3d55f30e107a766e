"""Roles for pipelines: a token of an identity provider, verified as STS does, and what the trust policy asks of it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from sandbox.settings import ACCOUNT, REGION
from tests.sandbox import tokens
from tests.sandbox.support import OwnSandbox, policy

pytestmark = pytest.mark.sandbox

HOST = "gitlab.example.com"
ISSUER = f"https://{HOST}"
AUDIENCE = "https://sts.example.com"
SUBJECT = "project_path:twinops/estate:ref_type:branch:ref:main"


class Issuer(tokens.Issuer):
    """The provider, with tokens of the job that the role trusts."""

    def __init__(self, kid: str = "1") -> None:
        super().__init__(ISSUER, kid)

    def token(self, **claims: Any) -> str:
        return super().token(**{"aud": AUDIENCE, "sub": SUBJECT, **claims})


@pytest.fixture(scope="module")
def issuer(own_sandbox: OwnSandbox) -> Issuer:
    made, folder = Issuer(), own_sandbox.settings.home / "oidc"
    folder.mkdir(exist_ok=True)
    (folder / "gitlab.json").write_text(json.dumps(made.key_set))
    return made


@pytest.fixture(scope="module")
def provider(aws: Callable[[str], Any]) -> Iterator[str]:
    arn = aws("iam").create_open_id_connect_provider(Url=ISSUER, ClientIDList=[AUDIENCE])["OpenIDConnectProviderArn"]
    yield arn
    aws("iam").delete_open_id_connect_provider(OpenIDConnectProviderArn=arn)


@pytest.fixture(scope="module")
def role(aws: Callable[[str], Any], provider: str) -> str:
    trust = {
        "Effect": "Allow",
        "Principal": {"Federated": provider},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {
            "StringEquals": {f"{HOST}:aud": AUDIENCE},
            "StringLike": {f"{HOST}:sub": "project_path:twinops/*:ref_type:branch:ref:main"},
        },
    }
    name = f"deploy-{uuid.uuid4().hex[:8]}"
    made = aws("iam").create_role(RoleName=name, AssumeRolePolicyDocument=policy(trust))["Role"]["Arn"]
    document = policy({"Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*"})
    aws("iam").put_role_policy(RoleName=name, PolicyName="all", PolicyDocument=document)
    return str(made)


@pytest.fixture(scope="module")
def assume(own_sandbox: OwnSandbox) -> Callable[[str, str], Any]:
    url = own_sandbox.settings.endpoint_url
    sts = boto3.client("sts", endpoint_url=url, region_name=REGION, config=Config(signature_version=UNSIGNED))
    return lambda role, token: sts.assume_role_with_web_identity(
        RoleArn=role, RoleSessionName="pipeline-1", WebIdentityToken=token
    )


def code_of(call: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(ClientError) as refused:
        call(*arguments)
    return str(refused.value.response["Error"]["Code"])


def test_a_token_of_the_right_project_takes_the_role(
    own_sandbox: OwnSandbox, issuer: Issuer, role: str, assume: Callable[[str, str], Any]
) -> None:
    answer = assume(role, issuer.token())
    assert (answer["SubjectFromWebIdentityToken"], answer["Provider"]) == (SUBJECT, ISSUER)
    keys = answer["Credentials"]
    session = boto3.Session(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"], REGION)
    url = own_sandbox.settings.endpoint_url
    assert session.client("sts", endpoint_url=url).get_caller_identity()["Arn"].endswith("/pipeline-1")
    session.client("s3", endpoint_url=url).list_buckets()
    assert code_of(session.client("iam", endpoint_url=url).list_roles) == "AccessDenied"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"sub": "project_path:others/estate:ref_type:branch:ref:main"}, "AccessDenied"),
        ({"sub": "project_path:twinops/estate:ref_type:branch:ref:feature"}, "AccessDenied"),
        ({"aud": "somebody else"}, "InvalidIdentityToken"),
        ({"iss": "https://evil.example.com"}, "InvalidIdentityToken"),
        ({"exp": 1}, "ExpiredTokenException"),
        ({"nbf": 99999999999}, "InvalidIdentityToken"),
        ({"sub": ""}, "InvalidIdentityToken"),
    ],
    ids=["project", "branch", "audience", "issuer", "expired", "early", "nobody"],
)
def test_other_tokens_are_refused(
    changes: dict[str, Any], code: str, issuer: Issuer, role: str, assume: Callable[[str, str], Any]
) -> None:
    assert code_of(assume, role, issuer.token(**changes)) == code


def test_a_forged_signature_is_refused(issuer: Issuer, role: str, assume: Callable[[str, str], Any]) -> None:
    header, claims, _ = issuer.token().split(".")
    unsigned = ".".join([tokens.encoded(b'{"alg": "none"}'), claims, ""])
    for token in (
        Issuer().token(),
        Issuer("2").token(),
        f"{header}.{claims}.{tokens.encoded(b'x' * 256)}",
        unsigned,
        "x.y.z",
    ):
        assert code_of(assume, role, token) == "InvalidIdentityToken"


def test_a_client_that_the_provider_lost_is_refused(
    aws: Callable[[str], Any], issuer: Issuer, provider: str, role: str, assume: Callable[[str, str], Any]
) -> None:
    iam, arn = aws("iam"), {"OpenIDConnectProviderArn": provider}
    iam.add_client_id_to_open_id_connect_provider(**arn, ClientID="other")
    iam.remove_client_id_from_open_id_connect_provider(**arn, ClientID=AUDIENCE)
    assert code_of(assume, role, issuer.token()) == "InvalidIdentityToken"
    iam.add_client_id_to_open_id_connect_provider(**arn, ClientID=AUDIENCE)
    assume(role, issuer.token())
    iam.remove_client_id_from_open_id_connect_provider(**arn, ClientID="other")
    assert iam.get_open_id_connect_provider(**arn)["ClientIDList"] == [AUDIENCE]


def test_a_provider_is_changed_and_tagged(aws: Callable[[str], Any], provider: str) -> None:
    iam, arn = aws("iam"), {"OpenIDConnectProviderArn": provider}
    iam.update_open_id_connect_provider_thumbprint(**arn, ThumbprintList=["a" * 40])
    assert iam.get_open_id_connect_provider(**arn)["ThumbprintList"] == ["a" * 40]
    iam.tag_open_id_connect_provider(**arn, Tags=[{"Key": "a", "Value": "<1>"}, {"Key": "b", "Value": "2"}])
    iam.untag_open_id_connect_provider(**arn, TagKeys=["b"])
    assert iam.list_open_id_connect_provider_tags(**arn)["Tags"] == [{"Key": "a", "Value": "<1>"}]
    unknown = f"arn:aws:iam::{ACCOUNT}:oidc-provider/nowhere"
    with pytest.raises(ClientError) as missing:
        iam.list_open_id_connect_provider_tags(OpenIDConnectProviderArn=unknown)
    assert missing.value.response["Error"]["Code"] == "NoSuchEntity"


# ---- roles of other roles


@pytest.mark.parametrize(("external_id", "allowed"), [("secret", True), ("wrong", False), (None, False)])
def test_an_external_id_is_asked_for(aws: Callable[[str], Any], external_id: str | None, allowed: bool) -> None:
    name = f"cross-{uuid.uuid4().hex[:8]}"
    trust = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"sts:ExternalId": "secret"}},
    }
    role = aws("iam").create_role(RoleName=name, AssumeRolePolicyDocument=policy(trust))["Role"]["Arn"]
    arguments = {"RoleArn": role, "RoleSessionName": "session", **({"ExternalId": external_id} if external_id else {})}
    if allowed:
        assert aws("sts").assume_role(**arguments)["Credentials"]["AccessKeyId"].startswith("ASIA")
    else:
        assert code_of(lambda: aws("sts").assume_role(**arguments)) == "AccessDenied"
