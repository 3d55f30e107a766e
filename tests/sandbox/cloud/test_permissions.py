"""Who may what, with IAM enforced."""

from __future__ import annotations

import dataclasses
import functools
import json
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from twinops.resources import Scope

from tests.sandbox.cloud.support import CODE, LAYER, Deployment, Environment, found_by_botocore
from tests.sandbox.support import OwnSandbox

pytestmark = pytest.mark.sandbox


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


def get(bucket: str, key: str, env: str = "staging") -> Act:
    return lambda client, scope: client("s3").get_object(
        Bucket=dataclasses.replace(scope, env=env).names.bucket(bucket), Key=key
    )


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


def change_item(pk: str, sk: str) -> Act:
    """A change whose condition may not hold: whether it was allowed is what counts."""

    def change(client: Callable[[str], Any], scope: Scope) -> None:
        dynamodb = client("dynamodb")
        try:
            dynamodb.update_item(
                TableName=scope.names.ledger,
                Key={"pk": {"S": pk}, "sk": {"S": sk}},
                UpdateExpression="SET cancelled_by = :by",
                ConditionExpression="attribute_exists(pk)",
                ExpressionAttributeValues={":by": {"S": "Ada"}},
            )
        except dynamodb.exceptions.ConditionalCheckFailedException:
            return

    return change


def log_stream(group: Callable[[Scope], str]) -> Act:
    return lambda client, scope: client("logs").create_log_stream(
        logGroupName=group(scope), logStreamName=f"stream-{id(client)}"
    )


def put_events(*events: tuple[str, str]) -> Act:
    entries = [{"Source": source, "DetailType": kind, "Detail": "{}"} for source, kind in events]
    return lambda client, scope: client("events").put_events(Entries=entries)


def query(cluster: str) -> Act:
    return lambda client, scope: client("redshift-data").execute_statement(
        ClusterIdentifier=cluster, Database="plant", DbUser="twinops", Sql="select 1"
    )


def replace_summary(client: Callable[[str], Any], scope: Scope) -> None:
    """What ``toolbox.data.Redshift.replace`` does."""
    client("redshift-data").batch_execute_statement(
        ClusterIdentifier="twinops-sandbox",
        Database="plant",
        DbUser="twinops",
        Sqls=["create table if not exists tried_out (day varchar)", "delete from tried_out where day = :v0"],
        Parameters=[{"name": "v0", "value": "2026-11-23"}],
    )


