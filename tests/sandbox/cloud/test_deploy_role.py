"""A life of an environment under its deploy role alone, with IAM enforced; and the same with a statement missing."""

from __future__ import annotations

import copy
import dataclasses
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from twinops import deploy_policies
from twinops.resources import Scope

from sandbox.settings import ACCOUNT, REGION
from tests.sandbox.dispatching import make_repository
from tests.sandbox.support import OwnSandbox, eventually, run_program
from tests.sandbox.tokens import Issuer

pytestmark = pytest.mark.sandbox

SCOPE = Scope("sandbox", ACCOUNT, REGION)
ROLE = SCOPE.role_arn("deploy")
ISSUER = "https://gitlab.example.com"
TOKEN_LIFETIME_S = 4 * 3600
PLAYBOOK_TIMEOUT_S = 600
# A gate that looks at a few seconds shows as much here as one that looks at minutes.
QUICK = {"edge_gate_bake_s": 10}
# Twins start a real Jupyter, which takes longer than all the rest.
WITHOUT_TWINS = {"twins_instances": []}

# What takes rights that the other workflows need not.
ZONED = {
    "workflow.yml": "description: Counts.\nowner: mlops@example.com\nentrypoint: run.py\ntimeout_s: 60\n"
    "schedule: cron(0 5 * * ? *)\ntimezone: Europe/Berlin\n",
    "run.py": "",
}

UNSEEN = {
    "ConnectTwins": "the sandbox's SageMaker makes the interface by itself: AWS makes it in the caller's name "
    "(SageMaker's developer guide, API permissions: CreateNotebookInstance with a VPC)",
    "NameEndpoints": "the sandbox has no Route 53: AWS asks for it where an endpoint gets the service's own name",
}
"""Statements that the sandbox cannot show to be needed, and why AWS needs them."""


def statements() -> dict[str, str]:
    """Sid -> part, of every statement of the deploy role."""
    documents = deploy_policies.by_part(SCOPE)
    return {statement["Sid"]: part for part, document in documents.items() for statement in document["Statement"]}


class Pipeline:
    """What a job of the pipeline runs, and what the administrator does."""

    def __init__(self, sandbox: OwnSandbox) -> None:
        self.sandbox = sandbox
        self.environment = {**sandbox.environment, "ANSIBLE_NOCOLOR": "1"}
        self.repository = sandbox.settings.home / "repository"
        make_repository(self.repository, {"zoned": ZONED})
        folder = sandbox.settings.home / "oidc"
        folder.mkdir(exist_ok=True)
        issuer = Issuer(ISSUER)
        (folder / "gitlab.json").write_text(json.dumps(issuer.key_set))
        self.issuer, self.token = issuer, sandbox.home / "token"
        self.renew()

    def renew(self, **claims: Any) -> None:
        """A token as GitLab gives one to a job on the protected branch; ``claims`` are others."""
        subject = "project_path:plant/twinops:ref_type:branch:ref:main"
        expires_at = int(time.time()) + TOKEN_LIFETIME_S
        self.token.write_text(self.issuer.token(**{"aud": ISSUER, "sub": subject, "exp": expires_at, **claims}))

    @property
    def web_identity(self) -> dict[str, str]:
        """The environment of a job: a role and a token, no keys and no profile."""
        return {
            "AWS_ROLE_ARN": ROLE,
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(self.token),
            "AWS_ENDPOINT_URL": self.sandbox.settings.endpoint_url,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def deploy(self, playbook: str, *arguments: str, ok: bool = True, **variables: Any) -> str:
        return self.run(playbook, *arguments, ok=ok, aws_environment=self.web_identity, **variables)

    def run(self, playbook: str, *arguments: str, ok: bool = True, **variables: Any) -> str:
        """The output of a run that must succeed, or, with ``ok`` false, fail."""
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        repository = dict.fromkeys(("twinops_repository", "twins_repository"), str(self.repository))
        given = {**QUICK, **repository, **variables}
        argv = [program, playbook, "-l", "sandbox", "-e", json.dumps(given), *arguments]
        done = run_program(*argv, environment=self.environment, timeout_s=PLAYBOOK_TIMEOUT_S)
        assert (done.returncode == 0) is ok, f"{playbook} exited with {done.returncode}\n{done.stdout[-6000:]}"
        return done.stdout

    def decisions(self) -> list[dict[str, Any]]:
        """Of IAM, about the deploy role."""
        lines = (self.sandbox.settings.home / "decisions.jsonl").read_text().splitlines()
        found = [json.loads(line) for line in lines]
        return [each for each in found if ":assumed-role/twinops-sandbox-deploy/" in each["principal"]]

    def calls(self) -> list[dict[str, Any]]:
        return self.sandbox.calls()


def changed(output: str) -> int:
    return sum(int(part.partition("=")[2]) for part in output.split() if part.startswith("changed="))


@dataclasses.dataclass(frozen=True)
class Life:
    """What the pipeline was told, step by step, and who made the calls of which services."""

    pipeline: Pipeline
    output: dict[str, str]
    decisions: list[dict[str, Any]]
    writers: Counter[str]


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Pipeline]:
    own = OwnSandbox(devices=3)
    try:
        own.json("up")
        yield Pipeline(own)
    finally:
        own.remove()


