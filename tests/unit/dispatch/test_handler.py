"""What the Lambdas make of events, and at which epoch they ring; a whole dispatch is in tests/sandbox."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from twinops.aws.ledger import Ledger
from twinops.aws.session import client
from twinops.runs import timestamp

from dispatch import handler
from dispatch.handler import DispatchError
from dispatch.terminal import LONGEST_LINE_BYTES

EVENT = {
    "workflow": "model_evaluation",
    "event_id": "e1",
    "time": "2026-11-22T05:00:00Z",
    "detail-type": "Rollout finished",
    "detail": {"release": "v2"},
    "git_sha": "a" * 40,
    "timeout_s": 900,
    "idempotent": True,
}


class FakeContext:
    """Lambda's context object of a request that has no time left."""

    def __init__(self, request_id: str) -> None:
        self.aws_request_id = request_id

    def get_remaining_time_in_millis(self) -> int:
        return 0


def test_claim_of_an_event() -> None:
    claim = handler.claim_of({**EVENT, "detail": {"parameters": {"lookback_h": 1}}})
    assert json.loads(claim["parameters"]) == {"lookback_h": 1}
    assert (claim["workflow"], claim["event_id"], claim["timeout_s"]) == ("model_evaluation", "e1", 900)
    assert claim["run_id"] != handler.claim_of(EVENT)["run_id"]


def test_two_deliveries_of_one_tick_are_one_run() -> None:
    tick = {**EVENT, "detail-type": "Scheduled Event", "detail": {}}
    assert handler.claim_of(tick)["run_id"] == handler.claim_of({**tick, "event_id": "e2"})["run_id"]


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
        ("detail", {"parameters": [1]}, "detail.parameters"),
        ("detail", "text", "detail.parameters"),
    ],
)
def test_a_bad_event_is_named(field: str, value: Any, named: str) -> None:
    with pytest.raises(DispatchError, match=f"event: {named}: missing or wrong"):
        handler.claim_of({**EVENT, field: value})


def test_the_line_is_short_and_detached() -> None:
    line = handler.command(handler.claim_of(EVENT), 12)
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
    claim = handler.claim_of(EVENT)
    ledger.claim(claim, dispatcher="d1")
    assert handler._next_epoch(ledger, claim, "b1") == 2
    assert handler._next_epoch(ledger, claim, "b1") == 2, "Lambda retries the backup: same attempt"
    assert handler._next_epoch(ledger, claim, "b2") == 3
    ledger.start(claim["run_id"], 3, runner="r", log_group="g", log_stream="s")
    assert handler._next_epoch(ledger, claim, "b3") is None


def test_the_backup_starts_what_nobody_claimed(ledger: Ledger) -> None:
    assert handler._next_epoch(ledger, handler.claim_of(EVENT), "b1") == 1


@pytest.fixture
def settings(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = "arn:aws:sns:eu-central-1:123456789012:t"
    variables = {"TWINOPS_ENV": "staging", "LEDGER_TABLE": ledger.table, "TWIN": "t", "TOPIC_ARN": topic}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_a_failed_dispatch_releases_its_claim(ledger: Ledger, settings: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(_: handler.Doorbell) -> None:
        raise handler.TwinNotReady("it is Stopped")

    monkeypatch.setattr(handler.Doorbell, "require_twin", stopped)
    for request_id in ("d1", "d2"):  # a retry, under another id as some emulators give it
        with pytest.raises(handler.TwinNotReady):
            handler.dispatch(EVENT, FakeContext(request_id))
    run = ledger.run(handler.claim_of(EVENT)["run_id"])
    assert run is not None
    assert (run["state"], run["epoch"], "dispatcher" in run) == ("CLAIMED", 1, False)


def test_a_duplicate_returns_without_ringing(ledger: Ledger, settings: None) -> None:
    claim = handler.claim_of(EVENT)
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
    claim = handler.claim_of({**EVENT, "idempotent": idempotent})
    ledger.claim(claim, dispatcher="d1")
    ledger.start(claim["run_id"], 1, runner="r", log_group="g", log_stream="s")
    return claim["run_id"]


def fall_silent(ledger: Ledger, run_id: str) -> None:
    """As if its last heartbeat had been an hour ago."""
    long_ago = timestamp(datetime.now(timezone.utc) - timedelta(hours=1))
    assert ledger._update_run(run_id, {"heartbeat_at": long_ago}, condition="attribute_exists(pk)", values={})


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
    assert mail["Subject"] == "[twinops staging] model_evaluation: lost"
    assert "its twin has not been heard of since" in mail["Message"]
    assert "It is not started again by itself: its spec does not say idempotent." in mail["Message"]
    assert "playbooks/invoke.yml -l staging -e workflow=model_evaluation" in mail["Message"]
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
    claim = handler.claim_of({**EVENT, "event_id": "e2"} | {"idempotent": False})
    ledger.claim(claim, dispatcher="d1")
    ledger.start(claim["run_id"], 1, runner="r", log_group="g", log_stream="s")
    for run_id in (repeatable, claim["run_id"]):
        fall_silent(ledger, run_id)
    with pytest.raises(DispatchError, match=f"run {repeatable}: .*ResourceNotFoundException"):
        handler.watchdog({}, FakeContext("w1"))
    assert [run["state"] for run in ledger.runs()] == ["LOST", "LOST"]
    assert len(mails()) == 2


def test_a_new_attempt_starts_without_what_was_said_of_the_loss(ledger: Ledger) -> None:
    run_id = started(ledger, idempotent=True)
    run = ledger.run(run_id)
    assert run is not None
    assert ledger.lose(run, reason="gone")
    assert ledger.alert_once(run_id)
    lost = ledger.run(run_id)
    assert lost is not None
    assert (lost["state"], lost["reason"]) == ("LOST", "gone")
    assert ledger.reclaim(lost, dispatcher="b1") == 2
    again = ledger.run(run_id)
    assert again is not None
    assert not {"alerted_at", "reason", "ended_at"} & set(again)


def test_the_backup_starts_what_the_ledger_has(ledger: Ledger) -> None:
    claim = handler.claim_of(EVENT)
    ledger.claim(claim, dispatcher="d1")
    assert handler._recorded_claim(ledger, claim["run_id"]) == claim
    with pytest.raises(DispatchError, match="run ffff: expected it in the ledger"):
        handler._recorded_claim(ledger, "ffff")


def test_only_what_has_not_ended_is_looked_at(ledger: Ledger) -> None:
    run_id = started(ledger)
    assert [run["run_id"] for run in ledger.unfinished(since="2000")] == [run_id]
    assert ledger.unfinished(since=timestamp(datetime.now(timezone.utc) + timedelta(hours=1))) == []
    ledger.finish(run_id, 1, runner="r", state="SUCCEEDED", outcome={"exit_code": 0})
    assert ledger.unfinished(since="2000") == []
