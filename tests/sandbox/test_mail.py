"""SNS sends real mail to a mailbox a person can read, after the owner of the address confirmed."""

from __future__ import annotations

import re
import smtplib
import urllib.request
import uuid
from collections.abc import Callable
from email.message import EmailMessage
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.sandbox.support import OwnSandbox, eventually

pytestmark = pytest.mark.sandbox

Aws = Callable[[str], Any]


@pytest.fixture
def topic(aws: Aws) -> str:
    return str(aws("sns").create_topic(Name=f"test-{uuid.uuid4().hex[:8]}")["TopicArn"])


def subscriptions(aws: Aws, topic: str) -> list[str]:
    return [one["SubscriptionArn"] for one in aws("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]]


def mail_with(own: OwnSandbox, *texts: str) -> str:
    """The mail that holds all texts; waits for it."""
    found: str = eventually(lambda: next((mail for mail in own.mails() if all(text in mail for text in texts)), None))
    return found


def test_a_listed_address_confirms_by_itself_and_gets_mail(own_sandbox: OwnSandbox, aws: Aws, topic: str) -> None:
    answer = aws("sns").subscribe(TopicArn=topic, Protocol="email", Endpoint="ops@example.com")
    assert answer["SubscriptionArn"] == "pending confirmation"
    confirmation = mail_with(own_sandbox, topic, "confirm this subscription")
    assert "The sandbox opened this link for you" in confirmation
    eventually(lambda: subscriptions(aws, topic)[0].startswith(topic))
    text = "Läuft – f1 = 0.93\n" + "a long line " * 200
    aws("sns").publish(TopicArn=topic, Subject="Evaluation of v2", Message=text)
    mail = mail_with(own_sandbox, f"topic-arn: {topic}", "Subject: Evaluation of v2")
    assert text in mail, "readable: neither base64 nor quoted-printable"
    assert "To: ops@example.com" in mail


def test_anyone_else_is_pending_until_the_link_is_opened(own_sandbox: OwnSandbox, aws: Aws, topic: str) -> None:
    address = f"{uuid.uuid4().hex[:8]}@elsewhere.invalid"
    aws("sns").subscribe(TopicArn=topic, Protocol="email", Endpoint=address)
    confirmation = mail_with(own_sandbox, f"To: {address}", "confirm this subscription")
    assert subscriptions(aws, topic) == ["PendingConfirmation"]
    assert aws("sns").get_topic_attributes(TopicArn=topic)["Attributes"]["SubscriptionsPending"] == "1"
    aws("sns").publish(TopicArn=topic, Message="too early")
    link = re.search(r"http://\S+ConfirmSubscription\S+", confirmation)
    assert link
    with urllib.request.urlopen(link.group(), timeout=10) as answer:  # noqa: S310 (loopback)
        assert answer.status == 200
    assert subscriptions(aws, topic)[0].startswith(topic)
    aws("sns").publish(TopicArn=topic, Message="in time")
    mail_with(own_sandbox, f"To: {address}", "in time")
    assert not [mail for mail in own_sandbox.mails() if "too early" in mail]
    again = aws("sns").subscribe(TopicArn=topic, Protocol="email", Endpoint=address)
    assert again["SubscriptionArn"] == subscriptions(aws, topic)[0], "subscribing again changes nothing"


@pytest.mark.parametrize("subject", ["ä", "two\nlines", "x" * 101])
def test_a_subject_that_aws_refuses_is_refused(aws: Aws, topic: str, subject: str) -> None:
    with pytest.raises(ClientError) as refused:
        aws("sns").publish(TopicArn=topic, Subject=subject, Message="m")
    assert refused.value.response["Error"]["Code"] == "InvalidParameter"


def test_topic_attributes_and_tags(aws: Aws, topic: str) -> None:
    sns = aws("sns")
    sns.set_topic_attributes(TopicArn=topic, AttributeName="DisplayName", AttributeValue="twinops")
    assert sns.get_topic_attributes(TopicArn=topic)["Attributes"]["DisplayName"] == "twinops"
    sns.tag_resource(ResourceArn=topic, Tags=[{"Key": "a", "Value": "1"}])
    assert sns.list_tags_for_resource(ResourceArn=topic)["Tags"] == [{"Key": "a", "Value": "1"}]


def test_the_mail_server_takes_mail_from_anyone(own_sandbox: OwnSandbox) -> None:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "a@example.com", "b@example.com", "Grüße/..: ok"
    mail.set_content("hello")
    with smtplib.SMTP("127.0.0.1", own_sandbox.json("status")["smtp_port"], timeout=10) as server:
        server.send_message(mail)
    names = [path.name for path in (own_sandbox.settings.home / "mail").glob("*.eml")]
    assert [name for name in names if name.endswith("Z-gr-e-ok.eml")]
