"""EventBridge -> Lambda on the sandbox: what AWS does when a function fails, may not be called or may not call."""

from __future__ import annotations

import io
import json
import uuid
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sandbox.settings import ACCOUNT, REGION
from tests.sandbox.support import OwnSandbox, eventually

pytestmark = pytest.mark.sandbox

ECHO = """
import importlib.util, json, os
import boto3

def handler(event, context):
    me = boto3.client("sts").get_caller_identity()["Arn"]
    print("handled", json.dumps(event))
    return {"event": event, "arn": me, "environment": dict(os.environ),
            "websocket": importlib.util.find_spec("websocket") is not None,
            "sandbox": importlib.util.find_spec("sandbox") is not None}
"""
FAIL = """
def handler(event, context):
    print("attempt")
    print("request", context.aws_request_id)
    raise RuntimeError("expected to fail")
"""
STORE = """
import json, os
import boto3

def handler(event, context):
    boto3.client("sqs").send_message(QueueUrl=os.environ["QUEUE"], MessageBody=json.dumps(event))
"""

LOGS = {"Action": "logs:*", "Resource": "*"}


class Functions:
    """Makes functions, queues and rules with unique names."""

    def __init__(self, own: OwnSandbox, aws: Callable[[str], Any], make_role: Callable[..., str]) -> None:
        self.own, self.aws, self.make_role = own, aws, make_role

    def name(self) -> str:
        return f"test-{uuid.uuid4().hex[:8]}"

    def queue(self) -> tuple[str, str]:
        """URL and ARN of a new queue."""
        name = self.name()
        url = self.aws("sqs").create_queue(QueueName=name)["QueueUrl"]
        return url, f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"

    def function(self, code: str, *statements: dict[str, Any], **options: Any) -> str:
        """The ARN of a new function whose role has these permissions."""
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("app.py", code)
        name = self.name()
        role = self.make_role(name, "lambda.amazonaws.com", *statements)
        created = self.aws("lambda").create_function(
            FunctionName=name,
            Runtime="python3.11",
            Role=role,
            Handler="app.handler",
            Code={"ZipFile": archive.getvalue()},
            **options,
        )
        eventually(lambda: self.aws("lambda").get_function(FunctionName=name)["Configuration"]["State"] == "Active")
        return str(created["FunctionArn"])

    def rule(self, function_arn: str, *, permitted: bool = True, **target: Any) -> str:
        """A rule for events of a new source, which is returned."""
        source = self.name()
        pattern = json.dumps({"source": [source]})
        rule_arn = self.aws("events").put_rule(Name=source, EventPattern=pattern)["RuleArn"]
        if permitted:
            self.aws("lambda").add_permission(
                FunctionName=function_arn,
                StatementId=source,
                Action="lambda:InvokeFunction",
                Principal="events.amazonaws.com",
                SourceArn=rule_arn,
            )
        self.aws("events").put_targets(Rule=source, Targets=[{"Id": "1", "Arn": function_arn, **target}])
        return source

    def put_event(self, source: str, **detail: Any) -> None:
        entry = {"Source": source, "DetailType": "Test", "Detail": json.dumps(detail)}
        assert self.aws("events").put_events(Entries=[entry])["FailedEntryCount"] == 0

    def receive(self, url: str, timeout_s: float = 30) -> dict[str, Any]:
        """The next message of a queue."""

        def poll() -> Any:
            answer = self.aws("sqs").receive_message(QueueUrl=url, WaitTimeSeconds=1, MessageAttributeNames=["All"])
            return answer.get("Messages")

        message: dict[str, Any] = eventually(poll, timeout_s)[0]
        self.aws("sqs").delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return message

    def log_lines(self, function_arn: str) -> list[str]:
        group = f"/aws/lambda/{function_arn.rpartition(':')[2]}"
        try:
            events = self.aws("logs").filter_log_events(logGroupName=group)["events"]
        except self.aws("logs").exceptions.ResourceNotFoundException:
            return []
        return [event["message"] for event in events]


@pytest.fixture(scope="module")
def functions(own_sandbox: OwnSandbox, aws: Callable[[str], Any], make_role: Callable[..., str]) -> Iterator[Functions]:
    return Functions(own_sandbox, aws, make_role)


