"""Alarms, the dashboard, the topic's policy and the key, changed by hand; a key that is never made twice."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from twinops import metrics
from twinops.aws.kinds import alarm as alarms
from twinops.aws.kinds import key as keys
from twinops.plan import Change
from twinops.resources import Alarm, Key, Scope

from tests.sandbox.cloud.support import Environment, Tamper, check_drift, workflow
from tests.sandbox.support import eventually, policy

pytestmark = pytest.mark.sandbox

Aws = Callable[[str], Any]


def alarm_of(scope: Scope) -> str:
    return scope.names.workflow_alarm("failed", "drift_report")


def composite_of(scope: Scope) -> str:
    return scope.names.composite_alarm("workflow-failed")


def alarm_arn(scope: Scope, name: str) -> str:
    return scope.arn("cloudwatch", f"alarm:{name}")


def alias_of(scope: Scope) -> str:
    return f"alias/{scope.names.key}"


def key_id(aws: Aws, scope: Scope) -> str:
    return str(aws("kms").describe_key(KeyId=alias_of(scope))["KeyMetadata"]["KeyId"])


def edit_alarm(aws: Aws, scope: Scope) -> None:
    (alarm,) = aws("cloudwatch").describe_alarms(AlarmNames=[alarm_of(scope)])["MetricAlarms"]
    kept = ("AlarmName", "AlarmDescription", "Namespace", "MetricName", "Dimensions", "Statistic")
    changed = {
        "Period": 60,
        "EvaluationPeriods": 5,
        "DatapointsToAlarm": 4,
        "Threshold": 3.0,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "ignore",
        "AlarmActions": [scope.topic_arn],
    }
    aws("cloudwatch").put_metric_alarm(**{name: alarm[name] for name in kept}, **changed)


def watch_another_metric(aws: Aws, scope: Scope) -> None:
    aws("cloudwatch").put_metric_alarm(
        AlarmName=alarm_of(scope),
        AlarmDescription="mine",
        Namespace="AWS/Lambda",
        MetricName="Errors",
        Dimensions=[{"Name": "FunctionName", "Value": "f"}],
        Statistic="Sum",
        Period=300,
        EvaluationPeriods=1,
        Threshold=0.0,
        ComparisonOperator="GreaterThanThreshold",
        TreatMissingData="notBreaching",
    )


def edit_composite(aws: Aws, scope: Scope) -> None:
    rule = f'ALARM("{alarm_of(scope)}")'
    aws("cloudwatch").put_composite_alarm(AlarmName=composite_of(scope), AlarmRule=rule, ActionsEnabled=False)


def edit_dashboard(aws: Aws, scope: Scope) -> None:
    found = json.loads(aws("cloudwatch").get_dashboard(DashboardName=scope.names.dashboard)["DashboardBody"])
    found["widgets"].pop()
    aws("cloudwatch").put_dashboard(DashboardName=scope.names.dashboard, DashboardBody=json.dumps(found))


def open_topic(aws: Aws, scope: Scope) -> None:
    everybody = {"Effect": "Allow", "Principal": "*", "Action": "sns:Publish", "Resource": scope.topic_arn}
    aws("sns").set_topic_attributes(TopicArn=scope.topic_arn, AttributeName="Policy", AttributeValue=policy(everybody))


def use_another_key(aws: Aws, scope: Scope) -> None:
    aws("sns").set_topic_attributes(
        TopicArn=scope.topic_arn, AttributeName="KmsMasterKeyId", AttributeValue="alias/aws/sns"
    )


def open_key(aws: Aws, scope: Scope) -> None:
    account = f"arn:aws:iam::{scope.account}:root"
    everything = {"Effect": "Allow", "Principal": {"AWS": account}, "Action": "kms:*", "Resource": "*"}
    aws("kms").put_key_policy(KeyId=key_id(aws, scope), PolicyName="default", Policy=policy(everything))


def repoint_alias(aws: Aws, scope: Scope) -> None:
    stranger = aws("kms").create_key(Description="not ours")["KeyMetadata"]["KeyId"]
    aws("kms").update_alias(AliasName=alias_of(scope), TargetKeyId=stranger)


# what somebody does by hand -> the change that is planned for it
DRIFT: dict[str, tuple[Tamper, str]] = {
    "an alarm is deleted": (
        lambda aws, scope: aws("cloudwatch").delete_alarms(AlarmNames=[scope.names.alarm("backup-took-over")]),
        "create alarm: tags description namespace metric dimensions statistic period_s periods datapoints comparison "
        "threshold missing_data enabled actions",
    ),
    "an alarm is silenced": (
        lambda aws, scope: aws("cloudwatch").disable_alarm_actions(AlarmNames=[scope.names.alarm("dead-letters")]),
        "update alarm: enabled",
    ),
    "an alarm is made blunt": (
        edit_alarm,
        "update alarm: period_s periods datapoints comparison threshold missing_data actions",
    ),
    "an alarm watches another metric": (
        watch_another_metric,
        "update alarm: description namespace metric dimensions statistic",
    ),
    "an alarm loses a tag": (
        lambda aws, scope: aws("cloudwatch").untag_resource(
            ResourceARN=alarm_arn(scope, alarm_of(scope)), TagKeys=["twinops:workflow"]
        ),
        "update alarm: tags",
    ),
    "the composite alarm is edited": (edit_composite, "update composite_alarm: description rule enabled"),
    "the composite alarm is deleted": (
        lambda aws, scope: aws("cloudwatch").delete_alarms(AlarmNames=[composite_of(scope)]),
        "create composite_alarm: tags description rule enabled actions",
    ),
    "the composite alarm loses a tag": (
        lambda aws, scope: aws("cloudwatch").untag_resource(
            ResourceARN=alarm_arn(scope, composite_of(scope)), TagKeys=["twinops:owner"]
        ),
        "update composite_alarm: tags",
    ),
    "the dashboard is rearranged": (edit_dashboard, "update dashboard: body"),
    "the dashboard is deleted": (
        lambda aws, scope: aws("cloudwatch").delete_dashboards(DashboardNames=[scope.names.dashboard]),
        "create dashboard: tags body",
    ),
    "everybody may publish": (open_topic, "update topic: policy"),
    "the topic is encrypted with another key": (use_another_key, "update topic: key"),
    "the key's policy is widened": (open_key, "update key: policy"),
    "the key is not rotated any more": (
        lambda aws, scope: aws("kms").disable_key_rotation(KeyId=key_id(aws, scope)),
        "update key: rotated",
    ),
    "the key is disabled": (
        lambda aws, scope: aws("kms").disable_key(KeyId=key_id(aws, scope)),
        "update key: enabled",
    ),
    "the key is scheduled for deletion": (
        lambda aws, scope: aws("kms").schedule_key_deletion(KeyId=key_id(aws, scope), PendingWindowInDays=7),
        "update key: enabled",
    ),
    "the key's description is edited": (
        lambda aws, scope: aws("kms").update_key_description(KeyId=key_id(aws, scope), Description="mine"),
        "update key: description",
    ),
    "the key loses a tag": (
        lambda aws, scope: aws("kms").untag_resource(KeyId=key_id(aws, scope), TagKeys=["twinops:owner"]),
        "update key: tags",
    ),
    "the key loses its alias": (
        lambda aws, scope: aws("kms").delete_alias(AliasName=alias_of(scope)),
        "update key: aliased",
    ),
    "the alias is given to another key": (repoint_alias, "update key: aliased"),
    "the watchdog's rule is disabled": (
        lambda aws, scope: aws("events").disable_rule(Name=scope.names.watchdog_rule),
        "update rule: enabled",
    ),
}


@pytest.mark.parametrize("what", DRIFT)
def test_what_is_changed_by_hand_is_seen_and_repaired(what: str, staging: Environment, aws: Aws) -> None:
    check_drift(staging, aws, *DRIFT[what], "observability", "notifications", "workflows")


def test_a_no_op_reads_little(staging: Environment) -> None:
    """Of the kinds of this file; what a listing has is not asked for one by one."""
    staging.reconcile(staging.resources())
    before = len(staging.sandbox.calls())
    assert staging.reconcile(staging.resources())["changes"] == []
    calls = [call["action"] for call in staging.sandbox.calls()[before:]]
    assert calls.count("DescribeAlarms") == 1
    assert calls.count("ListDashboards") + calls.count("GetDashboard") == 1
    assert calls.count("GetTopicAttributes") + calls.count("ListSubscriptionsByTopic") == 2
    assert sum(calls.count(name) for name in ("DescribeKey", "GetKeyPolicy", "GetKeyRotationStatus")) == 3
    assert not {"ListTagsForResource", "ListKeys", "ListResourceTags"} & set(calls)


def test_more_alarms_than_one_page_holds(production: Environment) -> None:
    workflows = tuple(workflow(f"many_{number:03}") for number in range(105))
    resources = production.resources("observability", workflows=workflows)
    created = production.reconcile(resources)
    assert sum(change["kind"] == "alarm" for change in created["changes"]) > 105
    assert production.reconcile(resources)["changes"] == []
    gone = production.reconcile(production.resources("observability", workflows=workflows[:1]))["changes"]
    assert [change["kind"] for change in gone if change["action"] == "delete"] == ["alarm"] * 104
    production.remove(production.resources("observability", workflows=workflows[:1]))


def our_keys(aws: Aws, scope: Scope) -> list[str]:
    """States of the keys that carry the name of the environment's."""
    states = []
    for page in aws("kms").get_paginator("list_keys").paginate():
        for entry in page["Keys"]:
            tags = aws("kms").list_resource_tags(KeyId=entry["KeyId"])["Tags"]
            if {"TagKey": "twinops:name", "TagValue": scope.names.key} in tags:
                states.append(aws("kms").describe_key(KeyId=entry["KeyId"])["KeyMetadata"]["KeyState"])
    return sorted(states)


