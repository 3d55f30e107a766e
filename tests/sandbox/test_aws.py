"""The AWS endpoint is truthful about what twinops uses of it. ministack and moto are judged by what AWS documents."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from sandbox.estate import Estate
from sandbox.settings import ACCOUNT, REGION
from tests.sandbox.support import OwnSandbox, policy

pytestmark = pytest.mark.sandbox

Aws = Callable[[str], Any]
TAGS = {"twinops:environment": "sandbox", "twinops:owner": "twinops"}
TAG_LIST = [{"Key": key, "Value": value} for key, value in TAGS.items()]


def unique(prefix: str = "test") -> str:
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def as_dict(tags: list[dict[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in tags}


def code_of(refused: pytest.ExceptionInfo[ClientError]) -> str:
    return str(refused.value.response["Error"]["Code"])


# ---- who calls


def test_the_account_and_region(aws: Aws) -> None:
    assert aws("sts").get_caller_identity()["Arn"] == f"arn:aws:iam::{ACCOUNT}:root"


def test_who_reads_the_estate_leaves_the_environment_alone(own_sandbox: OwnSandbox) -> None:
    before = dict(os.environ)
    estate = Estate(own_sandbox.settings)
    assert estate.client("sts").get_caller_identity()["Account"] == ACCOUNT
    assert dict(os.environ) == before


def test_other_keys_are_refused(own_sandbox: OwnSandbox, aws: Aws) -> None:
    root = aws("s3")._request_signer._credentials
    strangers = [("test", "test"), ("test", root.secret_key), (ACCOUNT, root.secret_key), (root.access_key, "wrong")]
    for key, secret in strangers:
        stranger = boto3.client(
            "s3",
            endpoint_url=own_sandbox.settings.endpoint_url,
            region_name=REGION,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
        )
        with pytest.raises(ClientError) as refused:
            stranger.list_buckets()
        assert code_of(refused) in ("InvalidAccessKeyId", "SignatureDoesNotMatch")


def credentials(own: OwnSandbox, role: str) -> dict[str, str]:
    with urllib.request.urlopen(own.settings.credentials_url(role), timeout=10) as answer:  # noqa: S310 (loopback)
        document: dict[str, str] = json.load(answer)
        return document


def test_role_credentials_are_enforced(own_sandbox: OwnSandbox, aws: Aws, make_role: Callable[..., str]) -> None:
    role, bucket = unique(), unique()
    aws("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    make_role(
        role,
        "credentials.iot.amazonaws.com",
        {"Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{bucket}/mine/*"},
    )
    keys = credentials(own_sandbox, role)
    device = boto3.client(
        "s3",
        endpoint_url=own_sandbox.settings.endpoint_url,
        region_name=REGION,
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["Token"],
    )
    device.put_object(Bucket=bucket, Key="mine/1", Body=b"1")
    for forbidden in (
        lambda: device.put_object(Bucket=bucket, Key="other/1", Body=b"1"),
        lambda: device.get_object(Bucket=bucket, Key="mine/1"),
    ):
        with pytest.raises(ClientError) as refused:
            forbidden()
        assert code_of(refused) == "AccessDenied"


@pytest.mark.parametrize(
    ("trusted", "status"), [(None, 404), ("lambda.amazonaws.com", 403), ("sagemaker.amazonaws.com", 200)]
)
def test_credentials_need_a_role_that_trusts_a_thing(
    own_sandbox: OwnSandbox, make_role: Callable[..., str], trusted: str | None, status: int
) -> None:
    role = unique()
    if trusted:
        make_role(role, trusted)
    if status == 200:
        assert credentials(own_sandbox, role)["AccessKeyId"].startswith("ASIA")
        return
    with pytest.raises(urllib.error.HTTPError) as refused:
        credentials(own_sandbox, role)
    with refused.value:
        assert refused.value.code == status
        assert role in json.load(refused.value)["message"]


# ---- services


def test_iam_roles_policies_and_tags(aws: Aws, make_role: Callable[..., str]) -> None:
    iam, name = aws("iam"), unique()
    make_role(name, "lambda.amazonaws.com", {"Action": "s3:GetObject", "Resource": "*"})
    iam.tag_role(RoleName=name, Tags=TAG_LIST)
    assert as_dict(iam.list_role_tags(RoleName=name)["Tags"]) == TAGS
    document = iam.get_role_policy(RoleName=name, PolicyName="all")["PolicyDocument"]
    assert document["Statement"][0]["Action"] == "s3:GetObject"
    with pytest.raises(ClientError) as refused:
        iam.delete_role(RoleName=name)
    assert code_of(refused) == "DeleteConflict"
    with pytest.raises(ClientError) as refused:
        iam.put_role_policy(RoleName=name, PolicyName="bad", PolicyDocument="{")
    assert code_of(refused) == "MalformedPolicyDocument"


def test_s3_bucket_settings(aws: Aws) -> None:
    s3, bucket = aws("s3"), unique()
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] == REGION
    for read, code in (
        (s3.get_bucket_policy, "NoSuchBucketPolicy"),
        (s3.get_bucket_lifecycle_configuration, "NoSuchLifecycleConfiguration"),
        (s3.get_bucket_tagging, "NoSuchTagSet"),
    ):
        with pytest.raises(ClientError) as missing:
            read(Bucket=bucket)
        assert code_of(missing) == code
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    encryption = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=encryption)
    rules = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rules[0]["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    block = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=block)
    assert s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"] == block
    lifecycle = {
        "ID": "old",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
    }
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [lifecycle]})
    assert s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"] == [lifecycle]
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": TAG_LIST})
    assert as_dict(s3.get_bucket_tagging(Bucket=bucket)["TagSet"]) == TAGS


def test_s3_bucket_policy_is_enforced(aws: Aws) -> None:
    s3, bucket = aws("s3"), unique()
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    arn = f"arn:aws:s3:::{bucket}"
    insecure = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [arn, f"{arn}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    s3.put_bucket_policy(Bucket=bucket, Policy=policy(insecure))
    assert json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"][0]["Effect"] == "Deny"


def test_s3_writes_once_and_keeps_versions(aws: Aws) -> None:
    s3, bucket = aws("s3"), unique()
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket=bucket, Key="report", Body=b"1", IfNoneMatch="*")["VersionId"]
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket=bucket, Key="report", Body=b"2", IfNoneMatch="*")
    assert code_of(refused) == "PreconditionFailed"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    second = s3.put_object(Bucket=bucket, Key="report", Body=b"2")["VersionId"]
    versions = s3.list_object_versions(Bucket=bucket)["Versions"]
    assert [version["VersionId"] for version in versions] == [second, first]
    assert s3.get_object(Bucket=bucket, Key="report", VersionId=first)["Body"].read() == b"1"
    with pytest.raises(ClientError) as refused:
        s3.delete_bucket(Bucket=bucket)
    assert code_of(refused) == "BucketNotEmpty"


def make_table(aws: Aws) -> str:
    name = unique()
    aws("dynamodb").create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("pk", "sk", "kind", "at")],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "kind-at",
                "KeySchema": [
                    {"AttributeName": "kind", "KeyType": "HASH"},
                    {"AttributeName": "at", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
        Tags=TAG_LIST,
    )
    aws("dynamodb").get_waiter("table_exists").wait(TableName=name)
    return name


def test_dynamodb_conditions_index_and_recovery(aws: Aws) -> None:
    dynamodb, table = aws("dynamodb"), make_table(aws)
    key = {"pk": {"S": "run#1"}, "sk": {"S": "run"}}
    dynamodb.put_item(
        TableName=table, Item={**key, "kind": {"S": "run"}, "at": {"S": "2026-01-01"}, "state": {"S": "A"}}
    )
    with pytest.raises(ClientError) as refused:
        dynamodb.put_item(TableName=table, Item=key, ConditionExpression="attribute_not_exists(pk)")
    assert code_of(refused) == "ConditionalCheckFailedException"
    change = {
        "TableName": table,
        "Key": key,
        "UpdateExpression": "SET #state = :new, epoch = if_not_exists(epoch, :zero) + :one",
        "ConditionExpression": "#state = :old",
        "ExpressionAttributeNames": {"#state": "state"},
        "ExpressionAttributeValues": {":old": {"S": "A"}, ":new": {"S": "B"}, ":zero": {"N": "0"}, ":one": {"N": "1"}},
        "ReturnValues": "ALL_NEW",
    }
    assert dynamodb.update_item(**change)["Attributes"]["epoch"] == {"N": "1"}
    with pytest.raises(ClientError) as refused:
        dynamodb.update_item(**change, ReturnValuesOnConditionCheckFailure="ALL_OLD")
    assert refused.value.response["Item"]["state"] == {"S": "B"}
    found = dynamodb.query(
        TableName=table,
        IndexName="kind-at",
        KeyConditionExpression="kind = :kind and #at > :since",
        ExpressionAttributeNames={"#at": "at"},
        ExpressionAttributeValues={":kind": {"S": "run"}, ":since": {"S": "2025"}},
    )
    assert found["Count"] == 1
    arn = dynamodb.describe_table(TableName=table)["Table"]["TableArn"]
    assert as_dict(dynamodb.list_tags_of_resource(ResourceArn=arn)["Tags"]) == TAGS
    recovery = {"PointInTimeRecoveryEnabled": True}
    dynamodb.update_continuous_backups(TableName=table, PointInTimeRecoverySpecification=recovery)
    backups = dynamodb.describe_continuous_backups(TableName=table)["ContinuousBackupsDescription"]
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"


def test_logs_groups_retention_tags_and_events(aws: Aws) -> None:
    logs, group = aws("logs"), f"/twinops/{unique()}"
    logs.create_log_group(logGroupName=group, tags=TAGS)
    logs.put_retention_policy(logGroupName=group, retentionInDays=30)
    described = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"][0]
    assert described["retentionInDays"] == 30
    arn = described["arn"].removesuffix(":*")
    assert logs.list_tags_for_resource(resourceArn=arn)["tags"] == TAGS
    with pytest.raises(ClientError) as refused:
        logs.create_log_group(logGroupName=group)
    assert code_of(refused) == "ResourceAlreadyExistsException"
    with pytest.raises(ClientError) as refused:
        logs.put_retention_policy(logGroupName=group, retentionInDays=31)
    assert code_of(refused) == "InvalidParameterException"
    logs.create_log_stream(logGroupName=group, logStreamName="run/1")
    logs.put_log_events(logGroupName=group, logStreamName="run/1", logEvents=[{"timestamp": 1, "message": "hello"}])
    assert logs.get_log_events(logGroupName=group, logStreamName="run/1")["events"][0]["message"] == "hello"


def test_sqs_attributes_and_tags(aws: Aws) -> None:
    sqs, name = aws("sqs"), unique()
    url = sqs.create_queue(QueueName=name, Attributes={"MessageRetentionPeriod": "1209600"}, tags=TAGS)["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert attributes["MessageRetentionPeriod"] == "1209600"
    assert attributes["QueueArn"] == f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"
    assert sqs.list_queue_tags(QueueUrl=url)["Tags"] == TAGS
    with pytest.raises(ClientError) as missing:
        sqs.get_queue_url(QueueName=unique())
    assert code_of(missing) in ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")


def test_events_rules_targets_and_tags(aws: Aws) -> None:
    events, name = aws("events"), unique()
    events.put_rule(Name=name, ScheduleExpression="cron(0 5 * * ? *)", Description="d", Tags=TAG_LIST)
    rule = events.describe_rule(Name=name)
    assert (rule["ScheduleExpression"], rule["State"], rule["Description"]) == ("cron(0 5 * * ? *)", "ENABLED", "d")
    assert as_dict(events.list_tags_for_resource(ResourceARN=rule["Arn"])["Tags"]) == TAGS
    target = {
        "Id": "1",
        "Arn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}",
        "InputTransformer": {"InputPathsMap": {"id": "$.id"}, "InputTemplate": '{"id": <id>}'},
    }
    events.put_targets(Rule=name, Targets=[target])
    assert events.list_targets_by_rule(Rule=name)["Targets"] == [target]
    with pytest.raises(ClientError) as refused:
        events.delete_rule(Name=name)
    assert code_of(refused) == "ValidationException"
    for bad in ({"ScheduleExpression": "cron(0 5 * * *)"}, {"EventPattern": "{"}):
        with pytest.raises(ClientError):
            events.put_rule(Name=unique(), **bad)


def test_cloudwatch_metrics_are_kept(aws: Aws) -> None:
    cloudwatch, name = aws("cloudwatch"), unique()
    cloudwatch.put_metric_data(Namespace="twinops/test", MetricData=[{"MetricName": name, "Value": 0.5}])
    listed = cloudwatch.list_metrics(Namespace="twinops/test", MetricName=name)["Metrics"]
    assert [metric["MetricName"] for metric in listed] == [name]


# ---- what is not emulated


@pytest.mark.parametrize(
    ("service", "operation", "arguments"),
    [
        ("greengrassv2", "list_core_devices", {}),
        ("emr", "list_clusters", {}),
        ("redshift-serverless", "list_workgroups", {}),
        ("codecommit", "list_repositories", {}),
        ("ec2", "describe_transit_gateways", {}),
        ("batch", "describe_job_queues", {}),
        ("iot", "list_things", {}),
        ("sagemaker", "list_training_jobs", {}),
        (
            "logs",
            "put_metric_filter",
            {
                "logGroupName": "g",
                "filterName": "f",
                "filterPattern": "x",
                "metricTransformations": [{"metricName": "m", "metricNamespace": "n", "metricValue": "1"}],
            },
        ),
        (
            "logs",
            "start_query",
            {
                "logGroupName": "g",
                "startTime": 0,
                "endTime": 1,
                "queryString": "fields @message | stats count(*) by bin(5m)",
            },
        ),
        ("redshift", "describe_snapshot_schedules", {}),
    ],
)
def test_what_is_not_emulated_says_so(aws: Aws, service: str, operation: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ClientError) as refused:
        getattr(aws(service), operation)(**arguments)
    error = refused.value.response
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 501
    assert error["Error"]["Code"] == "NotImplementedException"
    assert "the sandbox does not emulate" in error["Error"]["Message"]


def test_administration_of_the_emulator_is_closed(own_sandbox: OwnSandbox) -> None:
    request = urllib.request.Request(f"{own_sandbox.settings.endpoint_url}/_ministack/reset", method="POST")  # noqa: S310
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)  # noqa: S310
    with refused.value:
        assert refused.value.code == 404


# ---- the log of calls


def test_every_call_is_logged_with_its_effect(own_sandbox: OwnSandbox, aws: Aws) -> None:
    before, bucket = len(own_sandbox.calls()), unique()
    aws("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    aws("s3").put_object(Bucket=bucket, Key="k", Body=bytes(100_000))
    aws("s3").head_object(Bucket=bucket, Key="k")
    aws("iam").list_roles()
    aws("sagemaker").list_notebook_instances()
    aws("redshift").describe_clusters()
    aws("events").put_rule(Name=bucket, ScheduleExpression="rate(1 day)", State="DISABLED")
    aws("cloudwatch").put_metric_data(Namespace="n", MetricData=[{"MetricName": "m", "Value": 1}])
    aws("lambda").list_functions()
    calls = [call for call in own_sandbox.calls()[before:] if call["caller"].endswith(":root")]
    assert [(call["service"], call["action"], call["write"]) for call in calls] == [
        ("s3", "CreateBucket", True),
        ("s3", "PutObject", True),
        ("s3", "GetObject", False),
        ("iam", "ListRoles", False),
        ("sagemaker", "ListNotebookInstances", False),
        ("redshift", "DescribeClusters", False),
        ("events", "PutRule", True),
        ("monitoring", "PutMetricData", True),
        ("lambda", "ListFunctions", False),
    ]
    assert all(call["status"] == 200 for call in calls)
    assert calls[1]["bytes_in"] >= 100_000
