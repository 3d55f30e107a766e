"""Two samples of one column, against scipy and by hand."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from toolbox import statistics

CLOSE = 1e-9
ROUNDED = st.integers(-50, 50).map(lambda tenths: tenths / 10)  # many ties
SAMPLES = st.integers(1, 30).flatmap(lambda n: arrays(float, n, elements=ROUNDED | st.floats(-1e6, 1e6)))
COUNTS = st.integers(2, 6).flatmap(lambda k: arrays(np.int64, (2, k), elements=st.integers(0, 40)))


@settings(max_examples=60)
@given(SAMPLES, SAMPLES)
def test_numbers_as_scipy(reference: np.ndarray, current: np.ndarray) -> None:
    found = statistics.compare_numbers(np.sort(reference), np.sort(current))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        ks = stats.ks_2samp(reference, current)
    assert found.ks_d == pytest.approx(ks.statistic, abs=CLOSE)
    assert found.ks_p == pytest.approx(ks.pvalue, rel=CLOSE, abs=CLOSE)
    distance = stats.wasserstein_distance(reference, current)
    assert found.wasserstein == pytest.approx(distance, rel=CLOSE, abs=CLOSE)
    assert found.wasserstein_norm == pytest.approx(distance / max(np.std(reference), 0.001), rel=CLOSE, abs=CLOSE)


@pytest.mark.parametrize(("n", "m"), [(20_000, 15_000), (10_000, 10_001), (10_001, 3), (1, 20_000)])
def test_large_samples_as_scipy(n: int, m: int) -> None:
    random = np.random.default_rng(n + m)
    reference, current = random.normal(size=n), random.normal(0.02, size=m).round(2)
    found = statistics.compare_numbers(np.sort(reference), np.sort(current))
    ks = stats.ks_2samp(reference, current)
    assert (found.ks_d, found.ks_p) == (pytest.approx(ks.statistic, abs=CLOSE), pytest.approx(ks.pvalue, rel=CLOSE))
    assert found.wasserstein == pytest.approx(stats.wasserstein_distance(reference, current), rel=CLOSE)


@given(SAMPLES)
def test_a_sample_does_not_differ_from_itself(sample: np.ndarray) -> None:
    found = statistics.compare_numbers(np.sort(sample), np.sort(sample))
    assert (found.ks_d, found.ks_p, found.wasserstein, found.psi) == (0, 1, 0, 0)


@given(SAMPLES, SAMPLES)
def test_psi_as_defined(reference: np.ndarray, current: np.ndarray) -> None:
    """By a histogram between the deciles, with the floor; never below 0."""
    edges = np.unique(np.quantile(reference, np.arange(1, 10) / 10))
    bins = np.concatenate([[-np.inf], edges, [np.inf]])
    shares = [np.histogram(sample, bins)[0] / len(sample) for sample in (reference, current)]
    expected, actual = (np.clip(share, 1e-4, None) for share in shares)
    found, count = statistics.population_stability(np.sort(reference), np.sort(current))
    assert found == pytest.approx(sum((actual - expected) * np.log(actual / expected)), rel=CLOSE, abs=CLOSE)
    assert (found >= 0, count) == (True, len(edges) + 1)


def test_psi_by_hand() -> None:
    reference = np.arange(100.0)
    current = np.concatenate([reference[:50], reference[:50]])  # the lower half, twice
    expected = 5 * (0.2 - 0.1) * math.log(2) + 5 * (1e-4 - 0.1) * math.log(1e-4 / 0.1)
    assert statistics.population_stability(reference, np.sort(current)) == (pytest.approx(expected), 10)


def test_psi_by_chance_is_what_samples_have() -> None:
    """The mean of many, for samples of one distribution."""
    random = np.random.default_rng(3)
    found = [
        statistics.population_stability(np.sort(random.normal(size=800)), np.sort(random.normal(size=1200)))[0]
        for _ in range(400)
    ]
    assert np.mean(found) == pytest.approx(statistics.psi_by_chance(10, 800, 1200), rel=0.1)


@given(COUNTS.filter(lambda table: table.sum(axis=0).all() and table.sum(axis=1).all()))
def test_categories_as_scipy(table: np.ndarray) -> None:
    found = statistics.compare_categories(*table.tolist())
    expected = stats.chi2_contingency(table)
    assert found.chi2 == pytest.approx(expected.statistic, rel=CLOSE, abs=CLOSE)
    assert found.chi2_p == pytest.approx(expected.pvalue, rel=CLOSE, abs=CLOSE)
    assert found.chi2_dof == expected.dof
    assert found.cramers_v == pytest.approx(stats.contingency.association(table), rel=1e-6, abs=1e-6)
    shares = table / table.sum(axis=1, keepdims=True)
    assert found.distance == pytest.approx(np.maximum(shares[0] - shares[1], 0).sum(), abs=CLOSE)
    assert 0 <= found.p <= 1
    assert found.psi >= 0


def test_common_categories_are_judged_as_they_are_and_rare_ones_together() -> None:
    common = statistics.compare_categories([50, 30, 20], [20, 40, 40])
    assert common.p == pytest.approx(common.chi2_p, rel=CLOSE)
    rare = statistics.compare_categories([50, 40, 1, 2, 0, 3], [20, 60, 2, 0, 1, 4])
    assert rare.p == pytest.approx(stats.chi2_contingency([[6, 40, 50], [7, 60, 20]]).pvalue, rel=CLOSE)


def test_categories_that_are_all_rare_say_nothing() -> None:
    """Every value another one, as of a serial number."""
    found = statistics.compare_categories([1] * 100 + [0] * 100, [0] * 100 + [1] * 100)
    assert (found.p, found.distance) == (1, pytest.approx(1))


def test_holm_by_hand() -> None:
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.9, 0.8]) == [1, 1]
    assert statistics.holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_is_no_more_lenient_than_one_test_and_no_stricter_than_bonferroni(p_values: list[float]) -> None:
    for p, adjusted in zip(p_values, statistics.holm(p_values), strict=True):
        assert p <= adjusted <= min(1, p * len(p_values)) + 1e-12


def test_how_likely_a_sample_stands_still() -> None:
    """By enumeration: of 4 records a a a b, 3 of the 4 draws of two-from-four pairs are equal with a a."""
    assert statistics.constant_p(np.array([3, 1]), 2) == pytest.approx(3 / 6)
    assert statistics.constant_p(np.array([1] * 50), 1) == pytest.approx(1)
    assert statistics.constant_p(np.array([1] * 50 + [50]), 50) == pytest.approx(1 / math.comb(100, 50), rel=1e-6)


def test_shares_by_fisher() -> None:
    assert statistics.share_p(0, 100, 0, 100) == 1
    assert statistics.share_p(1, 10, 8, 10) == pytest.approx(stats.fisher_exact([[1, 9], [8, 2]]).pvalue)