ALLOWED: dict[str, tuple[str, Act]] = {
    "the deployment twin replaces a summary": ("deployment-twin", replace_summary),
    "a device stores decisions": ("device", put("data", "decisions/device=device-001/1.jsonl.gz")),
    "a device stores facts": ("device", put("data", "facts/device-001/latest.json")),
    "a device raises an alarm": ("device", put_events(("twinops.device", "Device alarm"))),
    "the deployment twin reads decisions": ("deployment-twin", get("data", "decisions/seed")),
    "the deployment twin stores reports": ("deployment-twin", put("reports", "drift_report/1/report.html")),
    "the deployment twin registers models": ("deployment-twin", put("models", "registry/m/00000001.json")),
    "the deployment twin registers data": ("deployment-twin", put("data", "datasets/readings/1.json")),
    "the deployment twin keeps summaries": ("deployment-twin", put("data", "summaries/drift/2026-11-23.parquet")),
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

ALLOWED |= {
    f"{who} cancel a run: its {what}": (role, change_item(*key))
    for who, role in (("people", "mlops"), ("those at the development twin", "development-twin"))
    for what, key in {"item": ("run#ab12", "run"), "turn": ("workflow#drift_report", "turn")}.items()
}

OURS = [{"Key": "twinops:environment", "Value": "staging"}]


def put_rule(name: Callable[[Scope], str], **arguments: Any) -> Act:
    return lambda client, scope: client("events").put_rule(
        Name=name(scope), ScheduleExpression="rate(1 day)", **arguments
    )


def create_function(role: str, **arguments: Any) -> Act:
    return lambda client, scope: client("lambda").create_function(
        FunctionName=scope.names.function("tried-out"),
        Runtime="python3.12",
        Handler="dispatch.handler.dispatch",
        Role=scope.role_arn(role),
        Code={"ZipFile": CODE},
        **arguments,
    )


def make_and_remove(client: Callable[[str], Any], scope: Scope) -> None:
    """What somebody does who tries a workflow out: rule, target, function, layer, log group."""
    events, functions, logs = client("events"), client("lambda"), client("logs")
    rule, group = scope.names.rule("tried_out"), scope.names.workflow_log_group("tried_out")
    put_rule(lambda scope: scope.names.rule("tried_out"), Tags=OURS)(client, scope)
    events.put_targets(Rule=rule, Targets=[{"Id": "1", "Arn": scope.function_arn("dispatch")}])
    events.remove_targets(Rule=rule, Ids=["1"])
    events.delete_rule(Name=rule)
    create_function("dispatch", Tags={"twinops:environment": "staging"})(client, scope)
    functions.update_function_code(FunctionName=scope.names.function("tried-out"), ZipFile=CODE)
    functions.delete_function(FunctionName=scope.names.function("tried-out"))
    layer = scope.names.layer + "-tried-out"
    version = functions.publish_layer_version(LayerName=layer, Content={"ZipFile": LAYER})["Version"]
    functions.delete_layer_version(LayerName=layer, VersionNumber=version)
    logs.create_log_group(logGroupName=group, tags={"twinops:environment": "staging"})
    logs.put_retention_policy(logGroupName=group, retentionInDays=1)
    logs.delete_log_group(logGroupName=group)


ALLOWED |= {
    "the development twin tries a workflow out": ("development-twin", make_and_remove),
    "the development twin reads decisions": ("development-twin", get("data", "decisions/seed")),
    "the development twin queries the plant": ("development-twin", query("twinops-sandbox")),
}

DENIED: dict[str, tuple[str, Act]] = {
    "a device reads decisions": ("device", get("data", "decisions/seed")),
    "a device tells of a rollout": ("device", put_events(("twinops", "Rollout finished"))),
    "a device raises an alarm of another kind": ("device", put_events(("twinops.device", "Rollout finished"))),
    "a device hides another event behind an alarm": (
        "device",
        put_events(("twinops.device", "Device alarm"), ("twinops", "Rollout finished")),
    ),
    "a device reads facts": ("device", get("data", "facts/device-001/latest.json")),
    "a device stores elsewhere": ("device", put("data", "labels/1")),
    "a device stores models": ("device", put("models", "tuf/root.json")),
    "the deployment twin publishes releases": ("deployment-twin", put("models", "tuf/metadata/timestamp.json")),
    "the deployment twin removes an event of the registry": (
        "deployment-twin",
        lambda client, scope: client("s3").delete_object(
            Bucket=scope.names.bucket("models"), Key="registry/m/00000001.json"
        ),
    ),
    "the development twin registers models": ("development-twin", put("models", "registry/m/00000002.json")),
    "the development twin registers data": ("development-twin", put("data", "datasets/readings/2.json")),
    "the development twin keeps summaries": ("development-twin", put("data", "summaries/drift/1.parquet")),
    "a device registers models": ("device", put("models", "registry/m/00000003.json")),
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
    "the development twin makes a rule of somebody else": (
        "development-twin",
        put_rule(lambda _: "payroll", Tags=OURS),
    ),
    "the development twin makes a rule of production": (
        "development-twin",
        put_rule(lambda _: "twinops-production-mine", Tags=OURS),
    ),
    "the development twin makes a rule without our tag": (
        "development-twin",
        put_rule(lambda scope: scope.names.rule("mine")),
    ),
    "the development twin removes a rule that is not tagged": (
        "development-twin",
        lambda client, scope: client("events").delete_rule(Name=scope.names.rule("strangers")),
    ),
    "the development twin passes another role": (
        "development-twin",
        create_function("deployment-twin", Tags={"twinops:environment": "staging"}),
    ),
    "the development twin makes a function without our tag": ("development-twin", create_function("dispatch")),
    "the development twin removes the log of somebody else": (
        "development-twin",
        lambda client, scope: client("logs").delete_log_group(logGroupName="/aws/lambda/payroll"),
    ),
    "the development twin makes a role": (
        "development-twin",
        lambda client, scope: client("iam").create_role(
            RoleName=scope.names.role("mine"), AssumeRolePolicyDocument="{}"
        ),
    ),
    "the deployment twin makes a function": ("deployment-twin", create_function("dispatch")),
    "the deployment twin removes a log group": (
        "deployment-twin",
        lambda client, scope: client("logs").delete_log_group(
            logGroupName=scope.names.workflow_log_group("drift_report")
        ),
    ),
    "the deployment twin reads production's decisions": (
        "deployment-twin",
        get("data", "decisions/seed", env="production"),
    ),
    "the development twin reads production's decisions": (
        "development-twin",
        get("data", "decisions/seed", env="production"),
    ),
    "people read production's decisions": ("mlops", get("data", "decisions/seed", env="production")),
    "people change roles": (
        "mlops",
        lambda client, scope: client("iam").delete_role_policy(
            RoleName=scope.names.role("device"), PolicyName=scope.names.role("device")
        ),
    ),
    "people rewrite the ledger": ("mlops", put_claim),
}
DENIED |= {
    f"{who} change {what}": (role, change_item(*key))
    for who, role in (("people", "mlops"), ("those at the development twin", "development-twin"))
    for what, key in {
        "what a device runs": ("device#device-001", "2026-11-22T05:00:00.000000Z#1"),
        "a rollout": ("rollout#1", "rollout"),
    }.items()
}


@pytest.fixture(scope="module")
def seeded(own_sandbox: OwnSandbox, deployment: Deployment, aws: Callable[[str], Any]) -> Iterator[None]:
    """An object to read in staging, and a bucket of production to stay out of."""
    aws("s3").put_object(Bucket=deployment.environment.scope.names.bucket("data"), Key="decisions/seed", Body=b"x")
    with found_by_botocore(own_sandbox):  # it is made before the fixtures of a test
        production = Environment(own_sandbox, "production")
        buckets = production.resources("storage")
        production.reconcile(buckets)
    aws("s3").put_object(Bucket=production.scope.names.bucket("data"), Key="decisions/seed", Body=b"x")
    rule = deployment.environment.scope.names.rule("strangers")
    aws("events").put_rule(Name=rule, ScheduleExpression="rate(1 day)")
    yield
    aws("events").delete_rule(Name=rule)
    with found_by_botocore(own_sandbox):
        production.remove(buckets)


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
    """All but the scheduler's, which only Scheduler can take: what it is denied is in test_dispatch.py."""
    roles = {each.name for each in staging.resources("env") if each.kind == "role"}
    tried = {*(role for role, _ in DENIED.values()), "scheduler"}
    assert {staging.scope.names.role(role) for role in tried} == roles
