"""Metrics, against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle
from toolbox.metrics import auc, evaluate, exact_interval, once_per_device, score

PAIRS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=200)


@given(PAIRS)
def test_as_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = (list(column) for column in zip(*pairs, strict=True))
    quality = evaluate(truth, predicted)
    assert np.array_equal(quality.confusion, oracle.confusion_matrix(truth, predicted, labels=[0, 1]))
    assert quality.accuracy == pytest.approx(oracle.accuracy_score(truth, predicted), abs=1e-12)
    assert quality.macro_f1 == pytest.approx(oracle.f1_score(truth, predicted, average="macro"), abs=1e-12)
    if sum(predicted):
        assert quality.precision == pytest.approx(oracle.precision_score(truth, predicted), abs=1e-12)
    if sum(truth):
        assert quality.recall == pytest.approx(oracle.recall_score(truth, predicted), abs=1e-12)
        assert quality.missed_alarm_rate == pytest.approx(1 - (quality.recall or 0), abs=1e-12)


def test_what_is_not_defined_is_none_and_not_zero() -> None:
    quiet = evaluate([0, 0, 0], [0, 0, 0])
    assert (quiet.precision, quiet.recall, quiet.missed_alarm_rate) == (None, None, None)
    assert (quiet.accuracy, quiet.false_alarm_rate, quiet.alarms) == (1.0, 0.0, 0)
    nothing = evaluate([], [])
    assert (nothing.n, nothing.accuracy, nothing.macro_f1, nothing.macro_f1_interval) == (0, None, None, None)


def test_accuracy_is_fooled_where_macro_f1_is_not() -> None:
    truth = [0] * 93 + [1] * 7
    never = evaluate(truth, [0] * 100)
    assert never.accuracy == pytest.approx(0.93)
    assert never.recall == 0
    assert never.macro_f1 == pytest.approx(0.4819, abs=1e-4)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Records with known macro-F1, many times: about 95 of 100 intervals have it inside."""
    random = np.random.default_rng(3)
    population_truth = (random.random(200_000) < 0.2).astype(int)
    population = np.where(random.random(200_000) < 0.1, 1 - population_truth, population_truth)
    real = evaluate(population_truth, population).macro_f1
    inside = 0
    for _ in range(100):
        sample = random.integers(0, 200_000, 400)
        low, high = evaluate(population_truth[sample], population[sample]).macro_f1_interval or (0, 0)
        inside += low <= (real or 0) <= high
    assert 88 <= inside <= 100


@pytest.mark.parametrize(
    ("truth", "predicted", "mistake"),
    [
        ([0, 1], [0], "two vectors of one length"),
        ([0, 2], [0, 1], "classes 0, 1 only"),
        ([0, 1], [0, -1], "classes 0, 1 only"),
    ],
)
def test_bad_input_is_named(truth: list[int], predicted: list[int], mistake: str) -> None:
    with pytest.raises(ValueError, match=mistake):
        evaluate(truth, predicted)


def test_a_record_counts_once_per_device_and_version() -> None:
    rows = [
        ("device-001", "v1", "m1", "r1", 0),
        ("device-001", "v1", "m1", "r1", 1),  # the feed started over
        ("device-002", "v1", "m1", "r1", 0),
        ("device-001", "v2", "m2", "r1", 0),
        ("device-001", "v1", "m1", "r2", 0),
    ]
    frame = pd.DataFrame(rows, columns=["device", "release", "model_sha256", "record_id", "label"])
    kept = once_per_device(frame)
    assert list(kept.index) == [0, 2, 3, 4], "the first decision is kept"


MANY = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=100)


@given(MANY)
def test_many_classes_as_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = (list(column) for column in zip(*pairs, strict=True))
    found = score(truth, predicted, "abcd")
    assert np.array_equal(found.confusion, oracle.confusion_matrix(truth, predicted, labels=range(4)))
    assert found.macro_f1 == pytest.approx(oracle.f1_score(truth, predicted, average="macro"), abs=1e-12)
    recalls = oracle.recall_score(truth, predicted, labels=range(4), average=None, zero_division=np.nan)
    mine = [np.nan if value is None else value for value in found.recall.values()]
    assert mine == pytest.approx(recalls, abs=1e-12, nan_ok=True)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 9)), min_size=1, max_size=100))
def test_auc_as_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truth, scores = (list(column) for column in zip(*pairs, strict=True))
    if len(set(truth)) == 1:
        assert auc(truth, scores) is None
    else:
        assert auc(truth, scores) == pytest.approx(oracle.roc_auc_score(truth, scores), abs=1e-12)


def test_auc_refuses_what_is_no_score() -> None:
    with pytest.raises(ValueError, match="got NaN"):
        auc([0, 1], [0.1, float("nan")])


def test_exact_interval_of_a_share() -> None:
    """No failure in 10: up to 1 - 0.025^(1/10), by hand."""
    low, high = exact_interval(0, 10) or (1, 0)
    assert (low, high) == (0, pytest.approx(1 - 0.025**0.1, abs=1e-9))
    assert exact_interval(0, 0) is None