@pytest.fixture(scope="module")
def life(pipeline: Pipeline) -> Life:
    """The administrator bootstraps the account; then the pipeline alone creates, repeats, repairs and removes."""
    output = {"bootstrap": pipeline.run("playbooks/bootstrap.yml")}
    first = len(pipeline.calls())
    output["check of nothing"] = pipeline.deploy("site.yml", "--check", "--diff", "--tags", "cloud")
    output["create"] = pipeline.deploy("site.yml")
    output["no-op"] = pipeline.deploy("site.yml")
    output["check"] = pipeline.deploy("site.yml", "--check", "--diff")
    output["tell"] = pipeline.deploy("playbooks/tell.yml", subject="It is done", text_file=str(Path(__file__)))
    calls = pipeline.calls()[first:]
    _tamper(pipeline.sandbox)
    output["repair"] = pipeline.deploy("site.yml", "--tags", "cloud")
    output["teardown"] = pipeline.deploy("playbooks/teardown.yml", with_data=True)
    writers = Counter(call["caller"] for call in calls if call["write"] and call["service"] in ("iam", "ec2", "lambda"))
    return Life(pipeline, output, pipeline.decisions(), writers)


def _tamper(sandbox: OwnSandbox) -> None:
    """What somebody does by hand: each repair takes another call."""
    rule = SCOPE.names.rule("model_evaluation")
    tags = [{"Key": "twinops:owner", "Value": "somebody"}]
    vpc = sandbox.client("ec2").describe_vpcs(Filters=[{"Name": "tag:twinops:owner", "Values": ["twinops"]}])
    sandbox.client("ec2").create_tags(Resources=[vpc["Vpcs"][0]["VpcId"]], Tags=tags)
    sandbox.client("events").disable_rule(Name=rule)
    sandbox.client("iam").update_role(RoleName=SCOPE.names.role("mlops"), MaxSessionDuration=7200)
    key = sandbox.client("kms").describe_key(KeyId=f"alias/{SCOPE.names.key}")["KeyMetadata"]["KeyId"]
    sandbox.client("kms").tag_resource(KeyId=key, Tags=[{"TagKey": "twinops:owner", "TagValue": "somebody"}])
    sandbox.client("sns").subscribe(TopicArn=SCOPE.topic_arn, Protocol="email", Endpoint="stranger@example.com")
    eventually(lambda: _is_confirmed(sandbox, "stranger@example.com"))
    host = [{"Name": "tag:Name", "Values": [SCOPE.names.host]}]
    instances = sandbox.client("ec2").describe_instances(Filters=host)["Reservations"][0]["Instances"]
    sandbox.client("ec2").modify_instance_metadata_options(
        InstanceId=instances[0]["InstanceId"], HttpPutResponseHopLimit=2
    )


