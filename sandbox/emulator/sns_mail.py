"""SNS e-mail: notifications go out over SMTP, and a subscription is pending until its owner opens the link in a mail.

ministack confirms e-mail subscriptions at once and sends nothing.
"""

from __future__ import annotations

import contextvars
import logging
import re
import smtplib
import threading
from email.message import EmailMessage
from typing import Any
from urllib.parse import quote

from ministack.services import sns

from sandbox.emulator.answers import Answer
from sandbox.settings import Settings

logger = logging.getLogger("sandbox.sns")

EMAIL_PROTOCOLS = ("email", "email-json")
SENDER = "AWS Notifications <no-reply@sns.amazonaws.com>"
CONFIRM = """\
You have chosen to subscribe to the topic:
{topic}

To confirm this subscription, click or visit the link below (If this was in error no action is necessary):
{link}
"""
FOOTER = """

--
If you wish to stop receiving notifications from this topic, please click or visit the link below to unsubscribe:
{link}
"""


class SnsMail:
    """Takes the place of ministack's subscribe, publish and fan-out where e-mail is concerned."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.smtp_port = 0
        self._subscribe, self._publish, self._fanout = sns._subscribe, sns._publish, sns._fanout
        self._list, self._list_by_topic = sns._list_subscriptions, sns._list_subscriptions_by_topic

    def install(self) -> None:
        sns._subscribe = self.subscribe
        sns._publish = self.publish
        sns._fanout = self.fanout
        sns._list_subscriptions = lambda parameters: _hide_pending(self._list(parameters))
        sns._list_subscriptions_by_topic = lambda parameters: _hide_pending(self._list_by_topic(parameters))

    def subscribe(self, parameters: dict[str, list[str]]) -> Answer:
        """A new e-mail subscription is pending, and a mail asks its owner to confirm it."""
        answer: Answer = self._subscribe(parameters)
        protocol, topic_arn = sns._p(parameters, "Protocol"), sns._p(parameters, "TopicArn")
        if answer[0] != 200 or protocol not in EMAIL_PROTOCOLS:
            return answer
        subscription = next(
            one
            for one in sns._topics[topic_arn]["subscriptions"]
            if (one["protocol"], one["endpoint"]) == (protocol, sns._p(parameters, "Endpoint"))
        )
        if subscription["attributes"]["ConfirmationWasAuthenticated"] == "true" and not subscription.get("asked"):
            subscription.update(confirmed=False, token=sns.new_uuid(), asked=True)
            subscription["attributes"].update(ConfirmationWasAuthenticated="false", PendingConfirmation="true")
            sns._refresh_subscription_counts(sns._topics[topic_arn])
        if subscription["confirmed"]:
            return answer
        self._ask(topic_arn, subscription)
        if sns._p(parameters, "ReturnSubscriptionArn") == "true":
            return answer
        body = answer[2].decode() if isinstance(answer[2], bytes) else answer[2]
        pending = body.replace(subscription["arn"], "pending confirmation")
        return answer[0], answer[1], pending.encode()

    def _ask(self, topic_arn: str, subscription: dict[str, Any]) -> None:
        link = (
            f"{self._settings.endpoint_url}/?Action=ConfirmSubscription&TopicArn={quote(topic_arn)}"
            f"&Token={subscription['token']}"
        )
        text = CONFIRM.format(topic=topic_arn, link=link)
        self._send(subscription["endpoint"], "AWS Notification - Subscription Confirmation", text, topic_arn)

    def publish(self, parameters: dict[str, list[str]]) -> Answer:
        """Refuse a subject that AWS refuses: it would be lost only in the real account."""
        subject = sns._p(parameters, "Subject")
        if subject and not re.fullmatch(r"[A-Za-z0-9!-~][ -~]{0,99}", subject):
            answer: Answer = sns._error(
                "InvalidParameter", "Invalid parameter: Subject: expected 1–100 printable ASCII characters", 400
            )
            return answer
        return self._publish(parameters)  # type: ignore[no-any-return]

    def fanout(  # noqa: PLR0917 (ministack calls it)
        self,
        topic_arn: str,
        message_id: str,
        message: str,
        subject: str,
        message_structure: str = "",
        message_attributes: dict[str, Any] | None = None,
        **fifo: str,
    ) -> None:
        self._fanout(topic_arn, message_id, message, subject, message_structure, message_attributes, **fifo)
        topic = sns._topic_by_arn_any_scope(topic_arn)
        for subscription in (topic or {}).get("subscriptions", []):
            protocol = subscription["protocol"]
            text = sns._resolve_message_for_protocol(message, message_structure, protocol)
            if (
                protocol in EMAIL_PROTOCOLS
                and subscription.get("confirmed")
                and sns._matches_filter_policy(subscription, message_attributes or {}, text)
            ):
                if protocol == "email-json":
                    attributes = message_attributes or {}
                    text = sns._build_envelope(topic_arn, message_id, text, subject, attributes, False)
                else:
                    link = f"{self._settings.endpoint_url}/?Action=Unsubscribe&SubscriptionArn={subscription['arn']}"
                    text += FOOTER.format(link=link)
                self._send(subscription["endpoint"], subject or "AWS Notification Message", text, topic_arn)

    def _send(self, to: str, subject: str, text: str, topic_arn: str) -> None:
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = SENDER, to, subject
        mail["x-amz-sns-topic-arn"] = topic_arn
        mail.set_content(text, cte="quoted-printable")
        threading.Thread(target=contextvars.copy_context().run, args=(self._deliver, mail), daemon=True).start()

    def _deliver(self, mail: EmailMessage) -> None:
        try:
            with smtplib.SMTP("127.0.0.1", self.smtp_port, timeout=10) as server:
                server.send_message(mail)
        except (OSError, smtplib.SMTPException) as error:
            logger.error("mail %r to %s was not delivered: %s", mail["Subject"], mail["To"], error)


def _hide_pending(answer: Answer) -> Answer:
    """AWS lists ``PendingConfirmation`` in place of the ARN of a subscription that nobody has confirmed yet."""
    body = answer[2].decode() if isinstance(answer[2], bytes) else answer[2]
    for topic in sns._topics.values():
        for subscription in topic["subscriptions"]:
            if not subscription.get("confirmed"):
                body = body.replace(
                    f"<SubscriptionArn>{subscription['arn']}</SubscriptionArn>",
                    "<SubscriptionArn>PendingConfirmation</SubscriptionArn>",
                )
    return answer[0], answer[1], body.encode()
