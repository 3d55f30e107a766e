"""Champion against challenger: promote, hold, block."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import f1_score
from toolbox.compare import compare, pair

N = 4000
RANDOM = np.random.default_rng(11)
TRUTH = (RANDOM.random(N) < 0.07).astype(int)


def model(wrong: float, seed: int) -> np.ndarray:
    return np.where(np.random.default_rng(seed).random(N) < wrong, 1 - TRUTH, TRUTH)


GOOD, BETTER, NEVER = model(0.02, 1), model(0.002, 2), np.zeros(N, int)


def test_better_is_promoted() -> None:
    found = compare(TRUTH, GOOD, BETTER)
    assert found.verdict == "promote"
    assert "macro-F1" in found.reasons[0]
    assert found.macro_f1_difference_interval is not None
    assert found.macro_f1_difference_interval[0] > 0


def test_the_same_is_held() -> None:
    found = compare(TRUTH, GOOD, GOOD)
    assert (found.verdict, found.mcnemar_p, found.macro_f1_difference) == ("hold", None, 0.0)
    assert found.reasons[0].endswith("both are right about the same records")


def test_about_the_same_is_held() -> None:
    assert compare(TRUTH, GOOD, model(0.02, 5)).verdict == "hold"


def test_a_model_that_raises_no_alarm_is_blocked_whatever_its_accuracy() -> None:
    found = compare(TRUTH, model(0.08, 3), NEVER)
    assert (found.challenger.accuracy or 0) > (found.champion.accuracy or 1)
    assert found.verdict == "block"
    assert found.reasons[0].startswith(
        f"class collapsed: of {TRUTH.sum()} records of class alarm the challenger finds none"
    )
    assert "although accuracy rose from" in found.reasons[1]


def test_a_drop_of_recall_is_blocked() -> None:
    deaf = np.where((TRUTH == 1) & (RANDOM.random(N) < 0.2), 0, BETTER)
    found = compare(TRUTH, GOOD, deaf)
    assert found.verdict == "block"
    assert any(reason.startswith("recall of class alarm fell from") for reason in found.reasons)


def test_worse_is_blocked() -> None:
    found = compare(TRUTH, BETTER, GOOD)
    assert found.verdict == "block"
    assert any(reason.startswith("macro-F1 fell from") for reason in found.reasons)


@pytest.mark.parametrize(("records", "alarms"), [(299, 100), (4000, 9), (4000, 3991), (0, 0)])
def test_little_evidence_is_held(records: int, alarms: int) -> None:
    truth = np.array([1] * alarms + [0] * (records - alarms), int)
    found = compare(truth, 1 - truth, truth)
    assert found.verdict == "hold"
    counts = f"{records} common labelled records ({records - alarms} of class normal, {alarms} of class alarm)"
    assert found.reasons[0].startswith(f"too little evidence: {counts}; needed: 300")


def test_numbers_are_those_of_scipy_and_scikit_learn() -> None:
    found = compare(TRUTH, GOOD, BETTER)
    expected = f1_score(TRUTH, BETTER, average="macro") - f1_score(TRUTH, GOOD, average="macro")
    assert found.macro_f1_difference == pytest.approx(expected, abs=1e-12)
    only_old = int(((GOOD == TRUTH) & (BETTER != TRUTH)).sum())
    only_new = int(((GOOD != TRUTH) & (BETTER == TRUTH)).sum())
    assert (found.only_champion_right, found.only_challenger_right) == (only_old, only_new)
    assert found.mcnemar_p == pytest.approx(binomtest(only_new, only_old + only_new).pvalue, rel=1e-9)


def test_the_paired_interval_is_that_of_resampled_records() -> None:
    random = np.random.default_rng(0)
    differences = []
    for _ in range(300):
        rows = random.integers(0, N, N)
        truth, old, new = TRUTH[rows], GOOD[rows], BETTER[rows]
        differences.append(f1_score(truth, new, average="macro") - f1_score(truth, old, average="macro"))
    found = compare(TRUTH, GOOD, BETTER).macro_f1_difference_interval
    assert found == pytest.approx(np.quantile(differences, (0.025, 0.975)), abs=0.01)


def test_two_comparisons_give_the_same_bytes() -> None:
    assert compare(TRUTH, GOOD, BETTER) == compare(TRUTH, GOOD, BETTER)


def test_only_common_labelled_records_are_paired_and_each_once() -> None:
    def frame(**labels: int) -> pd.DataFrame:
        return pd.DataFrame({"record_id": list(labels), "label": list(labels.values())})

    champion = pd.concat([frame(a=0, b=1, c=0), frame(a=1)])
    labels = pd.Series({"a": 1, "b": 1, "d": 0})
    paired = pair(champion, frame(b=0, a=1, e=1), labels)
    assert paired.to_dict("index") == {
        "a": {"truth": 1, "champion": 0, "challenger": 1},
        "b": {"truth": 1, "champion": 1, "challenger": 0},
    }


def test_a_drop_of_recall_that_may_be_luck_is_held() -> None:
    truth = np.array([1] * 12 + [0] * 988)
    old, new = truth.copy(), truth.copy()
    old[12:80], new[0] = 1, 0  # far fewer false alarms, but one of twelve alarms less
    found = compare(truth, old, new)
    assert found.verdict == "hold"
    assert found.reasons[0] == "recall of class alarm fell from 100.0% to 91.7%, which may be luck with 12 records"


def test_better_macro_f1_with_fewer_right_is_no_promotion() -> None:
    """It finds all alarms, for many more false ones: macro-F1 rises, but McNemar's test is against it."""
    truth = np.array([1] * 100 + [0] * 9900)
    old, new = truth.copy(), truth.copy()
    old[:75], new[100:210] = 0, 1
    found = compare(truth, old, new)
    assert (found.macro_f1_difference_interval or (0, 0))[0] > 0
    assert (found.mcnemar_p or 1) < 0.05
    assert found.verdict == "hold"


def test_three_classes() -> None:
    truth = RANDOM.integers(0, 3, 2000)
    old = np.where(RANDOM.random(2000) < 0.1, (truth + 1) % 3, truth)
    new = np.where(RANDOM.random(2000) < 0.02, (truth + 1) % 3, truth)
    names = {"low": "low", "mid": "mid", "high": "high"}
    found = compare(truth, old, new, classes=names)
    assert found.verdict == "promote"
    assert found.challenger.macro_f1 == pytest.approx(f1_score(truth, new, average="macro"), abs=1e-12)
    assert list(found.challenger.recall) == ["low", "mid", "high"]
    merged = np.where(new == 2, 1, new)
    collapsed = compare(truth, old, merged, classes=names)
    assert (collapsed.verdict, collapsed.reasons[0].split(" (")[0]) == (
        "block",
        f"class collapsed: of {(truth == 2).sum()} records of class high the challenger finds none",
    )
