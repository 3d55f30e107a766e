"""Every kind of resource on a real endpoint: plan, create, no-op, drift and repair, prune, remove; who may what.

The resources are those of ``staging`` and ``production``, in the sandbox's account: nobody else uses these names there.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from twinops import archives, desired
from twinops.aws import session
from twinops.aws.reconcile import ApplyError, Family, observe, reconcile, remove
from twinops.aws.session import Aws
from twinops.policies import Redshift
from twinops.resources import LogGroup, Resource, Rule, Scope
from twinops.spec import Workflow

from sandbox.settings import CLONE
from tests.sandbox.support import OwnSandbox, eventually

pytestmark = pytest.mark.sandbox

GIT_SHA = "0" * 40
SCRIPT = "#!/bin/sh\ntrue\n"
PROBE = b'''
"""Does one AWS call with the role of the function, and says what AWS answered."""
import boto3


def dispatch(event, context):
    client = boto3.client(event["service"])
    try:
        getattr(client, event["operation"])(**event["arguments"])
    except client.exceptions.ClientError as error:
        return error.response["Error"]
    return {}


def backup(event, context):
    return event
'''
CODE = archives.zip_bytes({"dispatch/handler.py": PROBE})
LAYER = archives.zip_bytes({"python/websocket/__init__.py": b""})
ARCHIVES = {archives.lambda_sha256(CODE): CODE, archives.sha256(LAYER): LAYER}
DISPATCH = desired.DispatchCode(archives.lambda_sha256(CODE), archives.sha256(LAYER), "python3.12")
REDSHIFT = Redshift("twinops-sandbox", "plant", "twinops")
WAIT_S = 120


def workflow(name: str, **changes: Any) -> Workflow:
    spec = Workflow(
        name=name,
        description=f"Does {name}.",
        owner="mlops@example.com",
        entrypoint="run.py",
        timeout_s=600,
        schedule="cron(0 5 * * ? *)",
        event={"source": ["twinops"], "detail-type": [f"{name} requested"]},
    )
    return dataclasses.replace(spec, **changes)


WORKFLOWS = (workflow("drift_report"), workflow("model_evaluation", schedule=None))


def everything(scope: Scope, workflows: tuple[Workflow, ...] = WORKFLOWS) -> tuple[Resource, ...]:
    """What the roles of playbooks/cloud.yml and workflows.yml declare together."""
    twin = desired.TwinSpec("deployment", "ml.t3.medium", 20, running=True)
    settings = desired.TwinSettings("/nowhere", "HEAD", REDSHIFT)
    buckets = [desired.BucketSpec(purpose, 30) for purpose in ("models", "reports", "data")]
    return (
        *desired.roles(scope, {}, [], REDSHIFT),
        *desired.buckets(scope, {}, buckets),
        *desired.tables(scope, {}, point_in_time_recovery=True),
        *desired.topics(scope, {}, ["mlops@example.com"]),
        *desired.function_log_groups(scope, {}, 90),
        *desired.twins(scope, {}, [twin], settings, SCRIPT),
        *desired.dispatcher(scope, {}, DISPATCH),
        *(desired.workflow_log_group(scope, {}, each, 30) for each in workflows),
        *(desired.rule(scope, {}, each, GIT_SHA) for each in workflows),
    )


def families(scope: Scope) -> tuple[Family, ...]:
    return (
        Family(Rule.kind, scope.names.prefix, desired.WORKFLOW_TAG),
        Family(LogGroup.kind, scope.names.workflow_log_group(""), desired.WORKFLOW_TAG),
    )


class Environment:
    """One environment in the sandbox, as our modules see it."""

    def __init__(self, sandbox: OwnSandbox, env: str) -> None:
        self.sandbox = sandbox
        self.aws = Aws(env)
        self.aws.archives.update(ARCHIVES)
        self.scope = self.aws.scope

    def reconcile(self, resources: tuple[Resource, ...], *, apply: bool = True) -> dict[str, Any]:
        return reconcile(
            self.aws, resources, apply=apply, families=families(self.scope), wait_timeout_s=WAIT_S if apply else 0
        )

    def writes_of(self, action: Callable[[], Any]) -> tuple[Any, list[str]]:
        """The answer of ``action``, and the calls that it made and that write."""
        before = len(self.sandbox.calls())
        answer = action()
        return answer, [call["action"] for call in self.sandbox.calls()[before:] if call["write"]]


@pytest.fixture(scope="module")
def credentials(own_sandbox: OwnSandbox) -> Iterator[None]:
    """boto3's own chain finds the sandbox, as the play's ``environment:`` makes it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in own_sandbox.settings.aws_environment.items():
            patch.setenv(name, value)
        session.session.cache_clear()
        session.client.cache_clear()
        yield
    session.session.cache_clear()
    session.client.cache_clear()


