"""EventBridge -> Lambda, and asynchronous Lambda invocation, with the semantics that AWS documents.

ministack calls a target once and drops its failure, never asks the function's policy, and sends failures only one way.
Here: the function's policy must allow the rule; an asynchronous event is tried again after an error; then it goes
to the dead-letter queue and the record to the on-failure destination, both as the function's role, so IAM is enforced.
"""

from __future__ import annotations

import contextvars
import json
import logging
import threading
import time
import uuid
from datetime import datetime, timezone
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from ministack.core import iam_evaluator, lambda_runtime
from ministack.services import cloudwatch_logs, eventbridge, lambda_svc

from sandbox.emulator import roles
from sandbox.settings import ACCOUNT, REGION, Settings

logger = logging.getLogger("sandbox.events")

THROTTLED_DELAY_S = 0.5
EVENT_AGE_MAX_S = 21600
RETRIES_DEFAULT = 2

# The rule whose target is being called.
rule_arn: contextvars.ContextVar[str] = contextvars.ContextVar("sandbox_rule_arn", default="")

# The request id of the attempt that begins; taken out by who uses it. All attempts at one event have the same (AWS).
request_ids: contextvars.ContextVar[list[str]] = contextvars.ContextVar("sandbox_request_ids")


class AsynchronousInvocations:
    """Takes the place of ministack's asynchronous invocation and of EventBridge's call of a function."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._invoke_target = eventbridge._invoke_target
        self._emit_logs = lambda_svc._emit_lambda_logs
        self._new_uuid = lambda_svc.new_uuid

    def install(self) -> None:
        eventbridge._invoke_target = self.invoke_target
        eventbridge._dispatch_to_lambda = self.dispatch_to_lambda
        lambda_svc.invoke_async_with_retry = self.invoke
        lambda_svc._emit_lambda_logs = self.emit_logs
        lambda_svc.new_uuid = self.new_uuid

    def invoke_target(self, target: dict[str, Any], event: Any, rule: dict[str, Any], view: Any = None) -> None:
        """Remember the rule while its target is called: the function's policy names it."""
        token = rule_arn.set((rule or {}).get("Arn", ""))
        try:
            self._invoke_target(target, event, rule, view)
        finally:
            rule_arn.reset(token)

    def new_uuid(self) -> str:
        """ministack asks for a request id at each attempt."""
        waiting = request_ids.get([])
        return waiting.pop() if waiting else str(self._new_uuid())

    def dispatch_to_lambda(self, arn: str, payload: str) -> None:
        function, config, name = lambda_svc._get_func_record_for_ref(arn)
        if not function or not config:
            logger.error("rule %s: function %s does not exist", rule_arn.get(), name)
        elif not _may_invoke(arn, rule_arn.get()):
            logger.error(
                "rule %s: the policy of %s does not allow events.amazonaws.com to invoke it (lambda add-permission)",
                rule_arn.get(),
                arn,
            )
        else:
            self.invoke(lambda_svc._execution_record_for_config(function, config), json.loads(payload))

    def invoke(self, function: dict[str, Any], event: Any) -> None:
        """Invoke a function asynchronously: returns at once, as Lambda's event queue does."""
        run = contextvars.copy_context().run
        threading.Thread(target=run, args=(self._invoke_until_done, function, event), daemon=True).start()

    def _invoke_until_done(self, function: dict[str, Any], event: Any) -> None:
        config = function.get("config") or function
        options = (
            function.get("event_invoke_config") or (function.get("event_invoke_configs") or {}).get("$LATEST") or {}
        )
        retries = options.get("MaximumRetryAttempts")
        retries = RETRIES_DEFAULT if retries is None else int(retries)
        deadline = time.monotonic() + int(options.get("MaximumEventAgeInSeconds") or EVENT_AGE_MAX_S)
        attempts, request_id = 0, str(uuid.uuid4())
        while True:
            request_ids.set([request_id])
            result = lambda_svc._execute_function(function, event)
            if result.get("throttle"):  # AWS keeps a throttled event in its queue and does not count an attempt
                delay_s = THROTTLED_DELAY_S
            elif not result.get("error"):
                self._send_record(config, options, "OnSuccess", "Success", attempts + 1, request_id, event, result)
                return
            else:
                attempts += 1
                # AWS: one minute before the first retry, two before the second. By default nobody waits for that here.
                delay_s = self._settings.lambda_retry_s * min(attempts, 2.0)
            if attempts > retries or time.monotonic() + delay_s > deadline:
                break
            time.sleep(delay_s)
        condition = "RetriesExhausted" if attempts > retries else "EventAgeExceeded"
        logger.error("%s failed: %s after %d attempts", config["FunctionName"], condition, attempts)
        self._send_to_dead_letters(config, event, result)
        self._send_record(config, options, "OnFailure", condition, attempts, request_id, event, result)

    def _send_record(  # noqa: PLR0917 (one record of all of these)
        self,
        config: dict[str, Any],
        options: dict[str, Any],
        outcome: str,
        condition: str,
        attempts: int,
        request_id: str,
        event: Any,
        result: dict[str, Any],
    ) -> None:
        """Send the invocation record to a destination, if the function has one for this outcome."""
        target = ((options.get("DestinationConfig") or {}).get(outcome) or {}).get("Destination")
        if not target:
            return
        response: dict[str, Any] = {"statusCode": 200, "executedVersion": "$LATEST"}
        if outcome == "OnFailure":
            response["functionError"] = result.get("function_error") or "Unhandled"
        record = {
            "version": "1.0",
            "timestamp": datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "requestContext": {
                "requestId": request_id,
                "functionArn": f"{config['FunctionArn']}:$LATEST",
                "condition": condition,
                "approximateInvokeCount": attempts,
            },
            "requestPayload": event,
            "responseContext": response,
            "responsePayload": result.get("body"),
        }
        self._deliver(config, target, json.dumps(record), {})

    def _send_to_dead_letters(self, config: dict[str, Any], event: Any, result: dict[str, Any]) -> None:
        """Send the event itself to the dead-letter queue or topic, the error as message attributes."""
        target = (config.get("DeadLetterConfig") or {}).get("TargetArn")
        if target:
            body = result.get("body") if isinstance(result.get("body"), dict) else {}
            attributes = {
                "RequestID": str(uuid.uuid4()),
                "ErrorCode": "200",
                "ErrorMessage": str(body.get("errorMessage", ""))[:1024] or "unknown",
            }
            self._deliver(config, target, json.dumps(event), attributes)

    def _deliver(self, config: dict[str, Any], target: str, body: str, attributes: dict[str, str]) -> None:
        service = target.split(":")[2]
        typed = {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()}
        try:
            client = self._client(config, service)
            if service == "sqs":
                client.send_message(QueueUrl=self._queue_url(target), MessageBody=body, MessageAttributes=typed)
            elif service == "sns":
                client.publish(TopicArn=target, Message=body, MessageAttributes=typed)
            elif service == "lambda":
                client.invoke(FunctionName=target, InvocationType="Event", Payload=body.encode())
            else:
                logger.error("%s: destination %s: expected SQS, SNS or Lambda", config["FunctionName"], target)
        except (ClientError, BotoCoreError) as error:
            logger.error("%s: destination %s: %s", config["FunctionName"], target, error)

    def _queue_url(self, arn: str) -> str:
        return f"{self._settings.endpoint_url}/{ACCOUNT}/{arn.rpartition(':')[2]}"

    def _client(self, config: dict[str, Any], service: str) -> Any:
        """A client with the keys of the function's role: delivery is allowed or refused as in AWS."""
        keys = lambda_runtime.execution_credentials(config)
        return botocore.session.Session().create_client(
            service,
            region_name=REGION,
            endpoint_url=self._settings.endpoint_url,
            aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
            aws_session_token=keys["AWS_SESSION_TOKEN"],
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=60),
        )

    def emit_logs(self, function: dict[str, Any], *arguments: Any, **options: Any) -> None:
        """Write the function's log where its role may: without the permissions AWS shows no log either."""
        config = function.get("config") or function
        group = f"/aws/lambda/{config.get('FunctionName')}"
        role = roles.name_from_arn(config.get("Role", ""))
        stream_arn = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}:log-stream:any"
        group_arn = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}:*"
        may_write = roles.allows(role, "logs:PutLogEvents", stream_arn)
        may_create = group in cloudwatch_logs._log_groups or roles.allows(role, "logs:CreateLogGroup", group_arn)
        if may_write and may_create:
            self._emit_logs(function, *arguments, **options)
        else:
            logger.error("%s: role %s may not write to %s", config.get("FunctionName"), role, group)


def _may_invoke(function_arn: str, rule_arn: str) -> bool:
    """Whether the function's own policy lets EventBridge invoke it for this rule."""
    policy = lambda_svc.function_policy_for_arn(function_arn)
    context = iam_evaluator.EvalContext(
        principal_arn="*",
        principal_type="Service",
        principal_account="",
        action="lambda:InvokeFunction",
        resource_arn=function_arn,
        region=REGION,
        service_context={"aws:sourcearn": rule_arn, "aws:sourceaccount": ACCOUNT},
    )
    decision = iam_evaluator.evaluate_resource_policy(policy and policy[0], context, service="events.amazonaws.com")
    return bool(decision.decision == "Allow")
