"""What somebody changes by hand is seen, shown and repaired, whatever owned field it is."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from twinops import archives
from twinops.resources import Scope

from tests.sandbox.cloud.support import Environment, Tamper, check_drift
from tests.sandbox.support import eventually

pytestmark = pytest.mark.sandbox


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


def edit_schedule(aws: Callable[[str], Any], scope: Scope, **changes: Any) -> None:
    """As the console does: what is not changed stays."""
    named = {"Name": scope.names.schedule("monthly_report"), "GroupName": scope.names.schedule_group}
    found = aws("scheduler").get_schedule(**named)
    kept = ("ScheduleExpression", "ScheduleExpressionTimezone", "FlexibleTimeWindow", "Target", "State", "Description")
    aws("scheduler").update_schedule(**named, **{**{field: found[field] for field in kept}, **changes})


def edit_target_of_schedule(aws: Callable[[str], Any], scope: Scope, **changes: Any) -> None:
    named = {"Name": scope.names.schedule("monthly_report"), "GroupName": scope.names.schedule_group}
    edit_schedule(aws, scope, Target={**aws("scheduler").get_schedule(**named)["Target"], **changes})


def unsubscribe(aws: Callable[[str], Any], scope: Scope) -> None:
    (subscription,) = aws("sns").list_subscriptions_by_topic(TopicArn=scope.topic_arn)["Subscriptions"]
    aws("sns").unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])


# Those whose resources are changed here; tests of the others are beside this file.
PARTS = ("env", "storage", "notifications", "twins", "workflows", "observability")

# what somebody does by hand -> the change that is planned for it
DRIFT: dict[str, tuple[Tamper, str]] = {
    "a role's policy is widened": (
        lambda aws, scope: aws("iam").put_role_policy(
            RoleName=role_of(scope), PolicyName=role_of(scope), PolicyDocument=wide_policy(scope)
        ),
        "update role: policies",
    ),
    "a role's policy is removed": (
        lambda aws, scope: aws("iam").delete_role_policy(RoleName=role_of(scope), PolicyName=role_of(scope)),
        "update role: policies",
    ),
    "a role trusts everybody": (
        lambda aws, scope: aws("iam").update_assume_role_policy(
            RoleName=role_of(scope), PolicyDocument=open_trust(scope)
        ),
        "update role: trust",
    ),
    "a role gets a second policy": (
        lambda aws, scope: aws("iam").put_role_policy(
            RoleName=role_of(scope), PolicyName="backdoor", PolicyDocument=wide_policy(scope)
        ),
        "update role: policies",
    ),
    "a role gets a managed policy": (
        lambda aws, scope: aws("iam").attach_role_policy(
            RoleName=role_of(scope), PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess"
        ),
        "update role: attached",
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
    "a schedule gets another time, in another zone": (
        lambda aws, scope: edit_schedule(
            aws, scope, ScheduleExpression="rate(1 day)", ScheduleExpressionTimezone="Asia/Kathmandu"
        ),
        "update schedule: expression timezone",
    ),
    "a schedule is disabled, and may be late": (
        lambda aws, scope: edit_schedule(
            aws, scope, State="DISABLED", FlexibleTimeWindow={"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 30}
        ),
        "update schedule: enabled flexible_window",
    ),
    "a schedule gets another input, and forgets what it cannot deliver": (
        lambda aws, scope: edit_target_of_schedule(
            aws, scope, Input="{}", RetryPolicy={"MaximumRetryAttempts": 0}, DeadLetterConfig={}
        ),
        "update schedule: input max_event_age_s retries dead_letters",
    ),
    "a schedule is deleted": (
        lambda aws, scope: aws("scheduler").delete_schedule(
            Name=scope.names.schedule("monthly_report"), GroupName=scope.names.schedule_group
        ),
        "create schedule: tags group description enabled expression timezone flexible_window target role input "
        "max_event_age_s retries dead_letters",
    ),
    "the group of schedules loses a tag": (
        lambda aws, scope: aws("scheduler").untag_resource(
            ResourceArn=scope.schedule_group_arn, TagKeys=["twinops:owner"]
        ),
        "update schedule_group: tags",
    ),
}


@pytest.mark.parametrize("what", DRIFT)
def test_what_is_changed_by_hand_is_seen_and_repaired(
    what: str, staging: Environment, aws: Callable[[str], Any]
) -> None:
    check_drift(staging, aws, *DRIFT[what], *PARTS)