@dataclasses.dataclass
class Deployment:
    environment: Environment
    check: dict[str, Any]
    writes_of_check: list[str]
    created: dict[str, Any]


@pytest.fixture(scope="module")
def deployment(own_sandbox: OwnSandbox, credentials: None) -> Deployment:
    environment = Environment(own_sandbox, "staging")
    resources = everything(environment.scope)
    check, writes = environment.writes_of(lambda: environment.reconcile(resources, apply=False))
    return Deployment(environment, check, writes, environment.reconcile(resources))


@pytest.fixture
def staging(deployment: Deployment) -> Environment:
    return deployment.environment


@pytest.fixture
def production(own_sandbox: OwnSandbox, credentials: None) -> Environment:
    """Another environment in the same account. Who uses it removes what it made."""
    return Environment(own_sandbox, "production")


def test_check_on_nothing_predicts_everything_and_writes_nothing(deployment: Deployment) -> None:
    assert deployment.writes_of_check == []
    names = {(change["kind"], change["name"]) for change in deployment.check["changes"]}
    assert names == {(each.kind, each.name) for each in everything(deployment.environment.scope)}


def test_what_was_predicted_is_what_was_done(deployment: Deployment) -> None:
    assert deployment.created["changes"] == deployment.check["changes"]
    assert deployment.created["diff"] == deployment.check["diff"]


def test_second_run_changes_nothing_and_writes_nothing(staging: Environment) -> None:
    again, writes = staging.writes_of(lambda: staging.reconcile(everything(staging.scope)))
    assert again["changes"] == []
    assert writes == []
    assert not again["changed"]


Tamper = Callable[[Callable[[str], Any], Scope], Any]


def role_of(scope: Scope) -> str:
    return scope.names.role("deployment-twin")


def reports(scope: Scope) -> str:
    return scope.names.bucket("reports")


def function_of(scope: Scope) -> str:
    return scope.names.function("dispatch")


def rule_of(scope: Scope) -> str:
    return scope.names.rule("drift_report")


def wide_policy(scope: Scope) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]})


def open_trust(scope: Scope) -> str:
    statement = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def queue_url(aws: Callable[[str], Any], scope: Scope) -> str:
    return str(aws("sqs").get_queue_url(QueueName=scope.names.dead_letters)["QueueUrl"])


def edit_target(aws: Callable[[str], Any], scope: Scope, **changes: Any) -> None:
    events = aws("events")
    (target,) = events.list_targets_by_rule(Rule=rule_of(scope))["Targets"]
    events.put_targets(Rule=rule_of(scope), Targets=[{**target, **changes}])


def stop_twin(aws: Callable[[str], Any], scope: Scope) -> None:
    sagemaker, name = aws("sagemaker"), scope.names.twin("deployment")
    sagemaker.stop_notebook_instance(NotebookInstanceName=name)
    status = lambda: sagemaker.describe_notebook_instance(NotebookInstanceName=name)["NotebookInstanceStatus"]  # noqa: E731
    eventually(lambda: status() == "Stopped")


def resize_twin(aws: Callable[[str], Any], scope: Scope) -> None:
    stop_twin(aws, scope)
    name = scope.names.twin("deployment")
    aws("sagemaker").update_notebook_instance(
        NotebookInstanceName=name, InstanceType="ml.m5.xlarge", RootAccess="Enabled"
    )
    aws("sagemaker").start_notebook_instance(NotebookInstanceName=name)


def unsubscribe(aws: Callable[[str], Any], scope: Scope) -> None:
    (subscription,) = aws("sns").list_subscriptions_by_topic(TopicArn=scope.topic_arn)["Subscriptions"]
    aws("sns").unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])


