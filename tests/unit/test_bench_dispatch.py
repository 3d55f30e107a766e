"""The arithmetic of `make bench-dispatch`: quantiles, ratios, verdicts, and whose calls on the ledger are counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.latency import (
    FLOOR,
    NOTEBOOK,
    PAPERMILL,
    SCRIPT,
    Results,
    RunTimes,
    latencies,
    ledger_calls,
    phases,
    quantile,
    verdicts,
)
from tests.bench.twin import NAMES
from tests.bench.twin import ledger_calls as count_calls


def run(first_line_s: float, **calls: int) -> RunTimes:
    return RunTimes(
        claimed_s=0.01, running_s=0.1, first_line_s=first_line_s, ended_s=first_line_s + 1, ledger_calls=calls
    )


@pytest.fixture
def results() -> Results:
    measured = Results()
    for number in range(1, 21):
        measured.add(FLOOR, 0.1)
        measured.add_run(SCRIPT, run(0.15 if number < 20 else 0.5, GetItem=1, UpdateItem=5 + number // 20))
    measured.add(PAPERMILL, 1.0)
    measured.add_run(NOTEBOOK, run(2.3, GetItem=3, UpdateItem=6))
    return measured


def test_quantiles_are_values_that_were_measured() -> None:
    values = [float(number) for number in range(20, 0, -1)]
    assert (quantile(values, 0.5), quantile(values, 0.95), quantile(values, 1)) == (10, 19, 20)
    assert quantile([7.0], 0.5) == quantile([7.0], 0.95) == 7


def test_verdicts(results: Results) -> None:
    judged = {verdict.target.split(",")[0]: (verdict.measured, verdict.reached) for verdict in verdicts(results)}
    notebook = "notebook: event -> first cell: at most 2x floor + papermill alone -> first cell"
    assert judged == {
        "p50 of script: event -> first line: at most 2x floor": ("1.50x 100 ms", True),
        "p95 of script: event -> first line: at most 2x floor": ("1.50x 100 ms", True),
        f"p50 of {notebook}": ("2.09x 1100 ms", False),
        f"p95 of {notebook}": ("2.09x 1100 ms", False),
        "script: at most 8 ledger calls in every run": ("at most 7", True),
        "notebook: at most 8 ledger calls in every run": ("at most 9", False),
    }


def test_what_was_not_measured_is_not_judged() -> None:
    assert {verdict.reached for verdict in verdicts(Results())} == {None}


def test_tables(results: Results) -> None:
    assert (SCRIPT, 20, "150", "150", "1.50", "1.50") in latencies(results)
    assert (SCRIPT, "10", "90", "50", "1000") in phases(results)
    assert ledger_calls(results)[1:3] == [
        (SCRIPT, 19, 6, "GetItem 1, UpdateItem 5"),
        (SCRIPT, 1, 7, "GetItem 1, UpdateItem 6"),
    ]


def test_only_the_ledger_and_our_roles_count(tmp_path: Path) -> None:
    twin, person = f"arn:aws:sts::1:assumed-role/{NAMES.role('deployment-twin')}/s", "arn:aws:iam::1:root"
    calls = [("dynamodb", "GetItem", twin), ("dynamodb", "GetItem", person), ("logs", "PutLogEvents", twin)]
    log = tmp_path / "calls.jsonl"
    lines = [json.dumps({"service": service, "action": action, "caller": caller}) for service, action, caller in calls]
    log.write_text("".join(f"{line}\n" for line in (*lines, *lines)))
    assert count_calls(log, mark=0) == {"GetItem": 2}
    assert count_calls(log, mark=log.stat().st_size // 2) == {"GetItem": 1}
