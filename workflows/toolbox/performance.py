"""Is the model getting worse? Changes in a stream of errors, where labels come; an estimate, where they do not.

Drift of the data warns; this is what acts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from river.drift import ADWIN

from toolbox.metrics import macro_f1

ADWIN_DELTA = 0.002
CALIBRATION_BINS = 10
ASSUMPTIONS = (
    "scores are probabilities: of the records that score 0.8, 80 % are alarms (calibration_error says how far from it)",
    "an alarm still looks as it did: the records may have become others, but what they mean has not changed",
    "records are decided independently of each other",
)
"""What an estimate without labels relies on. When one fails, it is wrong without saying so."""


@dataclass(frozen=True)
class Change:
    """A change of the error rate, found at ``position`` (from 0) in the stream: from ``before`` to ``after``."""

    position: int
    before: float
    after: float


def error_changes(errors: Iterable[float], *, delta: float = ADWIN_DELTA) -> list[Change]:
    """Where the error rate changed, by ADWIN; ``errors`` are 1 (wrong) and 0 (right), in the order in which they came.

    ``delta`` bounds the probability of a false alarm at each step. A change is found after it happened, the sooner the
    larger it is.
    """
    detector = ADWIN(delta=delta)
    found = []
    before = 0.0
    for position, error in enumerate(errors):
        detector.update(error)
        if detector.drift_detected:
            found.append(Change(position, before, float(detector.estimation)))
        before = float(detector.estimation)
    return found


@dataclass(frozen=True)
class Estimate:
    """What quality is expected of decisions whose labels are not known, under :data:`ASSUMPTIONS`.

    ``confusion`` has the expected numbers ``((true negatives, false alarms), (missed alarms, hits))``."""

    n: int
    confusion: tuple[tuple[float, float], tuple[float, float]]
    accuracy: float | None
    precision: float | None
    recall: float | None
    macro_f1: float | None
    accuracy_std: float | None
    """Standard deviation of the accuracy of ``n`` records with these scores."""


def estimate(decisions: ArrayLike, scores: ArrayLike) -> Estimate:
    """The expected quality of decisions (0 or 1) from their scores, the probability of an alarm (0–1).

    :raises ValueError: two lengths, other decisions, or a score outside 0–1
    """
    decided, p = _checked(decisions, scores, "decisions")
    alarm = decided == 1
    hits, false_alarms = float(p[alarm].sum()), float((1 - p[alarm]).sum())
    missed, quiet = float(p[~alarm].sum()), float((1 - p[~alarm]).sum())
    n = len(p)
    right = hits + quiet
    support, taken = (quiet + false_alarms, hits + missed), (quiet + missed, hits + false_alarms)
    return Estimate(
        n=n,
        confusion=((quiet, false_alarms), (missed, hits)),
        accuracy=right / n if n else None,
        precision=hits / (hits + false_alarms) if alarm.any() else None,
        recall=hits / (hits + missed) if hits + missed else None,
        macro_f1=float(macro_f1((quiet, hits), support, taken)) if n else None,
        accuracy_std=float(np.sqrt((p * (1 - p)).sum()) / n) if n else None,
    )


def calibration_error(truth: ArrayLike, scores: ArrayLike) -> float | None:
    """How far scores are from probabilities on labelled records: the mean distance between the score and the share of
    alarms, over ten bins of scores, weighted by their records. None without a record.

    :raises ValueError: see :func:`estimate`
    """
    actual, p = _checked(truth, scores, "classes")
    if not len(p):
        return None
    bins = np.minimum((p * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    distance = np.bincount(bins, weights=actual - p, minlength=CALIBRATION_BINS)
    return float(np.abs(distance).sum() / len(p))


def _checked(labels: ArrayLike, scores: ArrayLike, what: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    values, p = np.asarray(labels), np.asarray(scores, float)
    if values.shape != p.shape or p.ndim != 1:
        raise ValueError(f"expected two vectors of one length, got {values.shape} and {p.shape}")
    if not np.isin(values, (0, 1)).all():
        raise ValueError(f"expected {what} 0 and 1 only")
    if not ((p >= 0) & (p <= 1)).all():  # also for NaN
        raise ValueError("expected scores between 0 and 1")
    return values.astype(np.int64), p
