"""Champion against challenger on the same records: promote, hold or block, with the reasons in words and numbers.

``python -m toolbox.compare RECORDS CHAMPION.onnx CHALLENGER.onnx (--label COLUMN | --labels LABELS.csv) [--json]``
exits with 0: promote; 3: hold; 4: block; 2: they cannot be compared. docs/toolbox.md says how it decides.

Accuracy alone decides nothing: of the Shuttle's records 93 % are no alarms, so a model that never raises one is right
in 93 % of all cases. What decides is macro-F1 (paired bootstrap), the recall of each class, and McNemar's exact test of
the records on which only one of the two is right.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest

from toolbox import policy
from toolbox.metrics import Label, Scores, checked, macro_f1, one_hot, resample, score_counts

Verdict = Literal["promote", "hold", "block"]
EXIT_CODES: dict[Verdict, int] = {"promote": 0, "hold": 3, "block": 4}
ALARM_CLASSES: Mapping[Label, str] = {0: "normal", 1: "alarm"}
POLICY_FILE = policy.FOLDER / "compare.yml"


@dataclass(frozen=True)
class Policy:
    """What it takes to decide; ``policies/compare.yml`` says what each field means."""

    version: int
    least_records: int
    least_class_records: int
    most_recall_drop: float
    significance: float


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` found on the common records."""

    verdict: Verdict
    reasons: tuple[str, ...]
    n: int
    champion: Scores
    challenger: Scores
    macro_f1_difference: float | None
    """Challenger minus champion."""
    macro_f1_difference_interval: tuple[float, float] | None
    only_champion_right: int
    only_challenger_right: int
    mcnemar_p: float | None
    policy: Policy


def compare(
    truth: ArrayLike,
    champion: ArrayLike,
    challenger: ArrayLike,
    limits: Policy | None = None,
    classes: Mapping[Label, str] = ALARM_CLASSES,
) -> Comparison:
    """Judge two models' decisions about the same records, in the same order, given as positions in ``classes``, whose
    values are the names that reasons use. Limits are, unless given, those of ``policies/compare.yml``.

    :raises ValueError: see :func:`toolbox.metrics.score`
    """
    for guess in (champion, challenger):
        checked(truth, guess, range(len(classes)))
    decided = np.column_stack([np.asarray(each, dtype=np.int64) for each in (truth, champion, challenger)])
    cells, counts = np.unique(decided.reshape(-1, 3), axis=0, return_counts=True)
    return compare_counts(cells, counts, limits, classes)


def compare_counts(
    cells: NDArray[np.int64],
    counts: NDArray[np.int64],
    limits: Policy | None = None,
    classes: Mapping[Label, str] = ALARM_CLASSES,
) -> Comparison:
    """The same from counts: a row of ``cells`` has a class, what the champion and what the challenger took it for, as
    positions in ``classes``, each row once and in order; ``counts`` says of how many records.
    """
    limits = limits or policy.load(Policy, POLICY_FILE)
    k = len(classes)
    actual, old, new = cells.T
    before, after = (score_counts(_confusion(actual, guess, counts, k), tuple(classes)) for guess in (old, new))
    difference, interval = _difference(cells, counts, k)
    by_class = [_only_one_right(cells[actual == i], counts[actual == i]) for i in range(k)]
    only_old, only_new = _only_one_right(cells, counts)
    evidence = _Evidence(
        before=before, after=after, interval=interval, only_old=only_old, only_new=only_new, by_class=by_class
    )
    verdict, reasons = _judge(evidence, limits, tuple(classes.values()))
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
        mcnemar_p=mcnemar_p(only_old, only_new),
        policy=limits,
    )


def pair(champion: pd.DataFrame, challenger: pd.DataFrame, labels: pd.Series[int]) -> pd.DataFrame:
    """The records that both decided and that have a label: columns ``truth``, ``champion``, ``challenger``.

    A record that several devices decided counts once: they run the same model.
    """
    old = champion.drop_duplicates("record_id").set_index("record_id")["label"]
    new = challenger.drop_duplicates("record_id").set_index("record_id")["label"]
    paired = pd.concat([labels, old, new], axis=1, join="inner", keys=["truth", "champion", "challenger"])
    return paired.sort_index().astype("int64")


def mcnemar_p(only_old: int, only_new: int) -> float | None:
    """McNemar's exact test, two-sided; None where the two are right about the same records."""
    return float(binomtest(only_new, only_old + only_new).pvalue) if only_old + only_new else None


def _confusion(
    actual: NDArray[np.int64], guess: NDArray[np.int64], counts: NDArray[np.int64], k: int
) -> NDArray[np.int64]:
    return np.bincount(actual * k + guess, counts, minlength=k * k).astype(np.int64).reshape(k, k)


