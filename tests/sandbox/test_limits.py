"""AWS's rates, its latency and its delays, which are off unless asked for."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from sandbox.account import session
from tests.sandbox.support import OwnSandbox, eventually, policy
from tests.sandbox.test_tagging import zipped

pytestmark = pytest.mark.sandbox

RATES = "lambda:*=3,logs:PutRetentionPolicy=2,sns:*=1,ec2:*=1,s3:PutObject=1"
LATENCY_MS = 40
IAM_DELAY_S = 3


@pytest.fixture(scope="module")
def limited() -> Iterator[OwnSandbox]:
    own = OwnSandbox()
    own.environment |= {
        "SANDBOX_AWS_RATES": RATES,
        "SANDBOX_AWS_LATENCY_MS": str(LATENCY_MS),
        "SANDBOX_IAM_DELAY_S": str(IAM_DELAY_S),
        "SANDBOX_DEVICES": "1",
    }
    try:
        own.json("up")
        yield own
    finally:
        own.remove()


@pytest.fixture(scope="module")
def client(limited: OwnSandbox) -> Callable[[str], Any]:
    """Clients that do not try again."""
    account: boto3.Session = session(limited.settings)
    return lambda service: account.client(service, config=Config(retries={"total_max_attempts": 1}))


def outcome(call: Callable[[], Any]) -> str:
    try:
        call()
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return "done"


# service -> a call, its rate, and the code and status of what is above it
CALLS: dict[str, tuple[Callable[[Any], Any], int, str, int]] = {
    "lambda": (lambda client: client.list_functions(), 3, "TooManyRequestsException", 429),
    "logs": (
        lambda client: client.put_retention_policy(logGroupName="g", retentionInDays=1),
        2,
        "ThrottlingException",
        400,
    ),
    "sns": (lambda client: client.list_topics(), 1, "Throttling", 400),
    "ec2": (lambda client: client.describe_vpcs(), 1, "RequestLimitExceeded", 503),
    "s3": (lambda client: client.put_object(Bucket="bucket", Key="k", Body=b"x"), 1, "SlowDown", 503),
}


@pytest.mark.parametrize("service", CALLS)
def test_calls_above_the_rate(limited: OwnSandbox, client: Callable[[str], Any], service: str) -> None:
    call, rate, code, status = CALLS[service]
    called = client(service)
    outcomes = [outcome(lambda: call(called)) for _ in range(12)]
    assert code not in outcomes[:rate]
    assert outcomes.count(code) >= 12 - 3 * rate - 1  # twelve calls take less than two seconds
    logged = [line for line in limited.calls() if line["service"] == service]
    assert outcomes.count(code) == sum(line["throttled"] for line in logged)
    assert {line["status"] for line in logged if line["throttled"]} == {status}
    time.sleep(1.1 / rate)
    assert outcome(lambda: call(called)) != code


def test_other_operations_are_not_limited(client: Callable[[str], Any]) -> None:
    logs = client("logs")
    assert [outcome(logs.describe_log_groups) for _ in range(10)] == ["done"] * 10


def test_latency(client: Callable[[str], Any]) -> None:
    sts = client("sts")
    sts.get_caller_identity()
    began = time.monotonic()
    for _ in range(5):
        sts.get_caller_identity()
    assert time.monotonic() - began >= 5 * LATENCY_MS / 1000


def test_lambda_does_not_know_a_new_role(client: Callable[[str], Any]) -> None:
    name = f"new-{uuid.uuid4().hex[:8]}"
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    role = client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=policy(trust))["Role"]["Arn"]
    function = {
        "FunctionName": name,
        "Runtime": "python3.11",
        "Role": role,
        "Handler": "handler.handle",
        "Code": {"ZipFile": zipped()},
    }
    time.sleep(1)  # for Lambda's own rate
    assert outcome(lambda: client("lambda").create_function(**function)) == "InvalidParameterValueException"
    assert eventually(lambda: outcome(lambda: client("lambda").create_function(**function)) == "done", 15)
