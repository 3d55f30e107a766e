"""KMS: who may use the key of a topic, a queue or a bucket, and keys whose policy would lock everybody out.

Whoever writes to or reads from something that is encrypted with a key of the account needs that key too, by way of the
service (``kms:ViaService``). ministack keeps the settings and asks nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ministack.core import iam_evaluator
from ministack.services import kms, s3, sns, sqs

from sandbox.emulator.answers import Answer, json_error
from sandbox.emulator.iam_resources import Check, Request
from sandbox.settings import ACCOUNT, REGION

S3_KEY_HEADER = "x-amz-server-side-encryption-aws-kms-key-id"
SENDING = ("kms:GenerateDataKey", "kms:Decrypt")
RECEIVING = ("kms:Decrypt",)


def install() -> None:
    """Refuse key policies that nobody could change; forget a topic's key when it is taken away."""
    create, put, set_attributes = kms._create_key, kms._put_key_policy, sns._set_topic_attributes

    def set_topic_attributes(parameters: Any) -> Any:
        answer = set_attributes(parameters)
        topic = sns._topic_by_arn_any_scope(sns._p(parameters, "TopicArn"))
        if topic is not None and not topic["attributes"].get("KmsMasterKeyId", "x"):
            del topic["attributes"]["KmsMasterKeyId"]
        return answer

    kms._create_key = _unless_locked_out(create)
    kms._put_key_policy = _unless_locked_out(put)
    sns._set_topic_attributes = set_topic_attributes


def _unless_locked_out(handle: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    def handle_if_safe(request: dict[str, Any]) -> Any:
        policy = request.get("Policy")
        if policy and not request.get("BypassPolicyLockoutSafetyCheck") and not _caller_may_change(policy):
            message = "The new key policy will not allow you to update the key policy in the future."
            return json_error("MalformedPolicyDocumentException", message)
        return handle(request)

    return handle_if_safe


def _caller_may_change(policy: str) -> bool:
    context = iam_evaluator.EvalContext(
        principal_arn=iam_evaluator.caller_arn(),
        principal_type="",
        principal_account=ACCOUNT,
        action="kms:PutKeyPolicy",
        resource_arn=f"arn:aws:kms:{REGION}:{ACCOUNT}:key/new",
        region=REGION,
    )
    return bool(iam_evaluator.evaluate_resource_policy(policy, context).decision == "Allow")


def key_checks(request: Request, headers: dict[str, str]) -> Iterator[Check]:
    """What a caller must be allowed to do with the keys of what it writes to or reads from."""
    if request.service == "sns" and request.operation in ("Publish", "PublishBatch"):
        topic = sns._topic_by_arn_any_scope(request.get("TopicArn", "TargetArn"))
        yield from using((topic or {}).get("attributes", {}).get("KmsMasterKeyId"), "sns", SENDING)
    elif request.service == "sqs" and request.operation in ("SendMessage", "SendMessageBatch", "ReceiveMessage"):
        queue = next((one for one in sqs._queues.values() if one["url"] == request.get("QueueUrl")), {})
        actions = RECEIVING if request.operation == "ReceiveMessage" else SENDING
        yield from using(queue.get("attributes", {}).get("KmsMasterKeyId"), "sqs", actions)
    elif request.service == "s3" and request.operation == "PutObject":
        bucket = request.path.strip("/").split("/")[0]
        key = headers.get(S3_KEY_HEADER) or s3._bucket_default_sse_headers(bucket).get(S3_KEY_HEADER)
        yield from using(key, "s3", ("kms:GenerateDataKey",))


def using(key_id: str | None, service: str, actions: tuple[str, ...]) -> Iterator[Check]:
    """Checks for a key of the account; keys that AWS manages are everybody's."""
    key = kms._resolve_key(key_id or "")
    for action in actions if key else ():
        yield Check(action, key["Arn"], context={"kms:ViaService": f"{service}.{REGION}.amazonaws.com"})


def read_checks(answer: Answer) -> Iterator[Check]:
    """What reading an object takes, which its answer tells."""
    yield from using(answer[1].get(S3_KEY_HEADER), "s3", RECEIVING)
