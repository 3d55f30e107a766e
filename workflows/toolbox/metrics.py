"""Quality of a classifier whose positive class (1) is an alarm. A number that is not defined is ``None``, never 0."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

BOOTSTRAP_SAMPLES = 2000
SEED = 20240501


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
    actual, guess = np.asarray(truth), np.asarray(predicted)
    if actual.shape != guess.shape or actual.ndim != 1:
        raise ValueError(f"expected two vectors of one length, got {actual.shape} and {guess.shape}")
    if not np.isin(actual, (0, 1)).all() or not np.isin(guess, (0, 1)).all():
        raise ValueError("expected the classes 0 and 1 only")
    counts = np.bincount(actual.astype(int) * 2 + guess.astype(int), minlength=4)
    tn, fp, fn, tp = (int(count) for count in counts)
    n = len(actual)
    return Quality(
        n=n,
        confusion=((tn, fp), (fn, tp)),
        accuracy=_share(tn + tp, n),
        precision=_share(tp, tp + fp),
        recall=_share(tp, tp + fn),
        macro_f1=float(macro_f1(counts)) if n else None,
        false_alarm_rate=_share(fp, fp + tn),
        missed_alarm_rate=_share(fn, fn + tp),
        macro_f1_interval=_interval(macro_f1(resample(counts))) if n else None,
    )


def macro_f1(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean of both classes' F1 from counts ``(tn, fp, fn, tp)`` in the last axis; a class that neither occurs nor is
    predicted has F1 0, as scikit-learn counts it with both labels given."""
    tn, fp, fn, tp = (counts[..., index].astype(float) for index in range(4))
    return (_f1(tp, fp, fn) + _f1(tn, fn, fp)) / 2


def resample(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts of bootstrap samples. Drawing records with replacement is drawing their cells from a multinomial."""
    total = int(counts.sum())
    return np.random.default_rng(SEED).multinomial(total, counts / total, size=BOOTSTRAP_SAMPLES)


def once_per_device(decisions: pd.DataFrame) -> pd.DataFrame:
    """Every record once per device and release: a sensor feed that starts over is not more evidence."""
    return decisions.drop_duplicates(["device", "release", "model_sha256", "record_id"], keep="first")


def _f1(hits: NDArray[np.float64], wrong: NDArray[np.float64], missed: NDArray[np.float64]) -> NDArray[np.float64]:
    total = 2 * hits + wrong + missed
    return np.divide(2 * hits, total, out=np.zeros_like(total), where=total > 0)


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
