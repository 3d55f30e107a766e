"""What the Lambdas make of events, and at which epoch they ring; a whole dispatch is in tests/sandbox."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from twinops.aws.clients import client
from twinops.aws.ledger import Ledger
from twinops.runs import timestamp

from dispatch import doorbell, handler
from dispatch.claims import claim_of
from dispatch.settings import DispatchError
from dispatch.terminal import LONGEST_LINE_BYTES, TerminalError

EVENT = {
    "workflow": "model_evaluation",
    "event_id": "e1",
    "time": "2026-11-22T05:00:00Z",
    "detail-type": "Rollout finished",
    "detail": {"release": "v2"},
    "git_sha": "a" * 40,
    "timeout_s": 900,
    "idempotent": True,
    "concurrency": "queue",
}
ENV = "staging"


class FakeContext:
    """Lambda's context object of a request that has no time left."""

    def __init__(self, request_id: str) -> None:
        self.aws_request_id = request_id

    def get_remaining_time_in_millis(self) -> int:
        return 0


def test_claim_of_an_event() -> None:
    claim = claim_of({**EVENT, "detail": {"parameters": {"lookback_h": 1}}}, ENV)
    assert json.loads(claim["parameters"]) == {"lookback_h": 1}
    assert (claim["workflow"], claim["event_id"], claim["timeout_s"]) == ("model_evaluation", "e1", 900)
    assert claim["run_id"] != claim_of(EVENT, ENV)["run_id"]


def test_two_deliveries_of_one_tick_are_one_run() -> None:
    tick = {**EVENT, "detail-type": "Scheduled Event", "detail": {}}
    assert claim_of(tick, ENV)["run_id"] == claim_of({**tick, "event_id": "e2"}, ENV)["run_id"]


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("workflow", "../x", "workflow"),
        ("workflow", None, "workflow"),
        ("event_id", "", "event_id"),
        ("git_sha", "main", "git_sha"),
        ("git_sha", "a" * 40 + "; rm -rf /", "git_sha"),
        ("timeout_s", "900", "timeout_s"),
        ("timeout_s", True, "timeout_s"),
        ("idempotent", 1, "idempotent"),
        ("concurrency", "replace", "concurrency"),
        ("concurrency", None, "concurrency"),
        ("rerun_of", "1; reboot", "rerun_of"),
        ("detail", {"parameters": [1]}, "detail.parameters"),
        ("detail", "text", "detail.parameters"),
    ],
)
def test_a_bad_event_is_named(field: str, value: Any, named: str) -> None:
    with pytest.raises(DispatchError, match=f"event: {named}: missing or wrong"):
        claim_of({**EVENT, field: value}, ENV)


def test_the_line_is_short_and_detached() -> None:
    line = doorbell.command(claim_of(EVENT, ENV), 12)
    assert line.startswith('setsid "$HOME/SageMaker/twinops/bin/run-once" ')
    assert line.endswith(f" 12 {'a' * 40} </dev/null >/dev/null 2>&1 &")
    assert len(line) < LONGEST_LINE_BYTES


def test_missing_settings_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWIN", "t")
    monkeypatch.setenv("TWINOPS_ENV", "staging")
    for name in ("LEDGER_TABLE", "TOPIC_ARN"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DispatchError, match="function environment: LEDGER_TABLE, TOPIC_ARN: expected a value"):
        handler.dispatch(EVENT, FakeContext("d1"))


def test_the_backup_fences_the_dispatcher_off(ledger: Ledger) -> None:
    claim = claim_of(EVENT, ENV)
    ledger.claim(claim, dispatcher="d1")
    assert handler._next_epoch(ledger, claim, "b1") == 2
    assert handler._next_epoch(ledger, claim, "b1") == 2, "Lambda retries the backup: same attempt"
    assert handler._next_epoch(ledger, claim, "b2") == 3
    ledger.start(claim["run_id"], 3, runner="r", log_stream="s")
    assert handler._next_epoch(ledger, claim, "b3") is None


def test_the_backup_starts_what_nobody_claimed(ledger: Ledger) -> None:
    assert handler._next_epoch(ledger, claim_of(EVENT, ENV), "b1") == 1