def _is_confirmed(sandbox: OwnSandbox, address: str) -> bool:
    listed = sandbox.client("sns").list_subscriptions_by_topic(TopicArn=SCOPE.topic_arn)["Subscriptions"]
    return any(each["Endpoint"] == address and each["SubscriptionArn"].startswith("arn:") for each in listed)


def test_the_administrator_makes_what_the_pipeline_needs(life: Life) -> None:
    assert changed(life.output["bootstrap"]) == 1
    assert changed(life.pipeline.run("playbooks/bootstrap.yml")) == 0


def test_the_pipeline_needs_nobody_else(life: Life) -> None:
    assert "role twinops-sandbox-mlops:" in life.output["check of nothing"]
    assert changed(life.output["create"]) > 1
    assert changed(life.output["no-op"]) == 0
    assert changed(life.output["check"]) == 0
    assert changed(life.output["repair"]) == 1
    assert changed(life.output["teardown"]) == 1
    assert all(":assumed-role/twinops-sandbox-deploy/" in caller for caller in life.writers), life.writers


def test_nothing_was_refused(life: Life) -> None:
    refused = [each for each in life.decisions if each["decision"] != "Allow"]
    assert Counter((each["action"], each["resource"]) for each in refused) == {}


@pytest.mark.parametrize("sid", [sid for sid in statements() if sid not in UNSEEN])
def test_without_this_statement_a_call_would_be_refused(sid: str, life: Life) -> None:
    needing = {each["action"] for each in life.decisions if each["allowed_by"] == [sid]}
    assert needing, f"{sid}: expected a call that only this statement allows"


@pytest.mark.parametrize("sid", UNSEEN)
def test_what_the_sandbox_cannot_show_is_really_unseen(sid: str, life: Life) -> None:
    assert not [each for each in life.decisions if sid in each["allowed_by"]]


@pytest.mark.parametrize("sid", ["PassDispatch", "MakeRolesWithinBoundary", "MakeInOwnNetwork"])
def test_really_without_it_the_pipeline_fails_and_says_why(sid: str, life: Life) -> None:
    """On the endpoint itself: the statement is taken from the policy, and put back by the administrator."""
    pipeline, iam = life.pipeline, life.pipeline.sandbox.client("iam")
    part = statements()[sid]
    document = copy.deepcopy(deploy_policies.by_part(SCOPE)[part])
    document["Statement"] = [each for each in document["Statement"] if each["Sid"] != sid]
    iam.create_policy_version(
        PolicyArn=SCOPE.policy_arn(f"deploy-{part}"), PolicyDocument=json.dumps(document), SetAsDefault=True
    )
    output = pipeline.deploy("site.yml", "--tags", "cloud", ok=False, **WITHOUT_TWINS)
    assert "AccessDenied" in output or "UnauthorizedOperation" in output
    assert "playbooks/bootstrap.yml" in " ".join(output.split()), "what to do"
    assert changed(pipeline.run("playbooks/bootstrap.yml")) == 1
    pipeline.deploy("playbooks/teardown.yml", with_data=True, **WITHOUT_TWINS)


def test_a_role_that_is_to_be_allowed_more_waits_for_the_administrator(life: Life) -> None:
    more = {"env_targets": ["arn:aws:iam::210987654321:role/twinops-production-mlops"]}
    refused = life.pipeline.deploy("site.yml", "--tags", "env", ok=False, **more)
    said = " ".join(refused.split())
    assert "managed_policy twinops-sandbox-boundary: CreatePolicyVersion: AccessDenied" in said
    assert "let the administrator run playbooks/bootstrap.yml" in said
    life.pipeline.run("playbooks/bootstrap.yml", **more)
    life.pipeline.deploy("site.yml", "--tags", "env", **more)
    life.pipeline.run("playbooks/bootstrap.yml")
    life.pipeline.deploy("playbooks/teardown.yml", with_data=True)


