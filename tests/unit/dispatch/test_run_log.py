"""The log of a run, read and followed from a real ledger and real log streams."""

from __future__ import annotations

import itertools
import json
import queue
import threading
import time
import uuid
from typing import Any

import pytest
from twinops.aws import run_log
from twinops.aws.clients import client
from twinops.aws.ledger import Ledger, LedgerError
from twinops.aws.run_log import RunLog
from twinops.runs import Claim, Run

RUN_ID = "ab12"
WITHIN_S = 20


class Running:
    """One run, and what it does next."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.group = f"/twinops/sandbox/workflows/{uuid.uuid4().hex[:8]}"
        self.logs = client("logs")
        self.logs.create_log_group(logGroupName=self.group)
        self._at_ms = itertools.count(int(time.time() * 1000))

    def claim(self, run_id: str = RUN_ID, *, concurrency: str = "allow") -> None:
        claim = Claim(
            run_id=run_id, workflow="probe", git_sha="a" * 40, event_id=run_id, parameters=json.dumps({}),
            timeout_s=60, idempotent=True, concurrency=concurrency, log_group=self.group,
        )  # fmt: skip
        assert self.ledger.claim(claim, dispatcher="d") == 1
        self.admission = self.ledger.admit(claim, dispatcher="d")

    def start(self, epoch: int = 1) -> None:
        assert self.ledger.start(RUN_ID, epoch, runner="r", log_stream=f"{RUN_ID}/{epoch}")
        self.logs.create_log_stream(logGroupName=self.group, logStreamName=f"{RUN_ID}/{epoch}")

    def print(self, *lines: str, epoch: int = 1) -> None:
        events = [{"timestamp": next(self._at_ms), "message": line} for line in lines]
        self.logs.put_log_events(logGroupName=self.group, logStreamName=f"{RUN_ID}/{epoch}", logEvents=events)

    def end(self, state: str = "SUCCEEDED", epoch: int = 1, **outcome: Any) -> None:
        outcome = {"exit_code": 0, "duration_s": 1.5, **outcome}
        assert self.ledger.finish(RUN_ID, epoch, runner="r", state=state, outcome=outcome)

    def now(self) -> Run:
        found = self.ledger.run(RUN_ID)
        assert found
        return found


class Follower:
    """Follows a run from a thread, as a person at a terminal does."""

    def __init__(self, ledger: Ledger) -> None:
        self._lines: queue.Queue[str] = queue.Queue()
        self._log = RunLog(ledger, client("logs"), RUN_ID)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        for line in self._log.follow():
            self._lines.put(line)

    def next(self) -> str:
        return self._lines.get(timeout=WITHIN_S)

    def rest(self) -> list[str]:
        self._thread.join(WITHIN_S)
        assert not self._thread.is_alive(), "it still follows"
        return [self._lines.get_nowait() for _ in range(self._lines.qsize())]


@pytest.fixture
def running(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Running:
    monkeypatch.setattr(run_log, "POLL_S", 0.05)
    return Running(ledger)


def test_a_run_that_waits_is_followed_to_its_end(running: Running) -> None:
    running.claim("first", concurrency="queue")
    running.claim(concurrency="queue")
    assert running.admission == "QUEUED"
    follower = Follower(running.ledger)
    assert follower.next() == "[ledger] QUEUED: it waits for run first"
    assert running.ledger.pass_turn("probe", "first", dispatcher="d")
    assert follower.next() == "[ledger] CLAIMED: its twin has not answered yet"
    running.start()
    assert follower.next().startswith("[ledger] RUNNING since ")
    running.print("one", "two")
    assert [follower.next(), follower.next()] == ["one", "two"]
    running.print("two", "three")
    running.print("[twinops] SUCCEEDED, exit code 0, 1.5 s.")
    running.end()
    assert follower.rest() == [
        "two",
        "three",
        "[twinops] SUCCEEDED, exit code 0, 1.5 s.",
        "[ledger] SUCCEEDED, exit code 0, 1.5 s",
    ]


def test_lines_that_cloudwatch_shows_late_are_waited_for(running: Running) -> None:
    running.claim()
    running.start()
    running.end("FAILED", exit_code=3, reason="the script ended with exit code 3")
    follower = Follower(running.ledger)
    time.sleep(0.3)
    running.print("late", "[twinops] FAILED, exit code 3, 1.5 s.")
    assert [follower.next(), follower.next()] == ["late", "[twinops] FAILED, exit code 3, 1.5 s."]
    assert follower.rest() == ["[ledger] FAILED, exit code 3, 1.5 s: the script ended with exit code 3"]


def test_lines_that_never_come_are_not_waited_for_for_ever(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_log, "LATE_LINES_S", 0.2)
    running.claim()
    running.start()
    running.print("all that CloudWatch got")
    running.end()
    assert Follower(running.ledger).rest() == ["all that CloudWatch got", "[ledger] SUCCEEDED, exit code 0, 1.5 s"]


def test_a_lost_run_is_followed_into_its_repetition(running: Running) -> None:
    running.claim()
    running.start()
    running.print("first attempt")
    follower = Follower(running.ledger)
    assert follower.next().endswith("attempt 1")
    assert follower.next() == "first attempt"
    assert running.ledger.lose(running.now(), reason="its twin is silent")
    assert follower.next() == "[ledger] LOST: its twin is silent"
    assert running.ledger.reclaim(running.now(), dispatcher="backup") == 2
    assert follower.next() == "[ledger] CLAIMED: its twin has not answered yet"
    running.start(epoch=2)
    running.print("second attempt", "[twinops] SUCCEEDED, exit code 0", epoch=2)
    running.end(epoch=2)
    assert [line for line in follower.rest() if not line.startswith("[ledger] RUNNING")] == [
        "second attempt",
        "[twinops] SUCCEEDED, exit code 0",
        "[ledger] SUCCEEDED, exit code 0, 1.5 s",
    ]


def test_one_that_never_started_has_only_a_reason(running: Running) -> None:
    running.claim()
    assert running.ledger.give_up(running.now(), reason="no twin")
    assert Follower(running.ledger).rest() == ["[ledger] FAILED: it could not be started: no twin"]


def test_what_was_printed_so_far_is_printed_without_waiting(running: Running) -> None:
    running.claim()
    running.start()
    lines = [f"line {number}" for number in range(12_000)]  # more than GetLogEvents gives at once
    for start in range(0, len(lines), 4000):
        running.print(*lines[start : start + 4000])
    *printed, how = RunLog(running.ledger, client("logs"), RUN_ID).printed()
    assert printed == lines
    assert how.startswith("[ledger] RUNNING since ")


def test_a_run_that_is_nowhere(running: Running) -> None:
    with pytest.raises(LedgerError, match="log: run ab12: expected one in the ledger"):
        list(RunLog(running.ledger, client("logs"), RUN_ID).printed())
