"""`make bench-dispatch`: from an event to the first line of its script, beside the least that it could take.

Everything runs on one machine and in one go, the floor and ours in turn, so that ratios mean something: the figures
themselves swell under load. The ledger's calls are counted by the endpoint. docs/bench.md says how to read the tables.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from sandbox.lifecycle import SandboxError
from sandbox.ports import free_port
from sandbox.settings import CLONE, SettingsError, load
from tests.bench import latency, report
from tests.bench.latency import FLOOR, FLOOR_PYTHON, NOTEBOOK, PAPERMILL, SCRIPT, Results
from tests.bench.twin import BenchError, Twin, deployed, until

HOME = CLONE / ".sandbox-bench-dispatch"
RESULTS = CLONE / "build/bench/dispatch.json"
ANSWERS = {True: "yes", False: "NO", None: "not measured"}
AT_ONCE = 4
"""How many runs are kept going for the throughput of runs that may be beside each other."""


def measure(twin: Twin, arguments: argparse.Namespace) -> Results:
    """The floor and ours in turn; the first round, which finds everything cold, does not count."""
    results, warming_up = Results(), Results()
    for number in range(arguments.repetitions + 1):
        target = results if number else warming_up
        target.add(FLOOR, twin.floor("/bin/true"))
        target.add_run(SCRIPT, twin.run("bench_script"))
        target.add(FLOOR_PYTHON, twin.floor(f"{twin.python} -c pass"))
    for number in range(arguments.notebooks + 1 if arguments.notebooks else 0):
        target = results if number else warming_up
        target.add(PAPERMILL, twin.papermill())
        target.add_run(NOTEBOOK, twin.run("bench_notebook"))
    if arguments.burst:
        results.per_minute["one after another (concurrency: queue)"] = queued(twin, arguments.burst)
        results.per_minute[f"{AT_ONCE} at a time (concurrency: allow)"] = side_by_side(twin, arguments.burst)
    return results


def queued(twin: Twin, count: int) -> float:
    """Runs a minute, of a burst of events whose runs wait for each other."""

    def burst() -> None:
        events = [event for start in range(0, count, 10) for event in twin.put("bench_script", min(10, count - start))]
        for event in events:
            until(lambda event=event: twin.settled(event), "end of a run that waited", within_s=600)  # type: ignore[misc]

    return per_minute(count, burst)


def side_by_side(twin: Twin, count: int) -> float:
    """Runs a minute, with as many as may be at work all the time."""

    def keep_going() -> None:
        waiting, put = set[str](), 0
        while put < count or waiting:
            while put < count and len(waiting) < AT_ONCE:
                waiting.update(twin.put("bench_beside"))
                put += 1
            waiting = {event for event in waiting if not twin.settled(event)}
            time.sleep(0.05)

    return per_minute(count, keep_going)


def per_minute(count: int, act: Callable[[], None]) -> float:
    started = time.perf_counter()
    act()
    return 60 * count / (time.perf_counter() - started)


def show(results: Results) -> bool:
    """Print all tables; returns whether every target that was measured is reached."""
    found = latency.verdicts(results)
    judged = [(verdict.target, verdict.measured, ANSWERS[verdict.reached]) for verdict in found]
    parts: dict[str, Sequence[Sequence[object]]] = {
        "Latency": latency.latencies(results),
        "Where the time goes (medians, ms)": latency.phases(results),
        "Calls on the ledger": latency.ledger_calls(results),
        "Throughput of one twin": latency.throughput(results),
        "Targets": [("target", "measured", "reached"), *judged],
    }
    for title, rows in parts.items():
        if len(rows) > 1:
            print(f"\n## {title}\n\n{report.table(rows)}")
    return all(verdict.reached is not False for verdict in found)


def main() -> int:
    arguments = parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that the sandbox is ended, too
    settings = load({"SANDBOX_HOME": str(HOME), "SANDBOX_PORT": str(free_port())})
    load_before = os.getloadavg()[0]
    try:
        with deployed(settings) as twin:
            results = measure(twin, arguments)
    except (BenchError, SandboxError, SettingsError) as error:
        print(f"bench-dispatch: {error}", file=sys.stderr)
        return 1
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.results.write_text(json.dumps(asdict(results), indent=1))
    reached = show(results)
    print(f"\nLoad of the machine: {load_before:.1f} before, {os.getloadavg()[0]:.1f} after. All: {arguments.results}")
    return 0 if reached else 1


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-dispatch", description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=50, help="of floor and script")
    parser.add_argument("--notebooks", type=int, default=10, help="of papermill and notebook; 0: none")
    parser.add_argument("--burst", type=int, default=20, help="runs of each throughput; 0: none")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file with every figure")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