@pytest.fixture
def settings(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = "arn:aws:sns:eu-central-1:123456789012:t"
    variables = {"TWINOPS_ENV": "staging", "LEDGER_TABLE": ledger.table, "TWIN": "t", "TOPIC_ARN": topic}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_a_failed_dispatch_releases_its_claim(ledger: Ledger, settings: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(_: doorbell.Doorbell) -> None:
        raise doorbell.TwinNotReady("it is Stopped", starting=True)

    monkeypatch.setattr(doorbell.Doorbell, "require_twin", stopped)
    for request_id in ("d1", "d2"):  # a retry, under another id as some emulators give it
        with pytest.raises(doorbell.TwinNotReady):
            handler.dispatch(EVENT, FakeContext(request_id))
    run = ledger.run(claim_of(EVENT, ENV)["run_id"])
    assert run is not None
    assert (run["state"], run["epoch"], "dispatcher" in run) == ("CLAIMED", 1, False)


def test_who_does_not_get_in_says_why_when_the_twin_is_there(
    ledger: Ledger, settings: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: doorbell.Doorbell) -> str:
        raise TerminalError("twin: login: refused")

    looked: list[str] = []
    monkeypatch.setattr(doorbell.Doorbell, "_presigned_url", refused)
    monkeypatch.setattr(doorbell.Doorbell, "require_twin", lambda _: looked.append("in service"))
    with pytest.raises(TerminalError, match="login: refused"):
        handler.dispatch(EVENT, FakeContext("d1"))
    assert looked == ["in service"]


def test_a_duplicate_returns_without_ringing(ledger: Ledger, settings: None) -> None:
    claim = claim_of(EVENT, ENV)
    ledger.claim(claim, dispatcher="somebody else")
    assert handler.dispatch(EVENT, FakeContext("d1")) == {"run_id": claim["run_id"], "outcome": "duplicate"}


# ---- the watchdog


@pytest.fixture
def mails(settings: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[dict[str, str]]]:
    """What was published to the topic of this test since it was last asked."""
    name = f"mail-{uuid.uuid4().hex[:8]}"
    queue = client("sqs").create_queue(QueueName=name)["QueueUrl"]
    arn = client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = client("sns").create_topic(Name=name)["TopicArn"]
    client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    monkeypatch.setenv("TOPIC_ARN", topic)

    def read() -> list[dict[str, str]]:
        messages = client("sqs").receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
        for message in messages:
            client("sqs").delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"]) for message in messages]

    return read


def started(ledger: Ledger, *, idempotent: bool = False) -> str:
    """A run that says RUNNING; its id."""
    claim = claim_of({**EVENT, "idempotent": idempotent}, ENV)
    ledger.claim(claim, dispatcher="d1")
    ledger.start(claim["run_id"], 1, runner="r", log_stream="s")
    return claim["run_id"]


def fall_silent(ledger: Ledger, run_id: str) -> None:
    """As if its last heartbeat had been an hour ago."""
    long_ago = timestamp(datetime.now(timezone.utc) - timedelta(hours=1))
    assert ledger._change_run(run_id, {"heartbeat_at": long_ago}, condition="attribute_exists(pk)", values={})


def failures_of(workflow: str) -> float:
    """How many failed runs the metric that alarms are on has counted in the last hour."""
    now = datetime.now(timezone.utc)
    points = client("cloudwatch").get_metric_statistics(
        Namespace="twinops/staging", MetricName="RunFailed", Period=3600, Statistics=["Sum"],
        Dimensions=[{"Name": "Workflow", "Value": workflow}],
        StartTime=now - timedelta(hours=1), EndTime=now + timedelta(minutes=1),
    )["Datapoints"]  # fmt: skip
    return float(sum(point["Sum"] for point in points))


Mails = Callable[[], list[dict[str, str]]]


def test_a_lost_run_is_marked_counted_and_mailed_once(ledger: Ledger, mails: Mails) -> None:
    run_id = started(ledger)
    fall_silent(ledger, run_id)
    before = failures_of("model_evaluation")
    done = [handler.watchdog({}, FakeContext("w1"))["done"], handler.watchdog({}, FakeContext("w2"))["done"]]
    run = ledger.run(run_id)
    assert run is not None
    assert run["state"] == "LOST"
    assert [[each["outcome"] for each in tick] for tick in done] == [["lost"], []]
    (mail,) = mails()
    assert mail["Subject"] == "[twinops staging] model_evaluation: LOST"
    assert "its twin has not been heard of since" in mail["Message"]
    assert "It is not started again by itself: its spec does not say idempotent: true." in mail["Message"]
    assert f"playbooks/invoke.yml -l staging -e rerun={run_id}" in mail["Message"]
    assert "unmailed" not in run
    assert failures_of("model_evaluation") == before + 1
    counted = client("cloudwatch").list_metrics(Namespace="twinops/staging", MetricName="RunFailed")["Metrics"]
    assert [] in [metric["Dimensions"] for metric in counted], "one alarm watches all workflows together"


def test_a_run_that_lives_is_left_alone(ledger: Ledger, mails: Mails) -> None:
    run_id = started(ledger)
    assert handler.watchdog({}, FakeContext("w1")) == {"done": []}
    assert ledger.heartbeat(run_id, 1, runner="r")
    assert mails() == []


def test_a_heartbeat_that_comes_in_between_saves_the_run(ledger: Ledger) -> None:
    run_id = started(ledger)
    seen = ledger.run(run_id)
    assert seen is not None
    assert ledger.heartbeat(run_id, 1, runner="r")
    assert not ledger.lose(seen, reason="gone")
    assert ledger.heartbeat(run_id, 1, runner="r")


def test_one_run_that_cannot_be_looked_after_does_not_keep_the_others_from_it(ledger: Ledger, mails: Mails) -> None:
    """There is no backup function here to hand the first one to."""
    repeatable = started(ledger, idempotent=True)
    claim = claim_of({**EVENT, "event_id": "e2"} | {"idempotent": False}, ENV)
    ledger.claim(claim, dispatcher="d1")
    ledger.start(claim["run_id"], 1, runner="r", log_stream="s")
    for run_id in (repeatable, claim["run_id"]):
        fall_silent(ledger, run_id)
    with pytest.raises(DispatchError, match=f"run {repeatable}: .*ResourceNotFoundException"):
        handler.watchdog({}, FakeContext("w1"))
    assert [run["state"] for run in ledger.runs()] == ["LOST", "LOST"]
    (mail,) = mails()
    assert claim["run_id"] in mail["Message"], "of the other one it is not known yet what becomes of it"


def test_a_new_attempt_starts_without_what_was_said_of_the_loss(ledger: Ledger) -> None:
    run_id = started(ledger, idempotent=True)
    run = ledger.run(run_id)
    assert run is not None
    lost = ledger.lose(run, reason="gone")
    assert lost is not None
    assert (lost["state"], lost["reason"], lost["unmailed"]) == ("LOST", "gone", True)
    assert ledger.reclaim(lost, dispatcher="b1") == 2
    again = ledger.run(run_id)
    assert again is not None
    assert not {"unmailed", "reason", "ended_at"} & set(again)


def test_the_backup_starts_what_the_ledger_has(ledger: Ledger) -> None:
    claim = claim_of({**EVENT, "rerun_of": "b" * 24}, ENV)
    ledger.claim(claim, dispatcher="d1")
    record = {"requestPayload": {"requestPayload": {"run_id": claim["run_id"]}}}  # the record of a record
    assert handler._asked_for(record, ENV, ledger) == claim
    assert handler._asked_for({"requestPayload": {**EVENT, "rerun_of": "b" * 24}}, ENV, ledger) == claim
    with pytest.raises(DispatchError, match="run ffff: expected it in the ledger"):
        handler._asked_for({"run_id": "ffff"}, ENV, ledger)


def test_only_what_is_not_settled_is_looked_at(ledger: Ledger) -> None:
    run_id = started(ledger)
    assert [run["run_id"] for run in ledger.unsettled(since="2000")] == [run_id]
    assert ledger.unsettled(since=timestamp(datetime.now(timezone.utc) + timedelta(hours=1))) == []
    ledger.finish(run_id, 1, runner="r", state="SUCCEEDED", outcome={"exit_code": 0})
    ledger.mailed(run_id)
    assert ledger.unsettled(since="2000") == []


# ---- what nobody could start


def failure_record(payload: dict[str, Any]) -> dict[str, Any]:
    """What Lambda sends to the on-failure destination (Lambda developer guide, "Adding a destination")."""
    return {
        "requestContext": {"requestId": "b1", "condition": "RetriesExhausted"},
        "requestPayload": payload,
        "responsePayload": {"errorType": "TwinNotReady", "errorMessage": "twin t: expected InService, it is Failed"},
    }


def test_what_the_backup_could_not_start_has_failed_and_is_mailed_once(ledger: Ledger, mails: Mails) -> None:
    claim = claim_of(EVENT, ENV)
    ledger.claim(claim, dispatcher="b1")
    ledger.admit(claim, dispatcher="b1")
    before = failures_of("model_evaluation")
    for _ in range(2):  # Lambda delivers at least once
        handler.watchdog(failure_record({"requestPayload": EVENT}), FakeContext("w1"))
    run = ledger.run(claim["run_id"])
    assert run is not None
    assert (run["state"], "exit_code" in run, "unmailed" in run) == ("FAILED", False, False)
    assert run["reason"] == "it could not be started: twin t: expected InService, it is Failed"
    (mail,) = mails()
    assert mail["Subject"] == "[twinops staging] model_evaluation: FAILED"
    assert run["reason"] in mail["Message"]
    assert failures_of("model_evaluation") == before + 1
    assert ledger.turns.turn("model_evaluation").get("holder") is None


def test_what_never_came_into_the_ledger_is_recorded_when_it_is_given_up(ledger: Ledger, mails: Mails) -> None:
    handler.watchdog(failure_record(EVENT), FakeContext("w1"))
    (run,) = ledger.runs()
    assert run["state"] == "FAILED"
    assert len(mails()) == 1


def test_a_run_that_was_started_after_all_is_not_given_up(ledger: Ledger, mails: Mails) -> None:
    run_id = started(ledger)
    assert handler.watchdog(failure_record({"run_id": run_id}), FakeContext("w1")) == {"done": []}
    run = ledger.run(run_id)
    assert run is not None
    assert run["state"] == "RUNNING"
    assert mails() == []


def test_an_end_that_nobody_mailed_is_mailed_by_the_watchdog(ledger: Ledger, mails: Mails) -> None:
    run_id = started(ledger)
    ledger.finish(run_id, 1, runner="r", state="FAILED", outcome={"exit_code": 3, "duration_s": 1.5})
    assert handler.watchdog({}, FakeContext("w1")) == {"done": []}, "who ended it is given time"
    long_ago = timestamp(datetime.now(timezone.utc) - timedelta(hours=1))
    ledger._change_run(run_id, {"ended_at": long_ago}, condition="attribute_exists(pk)", values={})
    done = [handler.watchdog({}, FakeContext(name))["done"] for name in ("w1", "w2")]
    assert [[each["outcome"] for each in tick] for tick in done] == [["mailed"], []]
    (mail,) = mails()
    assert "the script ended with exit code 3" in mail["Message"]


# ---- turns


def test_a_run_that_has_to_wait_is_not_rung_for(ledger: Ledger, settings: None) -> None:
    first = claim_of(EVENT, ENV)
    ledger.claim(first, dispatcher="d1")
    ledger.admit(first, dispatcher="d1")
    event = {**EVENT, "event_id": "e2"}
    assert handler.dispatch(event, FakeContext("d2"))["outcome"] == "queued"
    assert handler.dispatch(event, FakeContext("d3"))["outcome"] == "duplicate"
    assert handler.backup(event, FakeContext("b1"))["outcome"] == "moved on", "it waits"


def test_a_turn_that_a_dead_run_has_is_passed_on(ledger: Ledger, mails: Mails) -> None:
    """The one that had it was lost; there is no backup here to start the one whose turn it is now."""
    claims = [claim_of({**EVENT, "event_id": name, "idempotent": False}, ENV) for name in ("e1", "e2")]
    for claim in claims:
        ledger.claim(claim, dispatcher="d")
        ledger.admit(claim, dispatcher="d")
    first, second = (claim["run_id"] for claim in claims)
    ledger.start(first, 1, runner="r", log_stream="s")
    fall_silent(ledger, first)
    with pytest.raises(DispatchError, match="ResourceNotFoundException"):
        handler.watchdog({}, FakeContext("w1"))
    assert ledger.turns.turn("model_evaluation")["holder"] == second
    assert [run["state"] for run in ledger.runs()] == ["CLAIMED", "LOST"]