def test_a_function_has_its_roles_keys_and_nothing_of_the_emulator(functions: Functions) -> None:
    arn = functions.function(ECHO, LOGS, Environment={"Variables": {"MINE": "1"}})
    answer = functions.aws("lambda").invoke(FunctionName=arn, Payload=b'{"a": 1}')
    result = json.loads(answer["Payload"].read())
    name = arn.rpartition(":")[2]
    assert result["event"] == {"a": 1}
    assert result["arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/{name}/{name}"
    assert not result["websocket"], "the layer must bring websocket-client"
    assert not result["sandbox"], "the package must bring its own code"
    environment = result["environment"]
    assert environment["MINE"] == "1"
    assert environment["AWS_REGION"] == environment["AWS_DEFAULT_REGION"] == REGION
    assert environment["AWS_ENDPOINT_URL"] == functions.own.settings.endpoint_url
    assert environment["AWS_ACCESS_KEY_ID"].startswith("ASIA")
    assert not [variable for variable in environment if variable.startswith("SANDBOX_") or variable == "PYTHONPATH"]


def test_a_functions_permissions_are_enforced(functions: Functions) -> None:
    url, _ = functions.queue()
    arn = functions.function(STORE, LOGS, Environment={"Variables": {"QUEUE": url}})
    answer = functions.aws("lambda").invoke(FunctionName=arn, Payload=b"{}")
    assert answer["FunctionError"] == "Unhandled"
    assert "sqs:sendmessage" in answer["Payload"].read().decode().lower()


def test_a_rule_invokes_with_its_transformed_input(functions: Functions) -> None:
    url, queue_arn = functions.queue()
    arn = functions.function(
        STORE, LOGS, {"Action": "sqs:SendMessage", "Resource": queue_arn}, Environment={"Variables": {"QUEUE": url}}
    )
    template = '{"workflow": "w", "event_id": <id>, "time": <time>, "detail": <detail>, "timeout_s": 900}'
    paths = {"id": "$.id", "time": "$.time", "detail": "$.detail"}
    source = functions.rule(arn, InputTransformer={"InputPathsMap": paths, "InputTemplate": template})
    functions.put_event(source, parameters={"lookback_h": 24}, text='with "quotes"')
    body = json.loads(functions.receive(url)["Body"])
    assert body["detail"] == {"parameters": {"lookback_h": 24}, "text": 'with "quotes"'}
    assert (body["workflow"], body["timeout_s"]) == ("w", 900)
    assert uuid.UUID(body["event_id"])


def test_without_permission_a_rule_does_not_invoke(functions: Functions) -> None:
    arn = functions.function(ECHO, LOGS)
    source = functions.rule(arn, permitted=False)
    functions.put_event(source)
    log = functions.own.settings.home / "logs/emulator.log"
    eventually(lambda: f"the policy of {arn} does not allow events.amazonaws.com" in log.read_text())
    assert functions.log_lines(arn) == []


def test_a_failing_function_is_tried_again_and_then_reported(functions: Functions) -> None:
    backup_url, backup_queue = functions.queue()
    dead_url, dead_queue = functions.queue()
    backup = functions.function(
        STORE,
        LOGS,
        {"Action": "sqs:SendMessage", "Resource": backup_queue},
        Environment={"Variables": {"QUEUE": backup_url}},
    )
    arn = functions.function(
        FAIL,
        LOGS,
        {"Action": "lambda:InvokeFunction", "Resource": backup},
        {"Action": "sqs:SendMessage", "Resource": dead_queue},
        DeadLetterConfig={"TargetArn": dead_queue},
    )
    functions.aws("lambda").put_function_event_invoke_config(
        FunctionName=arn, MaximumRetryAttempts=1, DestinationConfig={"OnFailure": {"Destination": backup}}
    )
    source = functions.rule(arn)
    functions.put_event(source, number=7)

    record = json.loads(functions.receive(backup_url)["Body"])
    assert record["requestPayload"]["detail"] == {"number": 7}
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["requestContext"]["approximateInvokeCount"] == 2
    assert record["responsePayload"]["errorMessage"] == "expected to fail"
    lines = functions.log_lines(arn)
    assert lines.count("attempt") == 2
    requests = {line for line in lines if line.startswith("request ")}
    assert requests == {f"request {record['requestContext']['requestId']}"}, "an event keeps its id when it is retried"

    dead = functions.receive(dead_url)
    assert json.loads(dead["Body"])["detail"] == {"number": 7}, "the queue gets the event, not the record"
    assert dead["MessageAttributes"]["ErrorMessage"]["StringValue"] == "expected to fail"


def test_the_backup_functions_own_failure_reaches_its_dead_letter_queue(functions: Functions) -> None:
    url, queue = functions.queue()
    backup = functions.function(
        FAIL, LOGS, {"Action": "sqs:SendMessage", "Resource": queue}, DeadLetterConfig={"TargetArn": queue}
    )
    functions.aws("lambda").put_function_event_invoke_config(FunctionName=backup, MaximumRetryAttempts=0)
    arn = functions.function(FAIL, LOGS, {"Action": "lambda:InvokeFunction", "Resource": backup})
    functions.aws("lambda").put_function_event_invoke_config(
        FunctionName=arn, MaximumRetryAttempts=0, DestinationConfig={"OnFailure": {"Destination": backup}}
    )
    functions.aws("lambda").invoke(FunctionName=arn, InvocationType="Event", Payload=b'{"x": 1}')
    assert json.loads(functions.receive(url)["Body"])["requestPayload"] == {"x": 1}


def test_a_destination_needs_the_roles_permission(functions: Functions) -> None:
    _, queue = functions.queue()
    arn = functions.function(FAIL, LOGS)
    functions.aws("lambda").put_function_event_invoke_config(
        FunctionName=arn, MaximumRetryAttempts=0, DestinationConfig={"OnFailure": {"Destination": queue}}
    )
    functions.aws("lambda").invoke(FunctionName=arn, InvocationType="Event", Payload=b"{}")
    log = functions.own.settings.home / "logs/emulator.log"
    eventually(
        lambda: f"{arn.rpartition(':')[2]}: destination {queue}: An error occurred (AccessDenied" in log.read_text()
    )


def test_without_the_logs_permission_there_is_no_log(functions: Functions) -> None:
    arn = functions.function(FAIL)
    functions.aws("lambda").invoke(FunctionName=arn, Payload=b"{}")
    assert functions.log_lines(arn) == []


def test_a_function_needs_a_role_that_lambda_may_assume(functions: Functions) -> None:
    role = functions.make_role(functions.name(), "sagemaker.amazonaws.com")
    with pytest.raises(ClientError, match="cannot be assumed by Lambda"):
        functions.aws("lambda").create_function(
            FunctionName=functions.name(),
            Runtime="python3.11",
            Role=role,
            Handler="a.b",
            Code={"ZipFile": b"PK\5\6" + bytes(18)},
        )
