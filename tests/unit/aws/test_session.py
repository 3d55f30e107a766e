"""Errors of AWS as sentences, and waiting that ends."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from twinops.aws.session import Aws, absent_as_none, explain, in_order, until, until_accepted
from twinops.errors import TwinopsError


def refusal(code: str, message: str = "no", operation: str = "PutBucketPolicy") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)


def test_error_names_resource_operation_code_and_what_to_do() -> None:
    said = str(explain(refusal("AccessDenied", "You shall not."), "bucket reports"))
    assert said.startswith(
        "bucket reports: PutBucketPolicy: AccessDenied: You shall not. To do: use the environment's deploy role"
    )


def test_error_without_advice_is_still_complete() -> None:
    assert str(explain(refusal("Odd"), "bucket reports")) == "bucket reports: PutBucketPolicy: Odd: no"


def test_endpoint_that_does_not_answer() -> None:
    said = str(explain(EndpointConnectionError(endpoint_url="http://127.0.0.1:1"), "AWS account"))
    assert "http://127.0.0.1:1" in said
    assert "sandbox" in said


def test_only_the_expected_code_means_absent() -> None:
    def raises(code: str) -> None:
        raise refusal(code)

    assert absent_as_none(raises, "NoSuchBucket", code="NoSuchBucket") is None
    with pytest.raises(ClientError):
        absent_as_none(raises, "NoSuchBucket", code="AccessDenied")


def test_call_is_repeated_until_the_role_is_known() -> None:
    answers: list[Any] = [refusal("InvalidParameterValue", "cannot be assumed by Lambda"), "made"]

    def call() -> str:
        answer = answers.pop(0)
        if isinstance(answer, ClientError):
            raise answer
        return str(answer)

    assert until_accepted(call, ("cannot be assumed by Lambda",)) == "made"
    assert not answers


@pytest.mark.parametrize(("refused_for", "timeout_s"), [("another reason", 60), ("cannot be assumed", 0.1)])
def test_repeating_ends(refused_for: str, timeout_s: float) -> None:
    calls = []

    def call() -> None:
        calls.append(1)
        raise refusal("InvalidParameterValue", refused_for)

    with pytest.raises(ClientError):
        until_accepted(call, ("cannot be assumed",), timeout_s)
    assert len(calls) == 1


def test_waiting_ends_and_says_for_what() -> None:
    with pytest.raises(TwinopsError, match="table ledger: ACTIVE: not within"):
        until(lambda: False, "table ledger: ACTIVE", timeout_s=0.05, pause_s=0.02)


def test_region_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    from twinops.aws import session

    session.session.cache_clear()
    try:
        with pytest.raises(TwinopsError, match="region: expected one"):
            Aws("staging")
    finally:
        session.session.cache_clear()
        session.client.cache_clear()


def test_all_items_are_tried_before_errors_are_raised_as_one() -> None:
    aws = Aws.__new__(Aws)  # each() needs no account
    tried, lock = set(), threading.Lock()

    def work(item: int) -> int:
        with lock:
            tried.add(item)
        if item % 2:
            raise TwinopsError(f"{item} is odd")
        return item

    with pytest.raises(TwinopsError, match="1 is odd\n3 is odd"):
        aws.each(work, [0, 1, 2, 3], workers=2)
    assert tried == {0, 1, 2, 3}
    assert aws.each(work, [4, 2, 0]) == [4, 2, 0]


def test_stages_wait_for_those_before_them_and_others_overlap() -> None:
    both_at_once, done = threading.Barrier(2, timeout=10), []

    def call(stage: str) -> None:
        if stage in ("log groups", "roles"):
            both_at_once.wait()  # fails unless the two overlap
        done.append(stage)

    stages = {name: name for name in ("roles", "log groups", "functions", "rules")}
    before = {"functions": ["roles", "layers"], "rules": ["functions"]}
    in_order(call, stages, lambda stage: before.get(stage, []))
    assert [stage for stage in done if stage != "log groups"] == ["roles", "functions", "rules"]


def test_what_needs_a_failed_stage_is_not_tried_and_all_else_is() -> None:
    done = []

    def call(stage: str) -> None:
        if stage == "functions":
            raise TwinopsError("function dispatch: no")
        done.append(stage)

    stages = {name: name for name in ("functions", "rules", "alarms", "buckets")}
    before = {"rules": ["functions"], "alarms": ["functions", "rules"]}
    with pytest.raises(TwinopsError, match=r"^function dispatch: no$"):
        in_order(call, stages, lambda stage: before.get(stage, []))
    assert done == ["buckets"]


def test_what_is_asked_once_is_asked_once_by_many_threads() -> None:
    aws, asked = object.__new__(Aws), []  # what is tested needs no account
    aws._known, aws._reading, aws._lock = {}, {}, threading.Lock()

    def read() -> str:
        asked.append(1)
        time.sleep(0.05)
        return "answer"

    assert aws.each(lambda _: aws.once("what", read), range(8)) == ["answer"] * 8
    assert len(asked) == 1
    aws.forget("what")
    aws.once("what", read)
    assert len(asked) == 2
