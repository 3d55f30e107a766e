"""Measurements of runs -> tables and verdicts on the targets of the Dispatch issue. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.bench.report import Verdict

FLOOR = "floor: Lambda, login, WebSocket, fork of true"
FLOOR_PYTHON = "the same, with a Python that does nothing"
SCRIPT = "script: event -> first line"
PAPERMILL = "papermill alone -> first cell"
NOTEBOOK = "notebook: event -> first cell"

TIMES_THE_FLOOR = 2.0
LEDGER_CALLS = 8


@dataclass(frozen=True)
class RunTimes:
    """One run, in seconds since its event was put, by the machine's one clock."""

    claimed_s: float
    running_s: float
    first_line_s: float
    ended_s: float
    ledger_calls: Mapping[str, int]
    """How often each operation was called on the ledger for this run."""


@dataclass
class Results:
    """Everything that one go has measured. ``seconds`` are by what was measured, in the order of the repetitions."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    runs: dict[str, list[RunTimes]] = field(default_factory=dict)
    per_minute: dict[str, float] = field(default_factory=dict)

    def add(self, what: str, seconds: float) -> None:
        self.seconds.setdefault(what, []).append(seconds)

    def add_run(self, what: str, run: RunTimes) -> None:
        self.runs.setdefault(what, []).append(run)
        self.add(what, run.first_line_s)


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of all values do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def latencies(results: Results) -> list[tuple[object, ...]]:
    """p50 and p95 of everything, and how many times the floor that is."""
    rows: list[tuple[object, ...]] = [("what", "repetitions", "p50 ms", "p95 ms", "÷ floor p50", "÷ floor p95")]
    for what, seconds in results.seconds.items():
        row = [_ratio(results, what, share) for share in (0.5, 0.95)]
        shares = (f"{1000 * quantile(seconds, share):.0f}" for share in (0.5, 0.95))
        rows.append((what, len(seconds), *shares, *row))
    return rows


def phases(results: Results) -> list[tuple[object, ...]]:
    """Medians of what happens when, in milliseconds since the step before."""
    rows: list[tuple[object, ...]] = [("what", "event -> CLAIMED", "-> RUNNING", "-> first line", "-> ended")]
    steps: list[Callable[[RunTimes], float]] = [
        lambda run: run.claimed_s,
        lambda run: run.running_s - run.claimed_s,
        lambda run: run.first_line_s - run.running_s,
        lambda run: run.ended_s - run.first_line_s,
    ]
    for what, runs in results.runs.items():
        rows.append((what, *(f"{1000 * quantile([step(run) for run in runs], 0.5):.0f}" for step in steps)))
    return rows


def ledger_calls(results: Results) -> list[tuple[object, ...]]:
    """How many runs made how many calls of which kind."""
    rows: list[tuple[object, ...]] = [("what", "runs", "calls", "of them")]
    for what, runs in results.runs.items():
        found = Counter(tuple(sorted(run.ledger_calls.items())) for run in runs)
        for calls, number in found.most_common():
            rows.append(
                (what, number, sum(count for _, count in calls), ", ".join(f"{name} {count}" for name, count in calls))
            )
    return rows


def throughput(results: Results) -> list[tuple[object, ...]]:
    return [("what", "runs a minute"), *((what, f"{rate:.1f}") for what, rate in results.per_minute.items())]


def verdicts(results: Results) -> list[Verdict]:
    """The targets of the issue."""
    return [
        *(_within(results, SCRIPT, (FLOOR,), share) for share in (0.5, 0.95)),
        *(_within(results, NOTEBOOK, (FLOOR, PAPERMILL), share) for share in (0.5, 0.95)),
        *(_few_calls(what, runs) for what, runs in results.runs.items()),
    ]


def _within(results: Results, what: str, parts: Sequence[str], share: float) -> Verdict:
    base = " + ".join(part.partition(":")[0] for part in parts)
    target = f"p{100 * share:.0f} of {what}: at most {TIMES_THE_FLOOR:g}x {base}"
    if not all(part in results.seconds for part in (what, *parts)):
        return Verdict(target, "-", None)
    base_s = sum(quantile(results.seconds[part], share) for part in parts)
    ratio = quantile(results.seconds[what], share) / base_s
    return Verdict(target, f"{ratio:.2f}x {1000 * base_s:.0f} ms", ratio <= TIMES_THE_FLOOR)


def _few_calls(what: str, runs: Sequence[RunTimes]) -> Verdict:
    most = max(sum(run.ledger_calls.values()) for run in runs)
    target = f"{what.partition(':')[0]}: at most {LEDGER_CALLS} ledger calls in every run"
    return Verdict(target, f"at most {most}", most <= LEDGER_CALLS)


def _ratio(results: Results, what: str, share: float) -> str:
    if FLOOR not in results.seconds:
        return "-"
    return f"{quantile(results.seconds[what], share) / quantile(results.seconds[FLOOR], share):.2f}"
