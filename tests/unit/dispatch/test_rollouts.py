"""The end of a rollout is told on the bus, once; on a real endpoint."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from twinops.aws.clients import client
from twinops.aws.ledger import Ledger, Rollout
from twinops.aws.rollouts import Recorder

STARTED_AT = "2026-01-01T00:00:00.000000Z"
NOW = "2026-01-01T00:10:00.000000Z"
OPENED = {
    "rollout_id": "1-v2",
    "release": "v2",
    "release_digest": "d" * 64,
    "model_digest": "m" * 64,
    "git_sha": "a" * 40,
    "data_version": "data",
    "started_at": STARTED_AT,
    "waves": {"canary": ["device-001"], "early": [], "fleet": []},
}


class Bus:
    """The default bus, and what has come over it."""

    def __init__(self) -> None:
        self.client = client("events")
        self._sqs, name = client("sqs"), f"rollouts-{uuid.uuid4().hex[:8]}"
        self._queue = self._sqs.create_queue(QueueName=name)["QueueUrl"]
        arn = self._sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=["QueueArn"])["Attributes"][
            "QueueArn"
        ]
        pattern = {"source": ["twinops"], "detail-type": ["Rollout finished"]}
        self.client.put_rule(Name=name, EventPattern=json.dumps(pattern))
        self.client.put_targets(Rule=name, Targets=[{"Id": "1", "Arn": arn}])

    def events(self) -> list[dict[str, Any]]:
        """What was not read yet."""
        messages = self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10).get("Messages", [])
        return [json.loads(message["Body"]) for message in messages]


@pytest.fixture
def bus(endpoint: str) -> Bus:
    return Bus()


def ended(ledger: Ledger, state: str) -> Rollout:
    """A rollout of one device, as the playbook ends it."""
    recorder = Recorder(ledger, apply=True)
    for current in ("running", state):
        recorder.record(OPENED, {"device-001": None}, wave="fleet", state=current, reason="", now=NOW)
    rollout = ledger.rollout(OPENED["rollout_id"])
    assert rollout is not None
    return rollout


@pytest.mark.parametrize("state", ["completed", "blocked"])
def test_an_end_is_told_once_and_the_ledger_names_the_event(ledger: Ledger, bus: Bus, state: str) -> None:
    recorder, rollout = Recorder(ledger, apply=True), ended(ledger, state)
    assert recorder.announce([rollout], lambda: bus.client) == []
    (event,) = bus.events()
    told = {name: OPENED[name] for name in ("release", "release_digest", "rollout_id", "git_sha")}
    assert (event["source"], event["detail-type"], event["detail"]) == (
        "twinops",
        "Rollout finished",
        {**told, "state": state},
    )
    announced = ledger.rollout(OPENED["rollout_id"])
    assert announced is not None
    assert (announced["event_id"], "unannounced" in announced) == (event["id"], False)
    recorder.record(OPENED, {"device-001": None}, wave="fleet", state=state, reason="", now=NOW)
    assert recorder.announce([ledger.rollout(OPENED["rollout_id"])], lambda: bus.client) == []
    assert bus.events() == []


def test_one_that_was_interrupted_is_told_by_the_next_run(ledger: Ledger, bus: Bus) -> None:
    ended(ledger, "completed")
    assert bus.events() == []
    recorder = Recorder(ledger, apply=True)
    assert recorder.announce(recorder.newest(), lambda: bus.client) == []
    assert [event["detail"]["rollout_id"] for event in bus.events()] == ["1-v2"]


def test_a_bus_that_is_away_is_a_warning_and_another_try(ledger: Ledger, bus: Bus) -> None:
    class Away:
        def put_events(self, **_: Any) -> Any:
            raise EndpointConnectionError(endpoint_url="https://events.example.com")

    recorder, rollout = Recorder(ledger, apply=True), ended(ledger, "blocked")
    (problem,) = recorder.announce([rollout], Away)
    assert problem.startswith("rollout 1-v2: EventBridge was not told of its end: Could not connect")
    assert recorder.announce(recorder.newest(), lambda: bus.client) == []
    assert len(bus.events()) == 1


@pytest.mark.parametrize(("state", "apply"), [("running", True), ("superseded", True), ("completed", False)])
def test_what_nobody_is_told_of(ledger: Ledger, state: str, apply: bool) -> None:
    """One at work, one that another has superseded; and nothing at all in check mode."""

    def no_client() -> Callable[[], Any]:
        raise AssertionError("nobody should have asked for a client")

    assert Recorder(ledger, apply=apply).announce([ended(ledger, state), None], no_client) == []
