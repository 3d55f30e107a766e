"""KMS keys, and what is encrypted with them: topics, queues, buckets."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sandbox.settings import ACCOUNT, REGION
from tests.sandbox.support import OwnSandbox, policy
from tests.sandbox.test_permissions import DENIED, Person, code_of, on

pytestmark = pytest.mark.sandbox

Aws = Callable[[str], Any]
OWNER = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "kms:*", "Resource": "*"}


def new() -> str:
    return f"kms-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def key(aws: Aws) -> str:
    tags = [{"TagKey": "owner", "TagValue": "us"}]
    made = aws("kms").create_key(Description="d", Policy=policy(OWNER), Tags=tags)["KeyMetadata"]
    return str(made["KeyId"])


def test_a_key_is_read_back(aws: Aws, key: str) -> None:
    kms, by_id = aws("kms"), {"KeyId": key}
    described = kms.describe_key(**by_id)["KeyMetadata"]
    assert (described["Description"], described["KeyState"], described["Enabled"]) == ("d", "Enabled", True)
    assert json.loads(kms.get_key_policy(**by_id)["Policy"]) == json.loads(policy(OWNER))
    assert kms.get_key_rotation_status(**by_id)["KeyRotationEnabled"] is False
    kms.enable_key_rotation(**by_id, RotationPeriodInDays=180)
    rotation = kms.get_key_rotation_status(**by_id)
    assert (rotation["KeyRotationEnabled"], rotation["RotationPeriodInDays"]) == (True, 180)
    kms.disable_key_rotation(**by_id)
    assert kms.get_key_rotation_status(**by_id)["KeyRotationEnabled"] is False
    kms.tag_resource(**by_id, Tags=[{"TagKey": "stage", "TagValue": "a"}])
    kms.untag_resource(**by_id, TagKeys=["owner"])
    assert kms.list_resource_tags(**by_id)["Tags"] == [{"TagKey": "stage", "TagValue": "a"}]
    kms.update_key_description(**by_id, Description="other")
    assert kms.describe_key(**by_id)["KeyMetadata"]["Description"] == "other"


def test_an_alias(aws: Aws, key: str) -> None:
    kms, alias = aws("kms"), f"alias/{new()}"
    kms.create_alias(AliasName=alias, TargetKeyId=key)
    assert kms.describe_key(KeyId=alias)["KeyMetadata"]["KeyId"] == key
    with pytest.raises(ClientError) as taken:
        kms.create_alias(AliasName=alias, TargetKeyId=key)
    assert taken.value.response["Error"]["Code"] == "AlreadyExistsException"
    assert [one["AliasName"] for one in kms.list_aliases(KeyId=key)["Aliases"]] == [alias]
    kms.delete_alias(AliasName=alias)
    kms.create_alias(AliasName=alias, TargetKeyId=key)


def test_a_key_is_deleted_after_a_while(aws: Aws, key: str) -> None:
    kms, by_id = aws("kms"), {"KeyId": key}
    with pytest.raises(ClientError):
        kms.schedule_key_deletion(**by_id, PendingWindowInDays=6)
    kms.schedule_key_deletion(**by_id, PendingWindowInDays=7)
    described = kms.describe_key(**by_id)["KeyMetadata"]
    assert (described["KeyState"], "DeletionDate" in described) == ("PendingDeletion", True)
    with pytest.raises(ClientError) as refused:
        kms.encrypt(**by_id, Plaintext=b"x")
    assert refused.value.response["Error"]["Code"] == "KMSInvalidStateException"
    kms.cancel_key_deletion(**by_id)
    assert kms.describe_key(**by_id)["KeyMetadata"]["KeyState"] == "Disabled"
    kms.enable_key(**by_id)
    assert kms.describe_key(**by_id)["KeyMetadata"]["KeyState"] == "Enabled"


def test_a_key_policy_that_locks_everybody_out_is_refused(aws: Aws, key: str) -> None:
    other = {**OWNER, "Principal": {"Service": "sns.amazonaws.com"}}
    with pytest.raises(ClientError) as refused:
        aws("kms").put_key_policy(KeyId=key, PolicyName="default", Policy=policy(other))
    assert refused.value.response["Error"]["Code"] == "MalformedPolicyDocumentException"


def test_a_topic(aws: Aws, key: str) -> None:
    sns = aws("sns")
    topic = sns.create_topic(Name=new(), Attributes={"KmsMasterKeyId": key, "DisplayName": "d"})["TopicArn"]
    attributes = sns.get_topic_attributes(TopicArn=topic)["Attributes"]
    assert (attributes["KmsMasterKeyId"], attributes["DisplayName"]) == (key, "d")
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "cloudwatch.amazonaws.com"},
        "Action": "sns:Publish",
        "Resource": topic,
    }
    sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=policy(statement))
    sns.set_topic_attributes(TopicArn=topic, AttributeName="KmsMasterKeyId", AttributeValue="")
    attributes = sns.get_topic_attributes(TopicArn=topic)["Attributes"]
    assert json.loads(attributes["Policy"]) == json.loads(policy(statement))
    assert "KmsMasterKeyId" not in attributes


def test_a_bucket(aws: Aws, key: str) -> None:
    s3, bucket = aws("s3"), new()
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    [first] = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert first["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    arn = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{key}"
    rule = {
        "ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": arn},
        "BucketKeyEnabled": True,
    }
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
    [read] = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert {name: read[name] for name in rule} == rule
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    kept = s3.head_object(Bucket=bucket, Key="k")
    assert (kept["ServerSideEncryption"], kept["SSEKMSKeyId"]) == ("aws:kms", arn)


def test_the_keys_policy_decides_with_the_persons(own_sandbox: OwnSandbox, aws: Aws, key: str) -> None:
    person = Person(own_sandbox, aws("iam"))
    kms = person.client("kms")
    person.may(on("kms:Encrypt", f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{key}"))
    assert code_of(lambda: kms.encrypt(KeyId=key, Plaintext=b"x")) == ""
    person.may(on("kms:Encrypt", StringEquals={"aws:ResourceTag/owner": "them"}))
    assert code_of(lambda: kms.encrypt(KeyId=key, Plaintext=b"x")) in DENIED
    person.may(on("kms:Encrypt", StringEquals={"aws:ResourceTag/owner": "us"}))
    assert code_of(lambda: kms.encrypt(KeyId=key, Plaintext=b"x")) == ""


# ---- who writes to and reads from what is encrypted needs the key, by way of the service


def through(service: str, *actions: str) -> list[dict[str, Any]]:
    via = {"StringEquals": {"kms:ViaService": f"{service}.{REGION}.amazonaws.com"}}
    return [on(action, **via) for action in actions]


def test_a_publisher_needs_the_key(own_sandbox: OwnSandbox, aws: Aws, key: str) -> None:
    topic = aws("sns").create_topic(Name=new(), Attributes={"KmsMasterKeyId": key})["TopicArn"]
    person = Person(own_sandbox, aws("iam"))

    def publish() -> str:
        return code_of(lambda: person.client("sns").publish(TopicArn=topic, Message="m"))

    for missing in ((), ("kms:Decrypt",), ("kms:GenerateDataKey",)):
        person.may(on("sns:Publish", topic), *through("sns", *missing))
        assert publish() in DENIED
    person.may(on("sns:Publish", topic), *through("sqs", "kms:Decrypt", "kms:GenerateDataKey"))
    assert publish() in DENIED
    person.may(on("sns:Publish", topic), *through("sns", "kms:Decrypt", "kms:GenerateDataKey"))
    assert publish() == ""


def test_a_sender_needs_the_key(own_sandbox: OwnSandbox, aws: Aws, key: str) -> None:
    url = aws("sqs").create_queue(QueueName=new(), Attributes={"KmsMasterKeyId": key})["QueueUrl"]
    person = Person(own_sandbox, aws("iam"))

    def send_and_receive() -> list[str]:
        sqs = person.client("sqs")
        return [
            code_of(lambda: sqs.send_message(QueueUrl=url, MessageBody="m")),
            code_of(lambda: sqs.receive_message(QueueUrl=url)),
        ]

    person.may(on("sqs:*"))
    assert all(code in DENIED for code in send_and_receive())
    person.may(on("sqs:*"), *through("sqs", "kms:Decrypt", "kms:GenerateDataKey"))
    assert send_and_receive() == ["", ""]


def test_a_writer_and_a_reader_of_a_bucket_need_the_key(own_sandbox: OwnSandbox, aws: Aws, key: str) -> None:
    bucket = new()
    aws("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}}
    aws("s3").put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
    aws("s3").put_object(Bucket=bucket, Key="there", Body=b"{}")
    person = Person(own_sandbox, aws("iam"))
    s3 = person.client("s3")

    def write_and_read() -> list[str]:
        return [
            code_of(lambda: s3.put_object(Bucket=bucket, Key="new", Body=b"{}")),
            code_of(lambda: s3.get_object(Bucket=bucket, Key="there")),
        ]

    person.may(on("s3:*"))
    assert write_and_read() == ["AccessDenied", "AccessDenied"]
    assert "Contents" in aws("s3").list_objects_v2(Bucket=bucket, Prefix="there")
    assert "Contents" not in aws("s3").list_objects_v2(Bucket=bucket, Prefix="new")
    person.may(on("s3:*"), *through("s3", "kms:GenerateDataKey"))
    assert write_and_read() == ["", "AccessDenied"]
    person.may(on("s3:*"), *through("s3", "kms:Decrypt"))
    assert write_and_read() == ["AccessDenied", ""]