# what somebody does by hand -> the change that is planned for it
DRIFT: dict[str, tuple[Tamper, str]] = {
    "a role's policy is widened": (
        lambda aws, scope: aws("iam").put_role_policy(
            RoleName=role_of(scope), PolicyName=role_of(scope), PolicyDocument=wide_policy(scope)
        ),
        "update role: policy",
    ),
    "a role's policy is removed": (
        lambda aws, scope: aws("iam").delete_role_policy(RoleName=role_of(scope), PolicyName=role_of(scope)),
        "update role: policy",
    ),
    "a role trusts everybody": (
        lambda aws, scope: aws("iam").update_assume_role_policy(
            RoleName=role_of(scope), PolicyDocument=open_trust(scope)
        ),
        "update role: trust",
    ),
    "a role's description is edited": (
        lambda aws, scope: aws("iam").update_role(RoleName=role_of(scope), Description="mine"),
        "update role: description",
    ),
    "a role loses a tag": (
        lambda aws, scope: aws("iam").untag_role(RoleName=role_of(scope), TagKeys=["twinops:owner"]),
        "update role: tags",
    ),
    "versioning is suspended": (
        lambda aws, scope: aws("s3").put_bucket_versioning(
            Bucket=reports(scope), VersioningConfiguration={"Status": "Suspended"}
        ),
        "update bucket: versioning",
    ),
    "a bucket is opened to the public": (
        lambda aws, scope: aws("s3").delete_public_access_block(Bucket=reports(scope)),
        "update bucket: public_access_blocked",
    ),
    "plain HTTP is allowed": (
        lambda aws, scope: aws("s3").delete_bucket_policy(Bucket=reports(scope)),
        "update bucket: policy",
    ),
    "old versions are kept for ever": (
        lambda aws, scope: aws("s3").delete_bucket_lifecycle(Bucket=reports(scope)),
        "update bucket: lifecycle",
    ),
    "encryption is changed": (
        lambda aws, scope: aws("s3").put_bucket_encryption(
            Bucket=reports(scope),
            ServerSideEncryptionConfiguration={
                "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]
            },
        ),
        "update bucket: encryption",
    ),
    "a bucket's tags are replaced": (
        lambda aws, scope: aws("s3").put_bucket_tagging(
            Bucket=reports(scope), Tagging={"TagSet": [{"Key": "cost-centre", "Value": "4711"}]}
        ),
        "update bucket: tags",
    ),
    "point-in-time recovery is switched off": (
        lambda aws, scope: aws("dynamodb").update_continuous_backups(
            TableName=scope.names.ledger, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": False}
        ),
        "update table: point_in_time_recovery",
    ),
    "the ledger's index is deleted": (
        lambda aws, scope: aws("dynamodb").update_table(
            TableName=scope.names.ledger, GlobalSecondaryIndexUpdates=[{"Delete": {"IndexName": "kind-at"}}]
        ),
        "update table: indexes",
    ),
    "the ledger is billed by capacity": (
        lambda aws, scope: aws("dynamodb").update_table(
            TableName=scope.names.ledger,
            BillingMode="PROVISIONED",
            ProvisionedThroughput={"ReadCapacityUnits": 1, "WriteCapacityUnits": 1},
            GlobalSecondaryIndexUpdates=[
                {
                    "Update": {
                        "IndexName": "kind-at",
                        "ProvisionedThroughput": {"ReadCapacityUnits": 1, "WriteCapacityUnits": 1},
                    }
                }
            ],
        ),
        "update table: billing",
    ),
    "the ledger loses a tag": (
        lambda aws, scope: aws("dynamodb").untag_resource(ResourceArn=scope.ledger_arn, TagKeys=["twinops:owner"]),
        "update table: tags",
    ),
    "a mail address is unsubscribed": (unsubscribe, "update topic: mail_to"),
    "the topic loses a tag": (
        lambda aws, scope: aws("sns").untag_resource(ResourceArn=scope.topic_arn, TagKeys=["twinops:owner"]),
        "update topic: tags",
    ),
    "dead letters are kept for a minute": (
        lambda aws, scope: aws("sqs").set_queue_attributes(
            QueueUrl=queue_url(aws, scope), Attributes={"MessageRetentionPeriod": "60"}
        ),
        "update queue: retention_s",
    ),
    "the queue refuses undelivered events": (
        lambda aws, scope: aws("sqs").set_queue_attributes(QueueUrl=queue_url(aws, scope), Attributes={"Policy": ""}),
        "update queue: policy",
    ),
    "logs are kept for a day": (
        lambda aws, scope: aws("logs").put_retention_policy(
            logGroupName=scope.names.workflow_log_group("drift_report"), retentionInDays=1
        ),
        "update log_group: retention_days",
    ),
    "logs are kept for ever": (
        lambda aws, scope: aws("logs").delete_retention_policy(logGroupName=scope.names.function_log_group("dispatch")),
        "update log_group: retention_days",
    ),
    "a log group is deleted": (
        lambda aws, scope: aws("logs").delete_log_group(logGroupName=scope.names.workflow_log_group("drift_report")),
        "create log_group: tags retention_days",
    ),
    "a function's code is replaced": (
        lambda aws, scope: aws("lambda").update_function_code(
            FunctionName=function_of(scope), ZipFile=archives.zip_bytes({"dispatch/handler.py": b""})
        ),
        "update function: code_sha256",
    ),
    "a function's configuration is edited": (
        lambda aws, scope: aws("lambda").update_function_configuration(
            FunctionName=function_of(scope),
            Timeout=3,
            MemorySize=128,
            Handler="x.y",
            Description="mine",
            Layers=[],
            Environment={"Variables": {"TWIN": "another"}},
        ),
        "update function: description handler layer memory_mb timeout_s environment",
    ),
    "a function may be invoked by everybody": (
        lambda aws, scope: aws("lambda").add_permission(
            FunctionName=function_of(scope), StatementId="open", Action="lambda:InvokeFunction", Principal="*"
        ),
        "update function: permissions",
    ),
    "rules may not invoke the function": (
        lambda aws, scope: aws("lambda").remove_permission(FunctionName=function_of(scope), StatementId="rules"),
        "update function: permissions",
    ),
    "failures are forgotten": (
        lambda aws, scope: aws("lambda").put_function_event_invoke_config(
            FunctionName=function_of(scope), MaximumRetryAttempts=0, MaximumEventAgeInSeconds=60
        ),
        "update function: retries max_event_age_s on_failure",
    ),
    "a function loses a tag": (
        lambda aws, scope: aws("lambda").untag_resource(
            Resource=scope.function_arn("dispatch"), TagKeys=["twinops:owner"]
        ),
        "update function: tags",
    ),
    "the twin's script is edited": (
        lambda aws, scope: aws("sagemaker").update_notebook_instance_lifecycle_config(
            NotebookInstanceLifecycleConfigName=scope.names.twin("deployment"),
            OnStart=[{"Content": base64.b64encode(b"#!/bin/sh\nfalse\n").decode()}],
        ),
        "update lifecycle_config: on_start",
    ),
    "the twin is stopped": (stop_twin, "update notebook: running"),
    "the twin is resized and opened to root": (resize_twin, "update notebook: instance_type root_access"),
    "the twin loses a tag": (
        lambda aws, scope: aws("sagemaker").delete_tags(
            ResourceArn=scope.twin_arn("deployment"), TagKeys=["twinops:owner"]
        ),
        "update notebook: tags",
    ),
    "a rule is disabled": (lambda aws, scope: aws("events").disable_rule(Name=rule_of(scope)), "update rule: enabled"),
    "a rule's schedule and pattern are edited": (
        lambda aws, scope: aws("events").put_rule(
            Name=rule_of(scope),
            Description="Does drift_report.",
            ScheduleExpression="rate(1 minute)",
            EventPattern=json.dumps({"source": ["somebody"]}),
        ),
        "update rule: schedule pattern",
    ),
    "a rule's target is removed": (
        lambda aws, scope: aws("events").remove_targets(Rule=rule_of(scope), Ids=["dispatch"]),
        "update rule: target input_paths input_template dead_letters",
    ),
    "a rule's target gets another input": (
        lambda aws, scope: edit_target(
            aws, scope, InputTransformer={"InputPathsMap": {"id": "$.id"}, "InputTemplate": '{"workflow": <id>}'}
        ),
        "update rule: input_paths input_template",
    ),
    "a rule gets a second target": (
        lambda aws, scope: aws("events").put_targets(
            Rule=rule_of(scope), Targets=[{"Id": "another", "Arn": scope.function_arn("backup")}]
        ),
        "update rule: target",
    ),
    "a rule loses a tag": (
        lambda aws, scope: aws("events").untag_resource(
            ResourceARN=scope.arn("events", f"rule/{rule_of(scope)}"), TagKeys=["twinops:owner"]
        ),
        "update rule: tags",
    ),
    "a rule is deleted": (
        lambda aws, scope: (
            aws("events").remove_targets(Rule=rule_of(scope), Ids=["dispatch"]),
            aws("events").delete_rule(Name=rule_of(scope)),
        ),
        "create rule: tags description enabled schedule pattern target input_paths input_template dead_letters",
    ),
}


