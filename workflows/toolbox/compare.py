"""Champion against challenger on the same records: promote, hold or block, with the reasons in words and numbers.

Accuracy alone decides nothing: of the Shuttle's records 93 % are no alarms, so a model that never raises one is right
in 93 % of all cases. What decides is macro-F1 (paired bootstrap), the recall of each class, and McNemar's exact test of
the records on which only one of the two is right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import binomtest

from .metrics import Quality, evaluate, macro_f1, resample

Verdict = Literal["promote", "hold", "block"]
CLASSES = ("normal", "alarm")


@dataclass(frozen=True)
class Policy:
    """What it takes to decide."""

    least_records: int = 300
    least_alarms: int = 10
    """Records of the rarer class, in truth."""
    most_recall_drop: float = 0.05
    """A class may lose so much recall, whatever else improves."""
    significance: float = 0.05


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` found on the common records."""

    verdict: Verdict
    reasons: tuple[str, ...]
    n: int
    champion: Quality
    challenger: Quality
    macro_f1_difference: float | None
    """Challenger minus champion."""
    macro_f1_difference_interval: tuple[float, float] | None
    only_champion_right: int
    only_challenger_right: int
    mcnemar_p: float | None


def compare(truth: ArrayLike, champion: ArrayLike, challenger: ArrayLike, policy: Policy | None = None) -> Comparison:
    """Judge two models' labels (0 or 1) of the same records, in the same order.

    :raises ValueError: see :func:`toolbox.metrics.evaluate`
    """
    actual, old, new = (np.asarray(values) for values in (truth, champion, challenger))
    before, after = evaluate(actual, old), evaluate(actual, new)
    difference, interval = _difference(actual, old, new)
    only_old = int(((old == actual) & (new != actual)).sum())
    only_new = int(((old != actual) & (new == actual)).sum())
    p = float(binomtest(only_new, only_old + only_new).pvalue) if only_old + only_new else None
    verdict, reasons = _judge(before, after, interval, p, policy or Policy())
    return Comparison(
        verdict=verdict,
        reasons=reasons,
        n=before.n,
        champion=before,
        challenger=after,
        macro_f1_difference=difference,
        macro_f1_difference_interval=interval,
        only_champion_right=only_old,
        only_challenger_right=only_new,
        mcnemar_p=p,
    )


def pair(champion: pd.DataFrame, challenger: pd.DataFrame, labels: pd.Series[int]) -> pd.DataFrame:
    """The records that both decided and that have a label: columns ``truth``, ``champion``, ``challenger``.

    A record that several devices decided counts once: they run the same model.
    """
    old = champion.drop_duplicates("record_id").set_index("record_id")["label"]
    new = challenger.drop_duplicates("record_id").set_index("record_id")["label"]
    paired = pd.concat([labels, old, new], axis=1, join="inner", keys=["truth", "champion", "challenger"])
    return paired.sort_index().astype("int64")


def _difference(
    actual: np.ndarray, old: np.ndarray, new: np.ndarray
) -> tuple[float | None, tuple[float, float] | None]:
    """Difference of macro-F1 and its 95 % interval; pairs are resampled together, so common luck cancels out."""
    if not len(actual):
        return None, None
    cells = np.bincount(actual.astype(int) * 4 + old.astype(int) * 2 + new.astype(int), minlength=8)
    samples = np.vstack([cells, resample(cells)]).reshape(-1, 2, 2, 2)  # truth, champion, challenger
    values = macro_f1(samples.sum(axis=2).reshape(-1, 4)) - macro_f1(samples.sum(axis=3).reshape(-1, 4))
    low, high = np.quantile(values[1:], (0.025, 0.975))
    return float(values[0]), (float(low), float(high))


def _judge(
    before: Quality, after: Quality, interval: tuple[float, float] | None, p: float | None, policy: Policy
) -> tuple[Verdict, tuple[str, ...]]:
    rarer = min(before.alarms, before.n - before.alarms)
    if interval is None or before.n < policy.least_records or rarer < policy.least_alarms:
        return "hold", (
            f"too little evidence: {before.n} common labelled records with {before.alarms} alarms, "
            f"at least {policy.least_records} with {policy.least_alarms} are needed",
        )
    against = tuple(_against(before, after, interval, policy))
    if against:
        return "block", against
    significant = p is not None and p < policy.significance
    if interval[0] > 0 and significant:
        return "promote", (
            f"macro-F1 {before.macro_f1:.4f} → {after.macro_f1:.4f}; the difference is between {interval[0]:+.4f} and "
            f"{interval[1]:+.4f} (95\u00a0%)",
            f"the records that only one of them gets right favour the challenger (McNemar p = {p:.2g})",
        )
    return "hold", (
        f"no clear difference: macro-F1 {before.macro_f1:.4f} → {after.macro_f1:.4f}, between {interval[0]:+.4f} and "
        f"{interval[1]:+.4f} (95\u00a0%)" + (f", McNemar p = {p:.2g}" if p is not None else ", the same decisions"),
    )


def _against(before: Quality, after: Quality, interval: tuple[float, float], policy: Policy) -> list[str]:
    reasons = []
    for index, name in enumerate(CLASSES):
        old, new = _recall(before, index), _recall(after, index)
        if new == 0 < old:
            reasons.append(f"class collapsed: of {sum(after.confusion[index])} records of class {name} it finds none")
        elif old - new > policy.most_recall_drop:
            reasons.append(f"recall of class {name} fell from {old:.1%} to {new:.1%}")
    if interval[1] < 0:
        reasons.append(
            f"macro-F1 fell from {before.macro_f1:.4f} to {after.macro_f1:.4f}; the difference is between "
            f"{interval[0]:+.4f} and {interval[1]:+.4f} (95\u00a0%)"
        )
    return reasons


def _recall(quality: Quality, index: int) -> float:
    row = quality.confusion[index]
    return row[index] / sum(row) if sum(row) else 0.0