@cache
def _client(pipeline: Pipeline, service: str) -> Any:
    sts = boto3.client("sts", region_name=REGION, endpoint_url=pipeline.sandbox.settings.endpoint_url)
    keys = sts.assume_role_with_web_identity(
        RoleArn=ROLE, RoleSessionName="test", WebIdentityToken=pipeline.token.read_text()
    )["Credentials"]
    return boto3.client(
        service,
        region_name=REGION,
        endpoint_url=pipeline.sandbox.settings.endpoint_url,
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"],
    )


ANYTHING = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]}
)
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
)

REFUSED = {
    "widen the boundary": lambda aws: aws("iam").create_policy_version(
        PolicyArn=SCOPE.policy_arn("boundary"), PolicyDocument=ANYTHING, SetAsDefault=True
    ),
    "widen its own policy": lambda aws: aws("iam").create_policy_version(
        PolicyArn=SCOPE.policy_arn("deploy-storage"), PolicyDocument=ANYTHING, SetAsDefault=True
    ),
    "give itself a policy": lambda aws: aws("iam").put_role_policy(
        RoleName=SCOPE.names.role("deploy"), PolicyName="more", PolicyDocument=ANYTHING
    ),
    "trust somebody else with itself": lambda aws: aws("iam").update_assume_role_policy(
        RoleName=SCOPE.names.role("deploy"), PolicyDocument=TRUST
    ),
    "make a role without the boundary": lambda aws: aws("iam").create_role(
        RoleName=SCOPE.names.role("dispatch"), AssumeRolePolicyDocument=TRUST
    ),
    "make a role of production": lambda aws: aws("iam").create_role(
        RoleName="twinops-production-dispatch",
        AssumeRolePolicyDocument=TRUST,
        PermissionsBoundary=SCOPE.policy_arn("boundary"),
    ),
    "make a role of another name": lambda aws: aws("iam").create_role(
        RoleName="twinops-sandbox-mine",
        AssumeRolePolicyDocument=TRUST,
        PermissionsBoundary=SCOPE.policy_arn("boundary"),
    ),
    "make a bucket of production": lambda aws: aws("s3").create_bucket(
        Bucket=f"twinops-production-models-{ACCOUNT}", CreateBucketConfiguration={"LocationConstraint": REGION}
    ),
    "change the state bucket": lambda aws: aws("s3").delete_bucket_policy(Bucket=SCOPE.names.bucket("state")),
    "make a network that is not tagged": lambda aws: aws("ec2").create_vpc(CidrBlock="10.9.0.0/16"),
    "tag what is there as the environment's": lambda aws: aws("ec2").create_tags(
        Resources=["vpc-0123456789abcdef0"], Tags=[{"Key": "twinops:environment", "Value": "sandbox"}]
    ),
    "make a rule of another application": lambda aws: aws("events").put_rule(
        Name="payroll", ScheduleExpression="rate(1 day)"
    ),
    "make a key that is not tagged": lambda aws: aws("kms").create_key(),
}


@pytest.mark.parametrize("what", REFUSED)
def test_it_cannot(what: str, life: Life) -> None:
    with pytest.raises(ClientError) as refused:
        REFUSED[what](lambda service: _client(life.pipeline, service))
    code = refused.value.response["Error"]["Code"]
    assert code.startswith(("AccessDenied", "UnauthorizedOperation")), refused.value


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "project_path:plant/twinops:ref_type:branch:ref:feature"},
        {"sub": "project_path:plant/other:ref_type:branch:ref:main"},
        {"sub": "project_path:plant/twinops:ref_type:tag:ref:main"},
        {"aud": "https://somebody.example.com"},
    ],
    ids=["another branch", "another project", "a tag", "another audience"],
)
def test_the_token_of_another_job_is_refused(claims: dict[str, str], life: Life) -> None:
    life.pipeline.renew(**claims)
    try:
        output = life.pipeline.deploy("site.yml", "--tags", "env", "--check", ok=False)
    finally:
        life.pipeline.renew()
    assert "AssumeRoleWithWebIdentity" in output
