"""Quality of classifiers. A number that is not defined is ``None``, never 0.

:func:`score` is for any classes; :func:`evaluate` for alarm (1) and none (0), in the words of those who get alarms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Union

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

BOOTSTRAP_SAMPLES = 2000
SEED = 20240501

Label = Union[int, str]


@dataclass(frozen=True)
class Scores:
    """What :func:`score` found. ``confusion[i][j]`` counts the records of class ``i`` that were taken for ``j``; rows
    and columns are in the order of ``classes``. A class that neither occurs nor is predicted is not in macro-F1."""

    n: int
    classes: tuple[Label, ...]
    confusion: tuple[tuple[int, ...], ...]
    accuracy: float | None
    precision: Mapping[Label, float | None]
    recall: Mapping[Label, float | None]
    f1: Mapping[Label, float | None]
    macro_f1: float | None
    macro_f1_interval: tuple[float, float] | None
    """95 %, bootstrap over records."""


def score(truth: ArrayLike, predicted: ArrayLike, classes: Sequence[Label]) -> Scores:
    """Compare predicted with true classes, both given as positions in ``classes``.

    :raises ValueError: two lengths, or a position that ``classes`` does not have
    """
    actual, guess = checked(truth, predicted, range(len(classes)))
    k = len(classes)
    return score_counts(np.bincount(actual * k + guess, minlength=k * k).reshape(k, k), classes)


def score_counts(confusion: NDArray[np.int64], classes: Sequence[Label]) -> Scores:
    """The same from counts: how many records of each class (row) were taken for each class (column)."""
    hits, support, taken = np.diagonal(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    n = int(confusion.sum())
    return Scores(
        n=n,
        classes=tuple(classes),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        accuracy=_share(int(hits.sum()), n),
        precision={name: _share(int(hits[i]), int(taken[i])) for i, name in enumerate(classes)},
        recall={name: _share(int(hits[i]), int(support[i])) for i, name in enumerate(classes)},
        f1={name: _share(2 * int(hits[i]), int(support[i] + taken[i])) for i, name in enumerate(classes)},
        macro_f1=float(macro_f1(hits, support, taken)) if n else None,
        macro_f1_interval=_macro_f1_interval(confusion) if n else None,
    )


@dataclass(frozen=True)
class Quality:
    """What :func:`evaluate` found. ``confusion`` is ``((true negatives, false alarms), (missed alarms, hits))``."""

    n: int
    confusion: tuple[tuple[int, int], tuple[int, int]]
    accuracy: float | None
    precision: float | None
    recall: float | None
    macro_f1: float | None
    false_alarm_rate: float | None
    missed_alarm_rate: float | None
    macro_f1_interval: tuple[float, float] | None
    """95 %, bootstrap over records."""

    @property
    def alarms(self) -> int:
        """How many records really were alarms."""
        return sum(self.confusion[1])


def evaluate(truth: ArrayLike, predicted: ArrayLike) -> Quality:
    """Compare predicted labels with true ones (both 0 or 1, same length).

    :raises ValueError: another class, or two lengths
    """
    return quality_of(score(truth, predicted, (0, 1)))


def quality_of(found: Scores) -> Quality:
    """The scores of classes 0 and 1 in the words of those who get alarms."""
    (tn, fp), (fn, tp) = found.confusion
    return Quality(
        n=found.n,
        confusion=((tn, fp), (fn, tp)),
        accuracy=found.accuracy,
        precision=found.precision[1],
        recall=found.recall[1],
        macro_f1=found.macro_f1,
        false_alarm_rate=_share(fp, fp + tn),
        missed_alarm_rate=_share(fn, fn + tp),
        macro_f1_interval=found.macro_f1_interval,
    )


def macro_f1(hits: ArrayLike, support: ArrayLike, taken: ArrayLike) -> NDArray[np.float64]:
    """Mean F1 over the classes, which are the last axis: how many records of each were recognised, are there, and were
    taken for it. A class without any of them does not count."""
    right, total = 2 * np.asarray(hits, float), np.asarray(support, float) + np.asarray(taken, float)
    f1 = np.divide(right, total, out=np.zeros_like(right), where=total > 0)
    return f1.sum(axis=-1) / np.maximum((total > 0).sum(axis=-1), 1)


def resample(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts of bootstrap samples. Drawing records with replacement is drawing their cells from a multinomial."""
    total = int(counts.sum())
    return np.random.default_rng(SEED).multinomial(total, counts / total, size=BOOTSTRAP_SAMPLES)


def _macro_f1_interval(confusion: NDArray[np.int64]) -> tuple[float, float]:
    k = len(confusion)
    cells = np.flatnonzero(confusion)
    of_truth, of_guess = one_hot(cells // k, k), one_hot(cells % k, k)
    draws = resample(confusion.ravel()[cells])
    values = macro_f1(draws @ (of_truth & of_guess), draws @ of_truth, draws @ of_guess)
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def one_hot(positions: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """A row for each position, with a one there: ``counts @ one_hot(...)`` sums the counts of each position."""
    return (positions[:, None] == np.arange(k)).astype(np.int64)


def auc(truth: ArrayLike, scores: ArrayLike) -> float | None:
    """Area under the ROC curve: how often a record of class 1 scores above one of class 0 (ties count half). None
    unless both occur.

    :raises ValueError: two lengths, a class other than 0 and 1, or a score that is not a number
    """
    values = np.asarray(scores, float)
    actual, _ = checked(truth, np.zeros(len(values)), (0, 1))
    if np.isnan(values).any():
        raise ValueError("expected a score for each record, got NaN")
    alarms = int(actual.sum())
    others = len(actual) - alarms
    if not alarms or not others:
        return None
    ranks = stats.rankdata(values)
    return float((ranks[actual == 1].sum() - alarms * (alarms + 1) / 2) / (alarms * others))


def exact_interval(part: int, whole: int, confidence: float = 0.95) -> tuple[float, float] | None:
    """Where a share lies of which ``part`` of ``whole`` were seen (Clopper-Pearson); None without any."""
    if not whole:
        return None
    low, high = stats.binomtest(part, whole).proportion_ci(confidence, method="exact")
    return float(low), float(high)


def once_per_device(decisions: pd.DataFrame) -> pd.DataFrame:
    """Every record once per device and release: a sensor feed that starts over is not more evidence."""
    return decisions.drop_duplicates(["device", "release", "model_sha256", "record_id"], keep="first")


def checked(
    truth: ArrayLike, predicted: ArrayLike, known: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Both as vectors of numbers.

    :raises ValueError: two lengths, or a class that is not ``known``
    """
    actual, guess = np.asarray(truth), np.asarray(predicted)
    if actual.shape != guess.shape or actual.ndim != 1:
        raise ValueError(f"expected two vectors of one length, got {actual.shape} and {guess.shape}")
    if not np.isin(actual, known).all() or not np.isin(guess, known).all():
        raise ValueError(f"expected the classes {', '.join(map(str, known))} only")
    return actual.astype(np.int64), guess.astype(np.int64)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
