"""What the Lambdas make of events, and at which epoch they ring; a whole dispatch is in tests/sandbox."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twinops.aws.ledger import Ledger

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
    variables = {"LEDGER_TABLE": ledger.table, "TWIN": "t", "TOPIC_ARN": "arn:aws:sns:eu-central-1:123456789012:t"}
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
