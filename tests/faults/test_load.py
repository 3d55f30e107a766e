"""Two workflows at once, and two hundred events of one workflow in a burst."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from twinops.runs import Run

from tests.faults.support import SETTLED, Faults
from tests.sandbox.support import eventually

Outcome = Callable[[str, str], None]

EVENTS = int(os.environ.get("TWINOPS_BURST", "200"))
BURST_WITHIN_S = 600


def intervals(faults: Faults, workflow: str, marks: str) -> list[tuple[float, float]]:
    """When the scripts of a workflow began and ended, in that order."""
    lines = [line.rsplit(" ", 3) for line in (faults.folder / "intervals").read_text().splitlines()]
    return sorted(
        (float(begin), float(end)) for mark, name, begin, end in lines if name == workflow and mark.startswith(marks)
    )


def test_two_workflows_at_once(faults: Faults, outcome: Outcome) -> None:
    both = {
        name: faults.send(faults.payload(f"both {name}", "sleep", 6, workflow=name)) for name in ("queued", "other")
    }
    for name, run_id in both.items():
        run = faults.end(run_id)
        assert (run["state"], run["epoch"], faults.count(f"both {name}")) == ("SUCCEEDED", 1, 1)
    ((begin, end),), ((other_begin, other_end),) = (intervals(faults, name, "both") for name in both)
    assert begin < other_end
    assert other_begin < end
    outcome("two workflows at once", "SUCCEEDED side by side; 1 effect, 1 mail each")


class Queue(threading.Thread):
    """Looks at the queue of a workflow again and again."""

    def __init__(self, faults: Faults, workflow: str) -> None:
        super().__init__(daemon=True)
        self.seen: list[list[str]] = []
        self.done = threading.Event()
        self._faults, self._workflow = faults, workflow

    def run(self) -> None:
        while not self.done.wait(0.5):
            self.seen.append(self._faults.ledger.turns.turn(self._workflow).get("queue", []))


def test_a_burst(faults: Faults, outcome: Outcome) -> None:
    payloads = [faults.payload(f"burst {number:03d}", workflow="queued") for number in range(EVENTS)]
    queue, began = Queue(faults, "queued"), time.monotonic()
    queue.start()
    try:
        with ThreadPoolExecutor(16) as pool:
            sent = set(pool.map(faults.send, payloads))
        runs = await_all(faults, sent)
    finally:
        queue.done.set()
        queue.join()
    took_s = time.monotonic() - began
    assert {run["state"] for run in runs.values()} == {"SUCCEEDED"}
    assert {run["epoch"] for run in runs.values()} == {1}
    assert [faults.count(f"burst {number:03d}", "executions") for number in range(EVENTS)] == [1] * EVENTS
    times = intervals(faults, "queued", "burst")
    assert len(times) == EVENTS
    assert all(end <= begin for (_, end), (begin, _) in zip(times, times[1:])), "none overlaps another"
    assert max(map(len, queue.seen)) > EVENTS / 4, "they did wait"
    for waiting in queue.seen:
        started = [runs[run_id]["started_at"] for run_id in waiting]
        assert started == sorted(started), "they start in the order of the queue"
    eventually(lambda: all(len(faults.mails(run_id)) == 1 for run_id in sent), 60)
    per_minute = EVENTS / took_s * 60
    outcome(
        f"{EVENTS} events in a burst",
        f"SUCCEEDED one after the other in order, {per_minute:.0f} a minute; {EVENTS} effects, 1 mail each",
    )


def await_all(faults: Faults, run_ids: set[str]) -> dict[str, Run]:
    deadline = time.monotonic() + BURST_WITHIN_S
    while True:
        newest = {run["run_id"]: run for run in faults.ledger.runs(limit=EVENTS + 100) if run["run_id"] in run_ids}
        open_runs = [run for run in newest.values() if run["state"] not in SETTLED]
        if len(newest) == len(run_ids) and not open_runs:
            return newest
        assert time.monotonic() < deadline, f"{len(newest)} of {len(run_ids)} in the ledger, {len(open_runs)} not ended"
        time.sleep(2)