@pytest.mark.parametrize("what", DRIFT)
def test_what_is_changed_by_hand_is_seen_and_repaired(
    what: str, staging: Environment, aws: Callable[[str], Any]
) -> None:
    tamper, expected = DRIFT[what]
    resources = everything(staging.scope)
    tamper(aws, staging.scope)
    try:
        seen, writes = staging.writes_of(lambda: staging.reconcile(resources, apply=False))
    finally:  # the next case starts from what is declared, whatever happened in this one
        repaired = staging.reconcile(resources)
    assert [f"{it['action']} {it['kind']}: {' '.join(it['fields'])}" for it in seen["changes"]] == [expected]
    assert writes == []
    assert seen["diff"]["before"] != seen["diff"]["after"]
    assert repaired["changes"] == seen["changes"]
    assert staging.reconcile(resources, apply=False)["changes"] == []


def test_an_address_that_has_to_confirm_is_a_condition_and_no_change(production: Environment) -> None:
    topics = desired.topics(production.scope, {}, ["newcomer@plant.test"])
    first, again = production.reconcile(topics), production.reconcile(topics)
    pending, ready = again["conditions"]
    assert again["changes"] == []
    assert first["conditions"] == again["conditions"]
    assert (pending["type"], pending["reason"]) == ("Reconciling", "PendingConfirmation")
    assert "newcomer@plant.test" in pending["message"]
    assert ready == {"type": "Ready", "status": False, "reason": "PendingConfirmation"}
    remove(production.aws, topics, apply=True)