class Killed(BaseException):
    """What SIGKILL is to a process, as far as one can be raised."""


@pytest.mark.parametrize("operation", ["EnableKeyRotation", "CreateAlias"])
@pytest.mark.parametrize("listed", [True, False], ids=["listed", "not listed yet"])
def test_an_interrupted_creation_makes_no_second_key(
    operation: str, listed: bool, production: Environment, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether or not the listing by tags, which lags behind in AWS, knows the first one already."""
    resources = tuple(each for each in production.resources("notifications") if isinstance(each, Key))
    before = our_keys(aws, production.scope)

    def kill(model: Any, **_: Any) -> None:
        if model.name == operation:
            raise Killed

    events = production.aws.client("kms").meta.events
    events.register("before-call.kms", kill, unique_id="kill")
    with pytest.raises(Killed):
        keys.create(production.aws, Change("create", "key", resources[0].name, (), desired=resources[0]))
    events.unregister("before-call.kms", unique_id="kill")
    if not listed:
        monkeypatch.setattr(keys, "arns_of", lambda *_: [])
    (change,) = production.reconcile(resources)["changes"]
    assert change["action"] == "update"
    assert production.reconcile(resources)["changes"] == []
    assert our_keys(aws, production.scope) == sorted([*before, "Enabled"])
    production.remove(resources)


def test_a_removed_key_waits_and_a_new_one_takes_its_place(production: Environment, aws: Aws) -> None:
    resources = production.resources("notifications")
    before = our_keys(aws, production.scope)
    production.reconcile(resources)
    kept = production.remove(resources, with_data=False)
    assert [each["kind"] for each in kept["kept"]] == ["key"]
    assert our_keys(aws, production.scope) == sorted([*before, "Enabled"])
    production.remove(resources)
    assert our_keys(aws, production.scope) == sorted([*before, "PendingDeletion"])
    assert production.remove(resources)["changes"] == []
    assert {each["kind"] for each in production.reconcile(resources)["changes"]} == {"key", "topic"}
    assert our_keys(aws, production.scope) == sorted([*before, "PendingDeletion", "Enabled"])
    production.remove(resources)


def encrypt_with_s3(aws: Aws, bucket: str, **default: str) -> None:
    rule = {"ApplyServerSideEncryptionByDefault": default}
    aws("s3").put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})


def test_buckets_with_the_key_of_the_environment(production: Environment, aws: Aws) -> None:
    one = {"buckets": [{"purpose": "models", "noncurrent_days": 30}]}
    plain = production.resources("notifications", "storage", storage=one)
    by_key = production.resources("notifications", "storage", storage={**one, "encryption": "aws:kms"})
    bucket, stranger = production.scope.names.bucket("models"), aws("kms").create_key()["KeyMetadata"]["Arn"]
    production.reconcile(plain)
    (change,) = production.reconcile(by_key)["changes"]
    assert (change["kind"], change["fields"]) == ("bucket", ["encryption", "key"])
    (rule,) = aws("s3").get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["BucketKeyEnabled"]
    assert rule["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"].endswith(key_id(aws, production.scope))
    for tamper, fields in (
        ({"SSEAlgorithm": "AES256"}, ["encryption", "key"]),
        ({"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": stranger}, ["encryption", "key"]),
    ):
        assert production.reconcile(by_key)["changes"] == []
        encrypt_with_s3(aws, bucket, **tamper)
        (change,) = production.reconcile(by_key)["changes"]
        assert (change["kind"], change["fields"]) == ("bucket", fields)
    production.remove(by_key)


# ---- who hears of what


def state_of(aws: Aws, name: str) -> str:
    found = aws("cloudwatch").describe_alarms(AlarmNames=[name], AlarmTypes=[alarms.METRIC, alarms.COMPOSITE])
    (alarm,) = [*found["MetricAlarms"], *found["CompositeAlarms"]]
    return str(alarm["StateValue"])


def mails_about(environment: Environment, name: str) -> list[str]:
    return [mail for mail in environment.sandbox.mails() if name in mail]


def test_broken_machinery_is_mailed_through_the_encrypted_topic(staging: Environment, aws: Aws) -> None:
    name = staging.scope.names.alarm("dead-letters")
    queue = aws("sqs").get_queue_url(QueueName=staging.scope.names.dead_letters)["QueueUrl"]
    aws("sqs").send_message(QueueUrl=queue, MessageBody="nobody could deliver this")
    assert eventually(lambda: mails_about(staging, name))
    aws("sqs").purge_queue(QueueUrl=queue)


def test_a_failed_run_is_seen_by_its_alarm_and_by_those_of_all_and_mailed_by_none(
    staging: Environment, aws: Aws
) -> None:
    names = staging.scope.names
    failed = metrics.of_run("drift_report", {metrics.RUN_FAILED: 1.0})
    aws("cloudwatch").put_metric_data(Namespace="twinops/staging", MetricData=failed)
    seen = (alarm_of(staging.scope), names.alarm("run-failed"), composite_of(staging.scope))
    for name in seen:
        eventually(lambda name=name: state_of(aws, name) == "ALARM")
        assert mails_about(staging, name) == []
    assert state_of(aws, names.workflow_alarm("failed", "model_evaluation")) != "ALARM"


def test_a_run_can_be_missing_only_when_it_could_have_been_there(staging: Environment, aws: Aws) -> None:
    name = staging.scope.names.workflow_alarm("missing", "model_evaluation")
    time.sleep(3)  # alarms are evaluated every second
    assert state_of(aws, name) == "INSUFFICIENT_DATA"
    assert mails_about(staging, name) == []
    (wanted,) = (each for each in staging.resources() if isinstance(each, Alarm) and each.name == name)
    settled = {key: value for key, value in alarms._settings(wanted).items() if key != "WarmUpConfiguration"}
    aws("cloudwatch").put_metric_alarm(**settled)  # as when its first hours are over
    assert eventually(lambda: mails_about(staging, name))


def as_role(environment: Environment, role: str, service: str) -> Any:
    """A client with the keys of a role of machines, got as they get them."""
    settings = environment.sandbox.settings
    url = f"{settings.endpoint_url}/_sandbox/credentials/{environment.scope.names.role(role)}"
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 (loopback)
        found = json.load(answer)
    return boto3.client(
        service,
        region_name=environment.scope.region,
        endpoint_url=settings.endpoint_url,
        aws_access_key_id=found["AccessKeyId"],
        aws_secret_access_key=found["SecretAccessKey"],
        aws_session_token=found["Token"],
    )


def test_our_roles_use_the_key_of_encrypted_buckets_as_far_as_they_have_to(staging: Environment) -> None:
    staging.reconcile(staging.resources(storage={"encryption": "aws:kms"}))
    data, decision = staging.scope.names.bucket("data"), "decisions/device=d/a.jsonl.gz"
    device, twin = as_role(staging, "device", "s3"), as_role(staging, "deployment-twin", "s3")
    device.put_object(Bucket=data, Key=decision, Body=b"1")
    assert twin.get_object(Bucket=data, Key=decision)["Body"].read() == b"1"
    twin.put_object(Bucket=staging.scope.names.bucket("reports"), Key="w/r/report.html", Body=b"2")
    with pytest.raises(ClientError, match="AccessDenied"):
        as_role(staging, "device", "kms").decrypt(CiphertextBlob=b"x", KeyId=alias_of(staging.scope))
    staging.reconcile(staging.resources())
