"""Changes of an error rate, and quality without labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toolbox.metrics import evaluate
from toolbox.performance import calibration_error, error_changes, estimate

PAIRS = st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=60)


def test_a_model_that_breaks_is_found_soon_after() -> None:
    random = np.random.default_rng(1)
    errors = np.concatenate([random.random(3000) < 0.01, random.random(1000) < 0.25])
    first = error_changes(errors.astype(float))[0]
    assert 3000 <= first.position < 3200
    assert first.before < 0.03 < first.after


def test_an_error_rate_that_stays_raises_hardly_any_alarm() -> None:
    random = np.random.default_rng(2)
    alarms = sum(bool(error_changes(random.random(2000) < 0.05)) for _ in range(20))
    assert alarms <= 1


def test_an_improvement_is_a_change_too() -> None:
    random = np.random.default_rng(3)
    errors = np.concatenate([random.random(2000) < 0.3, random.random(2000) < 0.02])
    change = error_changes(errors.astype(float))[0]
    assert change.after < change.before


@pytest.mark.parametrize("shift", [0.0, 0.15])
def test_an_estimate_from_calibrated_scores_is_about_the_truth(shift: float) -> None:
    """Also after the records have become others (more of them near the limit), as long as scores mean the same."""
    random = np.random.default_rng(4)
    p = np.clip(random.beta(0.3, 2.0, 40_000) + shift, 0, 1)
    truth, decided = (random.random(len(p)) < p).astype(int), (p > 0.5).astype(int)
    expected, real = estimate(decided, p), evaluate(truth, decided)
    assert expected.accuracy == pytest.approx(real.accuracy, abs=4 * (expected.accuracy_std or 0))
    assert expected.macro_f1 == pytest.approx(real.macro_f1, abs=0.01)
    assert expected.recall == pytest.approx(real.recall, abs=0.02)
    assert (calibration_error(truth, p) or 0) < 0.01


def test_scores_that_are_no_probabilities_show_in_the_calibration_error() -> None:
    random = np.random.default_rng(4)
    p = random.random(20_000)
    truth = (random.random(len(p)) < p**4).astype(int)
    assert (calibration_error(truth, p) or 0) > 0.2


@given(PAIRS)
def test_certain_scores_are_the_truth(pairs: list[tuple[int, float]]) -> None:
    decided = [label for label, _ in pairs]
    truth = [round(p) for _, p in pairs]
    expected, real = estimate(decided, truth), evaluate(truth, decided)
    assert np.allclose(expected.confusion, real.confusion)
    assert expected.macro_f1 == pytest.approx(real.macro_f1)
    assert (expected.precision, expected.recall) == (pytest.approx(real.precision), pytest.approx(real.recall))


@given(PAIRS)
def test_expected_numbers_add_up(pairs: list[tuple[int, float]]) -> None:
    decided, scores = zip(*pairs, strict=True)
    assert np.sum(estimate(decided, scores).confusion) == pytest.approx(len(pairs))


def test_nothing_is_nothing() -> None:
    assert estimate([], []).accuracy is None
    assert calibration_error([], []) is None


@pytest.mark.parametrize(
    ("decided", "scores", "said"),
    [
        ([0, 1], [0.5], "one length"),
        ([2], [0.5], "0 and 1 only"),
        ([1], [1.5], "between 0 and 1"),
        ([1], [np.nan], "0 and 1"),
    ],
    ids=["lengths", "class", "score", "NaN"],
)
def test_bad_input_is_named(decided: list[int], scores: list[float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        estimate(decided, scores)
