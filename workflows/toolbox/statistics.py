"""Two samples of one column: how far apart, and how likely that is when nothing changed.

Each number agrees with scipy's on the same arrays. Both samples are sorted once and every statistic is read from that,
which is why all of them together take less time than two calls of scipy's.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Numbers = NDArray[np.float64]

EXACT_UP_TO = 10_000
"""Records of the larger sample, up to which p of Kolmogorov-Smirnov's test is exact (scipy's ``method="auto"``)."""
BINS = 10
SHARE_FLOOR = 1e-4
"""Stands for the share of a bin without records, whose logarithm PSI could not take."""
STD_FLOOR = 0.001
"""Stands for a smaller standard deviation of the reference, as in evidently."""
LEAST_EXPECTED = 5
"""Records expected of a category in each sample, below which it is pooled with others before it is judged."""


@dataclass(frozen=True)
class NumberDistance:
    """Of two samples of numbers. ``wasserstein`` is in the column's unit, ``wasserstein_norm`` in standard deviations
    (ddof 0) of the reference; ``psi_null`` is the PSI that samples of these sizes have on average by chance."""

    ks_d: float
    ks_p: float
    wasserstein: float
    wasserstein_norm: float
    psi: float
    psi_null: float


@dataclass(frozen=True)
class CategoryDistance:
    """Of two samples of categories. ``chi2`` is that of all categories; ``p`` that of the table in which rare ones are
    pooled, for which chi-squared's distribution holds. ``distance`` is the total variation distance (0–1)."""

    chi2: float
    chi2_dof: int
    chi2_p: float
    p: float
    distance: float
    cramers_v: float
    psi: float
    psi_null: float


def compare_numbers(reference: Numbers, current: Numbers) -> NumberDistance:
    """Two samples of finite numbers, sorted ascending, neither empty."""
    both = np.concatenate([reference, current])
    both.sort(kind="stable")  # merges two runs
    difference = np.abs(
        reference.searchsorted(both, "right") / len(reference) - current.searchsorted(both, "right") / len(current)
    )
    ks_d = float(difference.max())
    with np.errstate(over="ignore"):
        wasserstein = float(np.vecdot(difference[:-1], np.diff(both)))
        std = float(np.std(reference))
    psi, bins = population_stability(reference, current)
    return NumberDistance(
        ks_d=ks_d,
        ks_p=_ks_p(reference, current, ks_d),
        wasserstein=wasserstein,
        wasserstein_norm=wasserstein / max(std, STD_FLOOR),
        psi=psi,
        psi_null=psi_by_chance(bins, len(reference), len(current)),
    )


def _ks_p(reference: Numbers, current: Numbers, distance: float) -> float:
    n, m = len(reference), len(current)
    if max(n, m) <= EXACT_UP_TO:
        with warnings.catch_warnings():  # it says so where it cannot be exact and takes the asymptotic formula
            warnings.filterwarnings("ignore", "ks_2samp: Exact calculation unsuccessful", RuntimeWarning)
            return float(stats.ks_2samp(reference, current).pvalue)
    return float(np.clip(stats.kstwo.sf(distance, np.round(n * m / (n + m))), 0, 1))


def population_stability(reference: Numbers, current: Numbers) -> tuple[float, int]:
    """(PSI, how many bins) of two sorted samples.

    The inner edges of the bins are the deciles of the reference (linear interpolation, each once); the first bin is
    open below and the last one above; a value on an edge belongs to the bin above it.
    """
    edges = np.unique(np.quantile(reference, np.arange(1, BINS) / BINS))
    return _psi(_counts(reference, edges), _counts(current, edges)), len(edges) + 1


def _counts(ordered: Numbers, edges: Numbers) -> NDArray[np.int64]:
    """How many of a sorted sample are in each bin."""
    below = ordered.searchsorted(edges, "left")
    return np.diff(np.concatenate([[0], below, [len(ordered)]]))


def _psi(reference: NDArray[np.int64], current: NDArray[np.int64]) -> float:
    expected = np.maximum(reference / reference.sum(), SHARE_FLOOR)
    actual = np.maximum(current / current.sum(), SHARE_FLOOR)
    return float(((actual - expected) * np.log(actual / expected)).sum())


def psi_by_chance(bins: int, n: int, m: int) -> float:
    """PSI that two samples of one distribution have on average: (B - 1)(1/n + 1/m)."""
    return (bins - 1) * (1 / n + 1 / m)


def compare_categories(reference: Sequence[int], current: Sequence[int]) -> CategoryDistance:
    """Two samples as counts of the same categories; neither sample is empty, no category is in neither."""
    table = np.array([reference, current], dtype=np.int64)
    n, m = (int(count) for count in table.sum(axis=1))
    whole, pooled = _chi2(table), _chi2(_pool_rare(table))
    shares = table / [[n], [m]]
    phi2 = stats.chi2_contingency(table, correction=False).statistic / (n + m)
    return CategoryDistance(
        chi2=whole[0],
        chi2_dof=whole[1],
        chi2_p=whole[2],
        p=pooled[2],
        distance=float(np.abs(shares[0] - shares[1]).sum() / 2),
        cramers_v=float(np.sqrt(phi2)),  # a table of two rows: min(rows, columns) - 1 is 1
        psi=_psi(table[0], table[1]),
        psi_null=psi_by_chance(table.shape[1], n, m),
    )


def _chi2(table: NDArray[np.int64]) -> tuple[float, int, float]:
    found = stats.chi2_contingency(table)
    return float(found.statistic), int(found.dof), float(found.pvalue)


def _pool_rare(table: NDArray[np.int64]) -> NDArray[np.int64]:
    """The table with its rare categories as one; where that is still rare, the next larger joins them."""
    order = np.argsort(table.sum(axis=0), kind="stable")
    ordered = table[:, order]
    smaller = table.sum(axis=1).min() / table.sum()  # share of the smaller sample: what it expects of a category
    enough = ordered.sum(axis=0) * smaller >= LEAST_EXPECTED
    rare = int((~enough).sum())
    while 0 < rare < ordered.shape[1] and ordered[:, :rare].sum() * smaller < LEAST_EXPECTED:
        rare += 1
    if rare < 2:
        return ordered
    return np.hstack([ordered[:, :rare].sum(axis=1, keepdims=True), ordered[:, rare:]])


def share_p(part: int, whole: int, other_part: int, other_whole: int) -> float:
    """Fisher's exact test: how likely two shares as different as these are, if nothing differs."""
    table = [[part, whole - part], [other_part, other_whole - other_part]]
    return float(stats.fisher_exact(table).pvalue)


def constant_p(counts_of_both: NDArray[np.int64], size: int) -> float:
    """How likely a sample of ``size`` records has one value only, drawn from the pooled records, whose values occur
    ``counts_of_both`` times: exact, whatever the distribution."""
    enough = counts_of_both[counts_of_both >= size]
    whole = int(counts_of_both.sum())
    ways = special.gammaln(enough + 1) - special.gammaln(enough - size + 1)
    all_ways = special.gammaln(whole + 1) - special.gammaln(whole - size + 1)
    return float(min(1.0, np.exp(ways - all_ways).sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values that account for all tests together (Holm): those at most ``a`` hold with family-wise error ``a``."""
    ordered = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.minimum(1, np.maximum.accumulate(np.asarray(p_values)[ordered] * factors))
    result = np.empty(len(p_values))
    result[ordered] = adjusted
    return [float(value) for value in result]
