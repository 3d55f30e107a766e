"""The gate. The cases are in tests/plans/gate, in words that need no Python."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from twinops import gate
from twinops.errors import SpecError

CASES = yaml.safe_load((Path(__file__).parents[1] / "plans/gate/verdicts.yml").read_text("utf-8"))
NEW, OLD = "digest of v2", "digest of v1"
POLICY = gate.parse_policy({"budget_percent": {"unreachable": 20}})


def status(said: Any) -> dict[str, Any] | None:
    """A device's status from the words of a case."""
    if said == "unasked":
        return None
    if said == "unreachable":
        return {"unreachable": True}
    if said == "new":
        return {"release": None, "phase": "not enrolled", "history": [], "health": None, "target": None}
    outcome = said.get("outcome", "committed")
    runs = outcome == "committed"
    entry = {"release_digest": NEW, "outcome": outcome, "reason": said.get("why")}
    health = {
        "status": "ok",
        "reason": "the model crashed",
        "release_digest": NEW,
        "records": said.get("records", 0),
        "alarms": said.get("alarms", 0),
        "errors": said.get("errors", 0),
        "latency_ms": {"p50": 1.0, "p99": said.get("p99_ms", 2.0)},
    }
    if "shadow" in said:
        shadow = {"version": "v2", "status": "ok", "reason": "", "records": 0, "agreed": 0, "alarms": 0}
        health["shadow"] = {**shadow, **said["shadow"]}
    phase = said.get("phase", "committed")
    return {
        "release": "v2" if runs else "v1",
        "release_digest": NEW if runs else OLD,
        "phase": phase,
        "clock": "noon",
        "waiting": {"release_digest": f"digest of {said['waits_for']}", "window": "22:00-04:00"}
        if "waits_for" in said
        else None,
        "target": None if phase == "committed" else {"release_digest": NEW},
        "history": [] if outcome == "none" else [entry],
        "health": {**health, "status": said.get("health", "ok")} if said.get("health", "ok") else None,
    }


def judge(case: dict[str, Any], policy: gate.Policy = POLICY) -> gate.Verdict:
    baseline = case["baseline"]
    return gate.judge(
        wave=case["wave"],
        rollout=list(case["devices"]),
        statuses={device: status(said) for device, said in case["devices"].items()},
        release_digest=NEW,
        fleet_size=6,
        baseline=gate.Alarms(baseline["records"], baseline["alarms"], "the champion") if baseline else None,
        policy=policy,
        evaluation={"reasons": ["why"], "champion": "v1", "n": 900, "run_id": "r7", **case["evaluation"]}
        if "evaluation" in case
        else None,
        since="2026-11-23T08:00:00Z",
        is_retry=case.get("is_retry", False),
    )


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_verdict(case: dict[str, Any]) -> None:
    verdict = judge(case)
    assert verdict.verdict == case["verdict"], verdict.reasons
    assert case.get("reason", "") in "; ".join(verdict.reasons)
    assert bool(verdict.reasons) == (case["verdict"] != "pass")


def test_the_message_names_release_wave_metric_and_numbers() -> None:
    message = gate.explain(judge(CASES[1]), "v3", "canary")
    assert message.startswith("v3 stopped at wave canary: alarm rate 0.00% (0 of 520 records, on d1) against 7.20%")


def test_a_missing_device_is_never_reported_rather_than_forgotten() -> None:
    verdict = gate.judge(
        wave=["d1"], rollout=["d1"], statuses={}, release_digest=NEW, fleet_size=1, baseline=None, policy=gate.Policy()
    )
    assert (verdict.verdict, verdict.devices) == ("fail", {"d1": "never_reported"})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"min_record": 1}, "min_record: unknown key"),
        ({"budget_percent": {"lost": 1}}, "budget_percent.lost: unknown key, expected one of failed"),
        ({"significance": "low"}, "significance: expected a number of at least 0, got 'low'"),
        ({"budget_percent": {"failed": -1}}, "failed: expected a number of at least 0, got -1"),
    ],
)
def test_mistakes_in_the_policy(data: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        gate.parse_policy(data)


def test_fisher_exact_of_the_textbook() -> None:
    assert math.isclose(gate.fisher_exact(1, 9, 11, 14), 0.002759456, rel_tol=1e-6)
    assert math.isclose(gate.fisher_exact(3, 3, 0, 3), 0.1, rel_tol=1e-9)
    assert gate.fisher_exact(0, 10, 0, 10) == 1.0


@pytest.mark.parametrize("table", [(0, 520, 1411, 19600), (68000, 1000000, 72000, 1000000), (9, 600, 700, 9800)])
def test_fisher_exact_with_many_records(table: tuple[int, int, int, int]) -> None:
    assert math.isclose(gate.fisher_exact(*table), reference(*table), rel_tol=1e-4)


@settings(max_examples=60)
@given(st.tuples(*[st.integers(0, 60)] * 4))
def test_fisher_exact_is_that_of_scipy(numbers: tuple[int, int, int, int]) -> None:
    hits, misses, other_hits, other_misses = numbers
    table = (hits, hits + misses, other_hits, other_hits + other_misses)
    assert math.isclose(gate.fisher_exact(*table), reference(*table), rel_tol=1e-6, abs_tol=1e-12)


def reference(hits: int, draws: int, other_hits: int, other_draws: int) -> float:
    from scipy.stats import fisher_exact

    table = [[hits, draws - hits], [other_hits, other_draws - other_hits]]
    return float(fisher_exact(table).pvalue)


def test_the_interval_of_an_agreement_narrows_with_records_and_holds_the_share() -> None:
    uppers = [gate.wilson_upper(round(0.9 * draws), draws, 0.0001) for draws in (50, 500, 5000, 50000)]
    assert uppers == sorted(uppers, reverse=True)
    assert 0.9 < uppers[-1] < 0.906
    assert gate.wilson_upper(10, 10, 0.0001) == pytest.approx(1.0)
    assert gate.wilson_upper(0, 10, 0.0001) < 0.6


def test_the_interval_of_an_agreement_is_wilson_s() -> None:
    from scipy.stats import binomtest

    for hits, draws in ((93, 100), (525, 560), (9100, 9800)):
        expected = binomtest(hits, draws).proportion_ci(1 - 2 * 0.0001, method="wilson").high
        assert gate.wilson_upper(hits, draws, 0.0001) == pytest.approx(expected, rel=1e-6)