def test_a_stranger_is_unsubscribed_once_confirmed(staging: Environment, aws: Callable[[str], Any]) -> None:
    stranger, resources = "stranger@plant.test", everything(staging.scope)
    aws("sns").subscribe(TopicArn=staging.scope.topic_arn, Protocol="email", Endpoint=stranger)
    assert staging.reconcile(resources, apply=False)["changes"] == [], "nobody gets mail before confirming"
    mail = eventually(lambda: next((mail for mail in staging.sandbox.mails() if f"To: {stranger}" in mail), ""))
    with urllib.request.urlopen(re.findall(r"http://\S+", mail)[0], timeout=10) as answer:  # noqa: S310
        assert answer.status == 200
    (change,) = staging.reconcile(resources)["changes"]
    assert (change["kind"], change["fields"]) == ("topic", ["mail_to"])
    subscribers = aws("sns").list_subscriptions_by_topic(TopicArn=staging.scope.topic_arn)["Subscriptions"]
    assert [each["Endpoint"] for each in subscribers] == ["mlops@example.com"]


def test_tags_of_others_are_kept(staging: Environment, aws: Callable[[str], Any]) -> None:
    bucket = staging.scope.names.bucket("models")
    aws("s3").put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "cost-centre", "Value": "4711"}]})
    staging.reconcile(everything(staging.scope))
    tags = {tag["Key"]: tag["Value"] for tag in aws("s3").get_bucket_tagging(Bucket=bucket)["TagSet"]}
    assert tags == {"cost-centre": "4711", **staging.scope.names.tags}


def test_what_belongs_to_a_removed_workflow_goes_and_what_is_not_ours_stays(
    staging: Environment, aws: Callable[[str], Any]
) -> None:
    foreign = staging.scope.names.rule("somebody_elses")
    aws("events").put_rule(Name=foreign, ScheduleExpression="rate(1 day)")
    extra = (*WORKFLOWS, workflow("short_lived"))
    staging.reconcile(everything(staging.scope, extra))
    resources = everything(staging.scope)
    planned = staging.reconcile(resources, apply=False)["changes"]
    assert [(change["action"], change["name"]) for change in planned] == [
        ("delete", staging.scope.names.rule("short_lived")),
        ("delete", staging.scope.names.workflow_log_group("short_lived")),
    ]
    assert staging.reconcile(resources)["changes"] == planned
    rules = [rule["Name"] for rule in aws("events").list_rules(NamePrefix=staging.scope.names.prefix)["Rules"]]
    assert foreign in rules
    assert staging.scope.names.rule("short_lived") not in rules
    aws("events").delete_rule(Name=foreign)