def _only_one_right(cells: NDArray[np.int64], counts: NDArray[np.int64]) -> tuple[int, int]:
    """(records that only the champion, that only the challenger gets right)."""
    actual, old, new = cells.T
    old_right, new_right = old == actual, new == actual
    return int(counts[old_right & ~new_right].sum()), int(counts[~old_right & new_right].sum())


def _difference(
    cells: NDArray[np.int64], counts: NDArray[np.int64], k: int
) -> tuple[float | None, tuple[float, float] | None]:
    """Difference of macro-F1 and its 95 % interval; pairs are resampled together, so common luck cancels out."""
    if not len(cells):
        return None, None
    truth, champion, challenger = (one_hot(part, k) for part in cells.T)
    samples = np.vstack([counts, resample(counts)])
    support = samples @ truth
    values = macro_f1(samples @ (truth & challenger), support, samples @ challenger) - macro_f1(
        samples @ (truth & champion), support, samples @ champion
    )
    low, high = np.quantile(values[1:], (0.025, 0.975))
    return float(values[0]), (float(low), float(high))


@dataclass(frozen=True)
class _Evidence:
    before: Scores
    after: Scores
    interval: tuple[float, float] | None
    only_old: int
    only_new: int
    by_class: Sequence[tuple[int, int]]
    """Of each class's records: how many only the champion, only the challenger gets right."""

    @property
    def support(self) -> list[int]:
        return [sum(row) for row in self.before.confusion]


def _judge(found: _Evidence, limits: Policy, names: Sequence[str]) -> tuple[Verdict, tuple[str, ...]]:
    judged = [index for index, records in enumerate(found.support) if records >= limits.least_class_records]
    if found.interval is None or found.before.n < limits.least_records or len(judged) < 2:
        return "hold", (_too_little(found, limits, names),)
    against = tuple(_against(found, judged, limits, names))
    if against:
        return "block", against
    low, high = found.interval
    p = mcnemar_p(found.only_old, found.only_new)
    macro = f"macro-F1 {found.before.macro_f1:.4f} → {found.after.macro_f1:.4f}"
    between = f"between {low:+.4f} and {high:+.4f} (95\u00a0%)"
    doubts = tuple(_doubts(found, judged, limits, names))
    better = low > 0 and found.only_new > found.only_old and p is not None and p < limits.significance
    if better and not doubts:
        return "promote", (
            f"{macro}; the difference is {between}",
            f"{found.only_new} records only the challenger gets right, {found.only_old} only the champion "
            f"(McNemar p = {p:.2g})",
        )
    same = f", McNemar p = {p:.2g}" if p is not None else ", both are right about the same records"
    return "hold", (*doubts, f"{'not without doubt' if better else 'no clear difference'}: {macro}, {between}{same}")


def _too_little(found: _Evidence, limits: Policy, names: Sequence[str]) -> str:
    classes = ", ".join(f"{records} of class {name}" for records, name in zip(found.support, names, strict=True))
    return (
        f"too little evidence: {found.before.n} common labelled records ({classes or 'no class'}); needed: "
        f"{limits.least_records}, with {limits.least_class_records} each of at least two classes"
    )


def _against(found: _Evidence, judged: Sequence[int], limits: Policy, names: Sequence[str]) -> Iterator[str]:
    for index in judged:
        old, new = _recalls(found, index)
        if new == 0 < old:
            yield (
                f"class collapsed: of {found.support[index]} records of class {names[index]} the challenger finds none "
                f"(the champion {old:.1%})"
            )
        elif old - new > limits.most_recall_drop and _significant(found.by_class[index], limits):
            yield f"recall of class {names[index]} fell from {old:.1%} to {new:.1%}"
    if found.interval and found.interval[1] < 0:
        accuracy = (
            f", although accuracy rose from {found.before.accuracy:.4f} to {found.after.accuracy:.4f}"
            if (found.after.accuracy or 0) > (found.before.accuracy or 0)
            else ""
        )
        yield (
            f"macro-F1 fell from {found.before.macro_f1:.4f} to {found.after.macro_f1:.4f}; the difference is between "
            f"{found.interval[0]:+.4f} and {found.interval[1]:+.4f} (95\u00a0%){accuracy}"
        )


def _doubts(found: _Evidence, judged: Sequence[int], limits: Policy, names: Sequence[str]) -> Iterator[str]:
    for index in judged:
        old, new = _recalls(found, index)
        if old - new > limits.most_recall_drop:
            yield (
                f"recall of class {names[index]} fell from {old:.1%} to {new:.1%}, which may be luck with "
                f"{found.support[index]} records"
            )


def _recalls(found: _Evidence, index: int) -> tuple[float, float]:
    old, new = (scores.confusion[index][index] / found.support[index] for scores in (found.before, found.after))
    return old, new


def _significant(only_one_right: tuple[int, int], limits: Policy) -> bool:
    p = mcnemar_p(*only_one_right)
    return p is not None and p < limits.significance


if __name__ == "__main__":
    from toolbox.compare_command import main  # what reads files and runs models takes a second to import

    sys.exit(main())
