"""Who may publish, and with which key."""

from __future__ import annotations

from typing import Any

from twinops.resources import Bucket, Key, Topic

from tests.unit.desired.support import SCOPE, part

BUCKETS = [{"purpose": "models", "noncurrent_days": 30}]


def made(**options: Any) -> tuple[Key, Topic]:
    key, topic = part("notifications", {"mail_to": ["b@example.com", "a@example.com", "b@example.com"], **options})
    assert isinstance(key, Key)
    assert isinstance(topic, Topic)
    return key, topic


def test_the_topic_is_encrypted_with_the_key_of_its_environment_unless_told_otherwise() -> None:
    key, topic = made()
    assert (key.name, topic.key) == ("twinops-staging-data", "twinops-staging-data")
    assert key.tags["twinops:name"] == key.name, "by which it is found, as AWS makes its identifier"
    assert made(encrypted=False)[1].key == ""
    assert topic.mail_to == ("a@example.com", "b@example.com")


def test_only_our_roles_and_alarms_may_publish() -> None:
    _, topic = made()
    publish = {statement["Sid"]: statement for statement in topic.policy["Statement"]}
    assert set(publish) == {"OurRoles", "OurAlarms"}
    for statement in publish.values():
        assert statement["Action"] == ["sns:Publish"]
        assert statement["Resource"] == [SCOPE.topic_arn]
    assert publish["OurRoles"]["Condition"] == {
        "ArnLike": {"aws:PrincipalArn": ["arn:aws:iam::111122223333:role/twinops-staging-*"]}
    }
    assert publish["OurAlarms"]["Principal"] == {"Service": ["cloudwatch.amazonaws.com"]}
    assert publish["OurAlarms"]["Condition"] == {
        "ArnLike": {"aws:SourceArn": ["arn:aws:cloudwatch:eu-central-1:111122223333:alarm:twinops-staging-*"]},
        "StringEquals": {"aws:SourceAccount": ["111122223333"]},
    }


def test_alarms_may_use_the_key_and_the_account_can_always_change_its_policy() -> None:
    key, _ = made()
    statements = {statement["Sid"]: statement for statement in key.policy["Statement"]}
    assert statements["OurAlarms"]["Action"] == ["kms:Decrypt", "kms:GenerateDataKey"]
    assert statements["OurAlarms"]["Condition"]["StringEquals"] == {"aws:SourceAccount": ["111122223333"]}
    assert statements["Administer"]["Principal"] == {"AWS": ["arn:aws:iam::111122223333:root"]}
    assert "kms:PutKeyPolicy" in statements["Administer"]["Action"], "else nobody could ever mend it"
    assert not [action for each in statements.values() for action in each["Action"] if "*" in action]


def test_buckets_are_encrypted_as_the_spec_says() -> None:
    def bucket(**options: Any) -> Bucket:
        found, *_ = part("storage", {"buckets": BUCKETS, **options})
        assert isinstance(found, Bucket)
        return found

    assert (bucket().encryption, bucket().key) == ("AES256", "")
    by_key = bucket(encryption="aws:kms")
    assert (by_key.encryption, by_key.key) == ("aws:kms", "twinops-staging-data")