def test_interrupted_creation_is_completed(production: Environment, aws: Callable[[str], Any]) -> None:
    """What a run leaves that was killed after the first call of each creation."""
    scope = production.scope
    bucket, role, group = (
        scope.names.bucket("models"),
        scope.names.role("device"),
        scope.names.function_log_group("backup"),
    )
    region = {"LocationConstraint": scope.region}
    aws("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration=region)
    aws("iam").create_role(RoleName=role, AssumeRolePolicyDocument=open_trust(scope))
    aws("logs").create_log_group(logGroupName=group)
    resources = (
        *desired.buckets(scope, {}, [desired.BucketSpec("models", 30)]),
        *(each for each in desired.roles(scope, {}, [], None) if each.name == role),
        *(each for each in desired.function_log_groups(scope, {}, 30) if each.name == group),
    )
    assert {change["action"] for change in production.reconcile(resources)["changes"]} == {"update"}
    assert production.reconcile(resources, apply=False)["changes"] == []
    remove(production.aws, resources, apply=True)


def test_everything_can_be_removed_and_nothing_remains(production: Environment) -> None:
    resources = everything(production.scope)
    production.reconcile(resources)
    planned, writes = production.writes_of(lambda: remove(production.aws, resources, apply=False))
    assert writes == []
    assert len(planned["changes"]) == len(resources)
    remove(production.aws, resources, apply=True)
    assert observe(production.aws, [(each.kind, each.name) for each in resources]) == {}
    assert remove(production.aws, resources, apply=True)["changes"] == []


def test_data_is_never_removed(production: Environment, aws: Callable[[str], Any]) -> None:
    buckets = desired.buckets(production.scope, {}, [desired.BucketSpec("reports", 30)])
    production.reconcile(buckets)
    aws("s3").put_object(Bucket=buckets[0].name, Key="report.html", Body=b"precious")
    with pytest.raises(ApplyError, match=r"bucket .*DeleteBucket: BucketNotEmpty.*To do: empty it first"):
        remove(production.aws, buckets, apply=True)
    version = aws("s3").list_object_versions(Bucket=buckets[0].name)["Versions"][0]["VersionId"]
    aws("s3").delete_object(Bucket=buckets[0].name, Key="report.html", VersionId=version)
    remove(production.aws, buckets, apply=True)


def test_a_twin_whose_script_fails_is_an_error_that_says_why(production: Environment) -> None:
    scope = production.scope
    twin = desired.TwinSpec("development", "ml.t3.medium", 20, running=True)
    settings = desired.TwinSettings("/nowhere", "HEAD")
    roles = desired.roles(scope, {}, [], None)
    broken = (*roles, *desired.twins(scope, {}, [twin], settings, "#!/bin/sh\nexit 7\n"))
    with pytest.raises(ApplyError, match=f"notebook {scope.names.twin('development')}: Failed: "):
        production.reconcile(broken)
    mended = (*roles, *desired.twins(scope, {}, [twin], settings, SCRIPT))
    assert production.reconcile(mended)["conditions"] == [{"type": "Ready", "status": True, "reason": "AsDeclared"}]
    remove(production.aws, mended, apply=True)


# ---- who may what, with IAM enforced


@dataclasses.dataclass(frozen=True)
class InFunction:
    """Looks like a client of ``service``; its calls are made by the dispatch function, with that function's role."""

    functions: Any
    function: str
    service: str

    def __getattr__(self, operation: str) -> Callable[..., None]:
        def call(**arguments: Any) -> None:
            event = {"service": self.service, "operation": operation, "arguments": arguments}
            answer = self.functions.invoke(FunctionName=self.function, Payload=json.dumps(event))
            said = json.load(answer["Payload"])
            assert "FunctionError" not in answer, said
            if said:
                raise ClientError({"Error": said}, operation)

        return call


@pytest.fixture(scope="module")
def acting_as(own_sandbox: OwnSandbox, deployment: Deployment, aws: Callable[[str], Any]) -> Callable[[str, str], Any]:
    """``acting_as("device", "s3")``: a client with the keys of that role of staging, got as its holder gets them."""
    scope, endpoint = deployment.environment.scope, own_sandbox.settings.endpoint_url

    @functools.cache
    def keys_of(role: str) -> dict[str, str]:
        if role == "mlops":
            arn = scope.role_arn(role)
            keys = aws("sts").assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
            return {**keys, "Token": keys["SessionToken"]}
        url = f"{endpoint}/_sandbox/credentials/{scope.names.role(role)}"
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310
            return dict(json.load(answer))

    @functools.cache
    def make(role: str, service: str) -> Any:
        if role == "dispatch":
            return InFunction(aws("lambda"), scope.names.function("dispatch"), service)
        keys = keys_of(role)
        return boto3.client(
            service,
            aws_access_key_id=keys["AccessKeyId"],
            aws_secret_access_key=keys["SecretAccessKey"],
            aws_session_token=keys["Token"],
            region_name=scope.region,
            endpoint_url=endpoint,
        )

    return make


Act = Callable[[Callable[[str], Any], Scope], Any]


def put(bucket: str, key: str, env: str = "staging") -> Act:
    return lambda client, scope: client("s3").put_object(
        Bucket=dataclasses.replace(scope, env=env).names.bucket(bucket), Key=key, Body="x"
    )


def get(bucket: str, key: str) -> Act:
    return lambda client, scope: client("s3").get_object(Bucket=scope.names.bucket(bucket), Key=key)


def describe(twin: str) -> Act:
    return lambda client, scope: client("sagemaker").describe_notebook_instance(
        NotebookInstanceName=scope.names.twin(twin)
    )


def put_metric(namespace: str) -> Act:
    return lambda client, scope: client("cloudwatch").put_metric_data(
        Namespace=namespace, MetricData=[{"MetricName": "accuracy", "Value": 1.0}]
    )


def put_claim(client: Callable[[str], Any], scope: Scope) -> Any:
    item = {"pk": {"S": "run#1"}, "sk": {"S": "run"}}
    return client("dynamodb").put_item(TableName=scope.names.ledger, Item=item)


def log_stream(group: Callable[[Scope], str]) -> Act:
    return lambda client, scope: client("logs").create_log_stream(
        logGroupName=group(scope), logStreamName=f"stream-{id(client)}"
    )


def query(cluster: str) -> Act:
    return lambda client, scope: client("redshift-data").execute_statement(
        ClusterIdentifier=cluster, Database="plant", DbUser="twinops", Sql="select 1"
    )


ALLOWED: dict[str, tuple[str, Act]] = {
    "a device stores decisions": ("device", put("data", "decisions/device=device-001/1.jsonl.gz")),
    "the deployment twin reads decisions": ("deployment-twin", get("data", "decisions/seed")),
    "the deployment twin stores reports": ("deployment-twin", put("reports", "drift_report/1/report.html")),
    "the deployment twin puts our metrics": ("deployment-twin", put_metric("twinops/staging")),
    "the deployment twin writes run logs": (
        "deployment-twin",
        log_stream(lambda scope: scope.names.workflow_log_group("drift_report")),
    ),
    "the deployment twin queries the plant": ("deployment-twin", query("twinops-sandbox")),
    "the deployment twin publishes": (
        "deployment-twin",
        lambda client, scope: client("sns").publish(TopicArn=scope.topic_arn, Message="done"),
    ),
    "the dispatcher claims runs": ("dispatch", put_claim),
    "the dispatcher sees the deployment twin": ("dispatch", describe("deployment")),
    "the dispatcher invokes the backup": (
        "dispatch",
        lambda client, scope: client("lambda").invoke(FunctionName=scope.names.function("backup"), Payload="{}"),
    ),
    "the dispatcher keeps dead letters": (
        "dispatch",
        lambda client, scope: client("sqs").send_message(
            QueueUrl=f"https://sqs.{scope.region}.amazonaws.com/{scope.account}/{scope.names.dead_letters}",
            MessageBody="undelivered",
        ),
    ),
    "people put events": (
        "mlops",
        lambda client, scope: client("events").put_events(
            Entries=[{"Source": "twinops", "DetailType": "nothing", "Detail": "{}"}]
        ),
    ),
    "people read the ledger": (
        "mlops",
        lambda client, scope: client("dynamodb").query(
            TableName=scope.names.ledger,
            IndexName="kind-at",
            KeyConditionExpression="kind = :kind",
            ExpressionAttributeValues={":kind": {"S": "run"}},
        ),
    ),
}

DENIED: dict[str, tuple[str, Act]] = {
    "a device reads decisions": ("device", get("data", "decisions/seed")),
    "a device stores elsewhere": ("device", put("data", "labels/1")),
    "a device stores models": ("device", put("models", "tuf/root.json")),
    "the deployment twin makes a rule": (
        "deployment-twin",
        lambda client, scope: client("events").put_rule(
            Name=scope.names.rule("mine"), ScheduleExpression="rate(1 day)"
        ),
    ),
    "the deployment twin replaces decisions": ("deployment-twin", put("data", "decisions/seed")),
    "the deployment twin deletes a report": (
        "deployment-twin",
        lambda client, scope: client("s3").delete_object(Bucket=scope.names.bucket("reports"), Key="x"),
    ),
    "the deployment twin puts metrics of others": ("deployment-twin", put_metric("AWS/Billing")),
    "the deployment twin puts metrics of production": ("deployment-twin", put_metric("twinops/production")),
    "the deployment twin writes the dispatcher's logs": (
        "deployment-twin",
        log_stream(lambda scope: scope.names.function_log_group("dispatch")),
    ),
    "the deployment twin claims runs": ("deployment-twin", put_claim),
    "the deployment twin queries another cluster": ("deployment-twin", query("payroll")),
    "the deployment twin stores in production": ("deployment-twin", put("reports", "x", env="production")),
    "the dispatcher sees the development twin": ("dispatch", describe("development")),
    "the dispatcher stops the twin": (
        "dispatch",
        lambda client, scope: client("sagemaker").stop_notebook_instance(
            NotebookInstanceName=scope.names.twin("deployment")
        ),
    ),
    "the dispatcher stores objects": ("dispatch", put("reports", "x")),
    "the development twin stores reports": ("development-twin", put("reports", "x")),
    "the development twin claims runs": ("development-twin", put_claim),
    "people change roles": (
        "mlops",
        lambda client, scope: client("iam").delete_role_policy(
            RoleName=scope.names.role("device"), PolicyName=scope.names.role("device")
        ),
    ),
    "people rewrite the ledger": ("mlops", put_claim),
}


@pytest.fixture(scope="module")
def seeded(own_sandbox: OwnSandbox, deployment: Deployment, aws: Callable[[str], Any]) -> Iterator[None]:
    """An object to read in staging, and a bucket of production to stay out of."""
    aws("s3").put_object(Bucket=deployment.environment.scope.names.bucket("data"), Key="decisions/seed", Body=b"x")
    production = Environment(own_sandbox, "production")
    buckets = desired.buckets(production.scope, {}, [desired.BucketSpec("reports", 30)])
    production.reconcile(buckets)
    yield
    remove(production.aws, buckets, apply=True)


@pytest.mark.parametrize("what", ALLOWED)
def test_allowed(what: str, staging: Environment, seeded: None, acting_as: Callable[[str, str], Any]) -> None:
    role, act = ALLOWED[what]
    act(lambda service: acting_as(role, service), staging.scope)


@pytest.mark.parametrize("what", DENIED)
def test_denied(what: str, staging: Environment, seeded: None, acting_as: Callable[[str, str], Any]) -> None:
    role, act = DENIED[what]
    with pytest.raises(ClientError) as refused:
        act(lambda service: acting_as(role, service), staging.scope)
    assert refused.value.response["Error"]["Code"].startswith("AccessDenied"), refused.value


def test_every_role_is_tried(staging: Environment) -> None:
    roles = {role.name for role in desired.roles(staging.scope, {}, [], None)}
    assert {staging.scope.names.role(role) for role, _ in DENIED.values()} == roles


# ---- the modules, as Ansible calls them


def call_module(sandbox: OwnSandbox, name: str, tmp_path: Path, **arguments: Any) -> tuple[int, str]:
    program = str(Path(sys.executable).with_name("ansible"))
    done = subprocess.run(
        [program, "-i", "localhost,", "-c", "local", "localhost", "-m", name, "-a", json.dumps(arguments)],
        cwd=CLONE,
        env={
            **sandbox.environment,
            **sandbox.settings.aws_environment,
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            "ANSIBLE_LOCAL_TEMP": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("description: [unfinished\n", "workflows/broken/workflow.yml:2: not valid YAML"),
        ("timeout_s: 1\ntimeout_s: 2\n", "workflows/broken/workflow.yml:2: not valid YAML: timeout_s is given twice"),
        ("timeout_s: 0\n", "workflows/broken/workflow.yml: timeout_s: expected 1–43200, got 0"),
    ],
)
def test_a_bad_spec_stops_before_anything_is_touched(
    spec: str, said: str, own_sandbox: OwnSandbox, tmp_path: Path
) -> None:
    folder = tmp_path / "workflows/broken"
    folder.mkdir(parents=True)
    (folder / "workflow.yml").write_text(spec)
    before = len(own_sandbox.calls())
    arguments = {"env": "staging", "repository": str(tmp_path), "git_sha": GIT_SHA}
    exit_code, output = call_module(own_sandbox, "workflows", tmp_path, **arguments)
    assert exit_code != 0
    assert said in output
    assert len(own_sandbox.calls()) == before


def test_what_is_not_committed_stops_or_warns(own_sandbox: OwnSandbox, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git = ["git", "-C", str(clone), "-c", "user.name=t", "-c", "user.email=t@example.com"]
    (clone / "workflows").mkdir(parents=True)
    (clone / "workflows/run.py").write_text("print(1)\n")
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "first"], check=True)
    arguments = {"repository": str(clone), "folders": ["workflows"]}
    exit_code, output = call_module(own_sandbox, "git_revision", tmp_path, **arguments)
    assert exit_code == 0, output
    (clone / "workflows/run.py").write_text("print(2)\n")
    exit_code, output = call_module(own_sandbox, "git_revision", tmp_path, **arguments)
    assert exit_code != 0
    assert "workflows/run.py" in output
    exit_code, output = call_module(own_sandbox, "git_revision", tmp_path, **arguments, uncommitted="warn")
    assert exit_code == 0
    assert "workflows/run.py" in output
