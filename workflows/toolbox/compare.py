"""Champion against challenger on the same records: promote, hold or block, with the reasons in words and numbers.

``python -m toolbox.compare RECORDS CHAMPION.onnx CHALLENGER.onnx (--label COLUMN | --labels LABELS.csv) [--json]``
exits with 0: promote; 3: hold; 4: block; 2: they cannot be compared. docs/toolbox.md says how it decides.

Accuracy alone decides nothing: of the Shuttle's records 93 % are no alarms, so a model that never raises one is right
in 93 % of all cases. What decides is macro-F1 (paired bootstrap), the recall of each class, and McNemar's exact test of
the records on which only one of the two is right.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest
from twinops.errors import TwinopsError

from toolbox import compare_text, models, policy, records, table
from toolbox.metrics import Label, Scores, macro_f1, one_hot, resample, score
from toolbox.models import Decisions
from toolbox.records import Labelled, RecordsError

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
    limits = limits or policy.load(Policy, POLICY_FILE)
    before, after = score(truth, champion, tuple(classes)), score(truth, challenger, tuple(classes))
    actual, old, new = (np.asarray(values, dtype=np.int64) for values in (truth, champion, challenger))
    difference, interval = _difference(actual, old, new, len(classes))
    only_old, only_new = _only_one_right(actual, old, new)
    evidence = _Evidence(
        before=before,
        after=after,
        interval=interval,
        only_old=only_old,
        only_new=only_new,
        by_class=[_only_one_right(*(part[actual == i] for part in (actual, old, new))) for i in range(len(classes))],
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


def _only_one_right(actual: NDArray[np.int64], old: NDArray[np.int64], new: NDArray[np.int64]) -> tuple[int, int]:
    """(records that only the champion, that only the challenger gets right)."""
    old_right, new_right = old == actual, new == actual
    return int((old_right & ~new_right).sum()), int((~old_right & new_right).sum())


def _difference(
    actual: NDArray[np.int64], old: NDArray[np.int64], new: NDArray[np.int64], k: int
) -> tuple[float | None, tuple[float, float] | None]:
    """Difference of macro-F1 and its 95 % interval; pairs are resampled together, so common luck cancels out."""
    if not len(actual):
        return None, None
    cells, counts = np.unique((actual * k + old) * k + new, return_counts=True)
    truth, champion, challenger = (one_hot(part, k) for part in (cells // (k * k), cells // k % k, cells % k))
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


def compare_models(
    labelled: Labelled, paths: Sequence[Path], globs: Sequence[str | None], limits: Policy
) -> dict[str, Any]:
    """The object that ``--json`` prints, about the champion and the challenger at ``paths``.

    A record with a value that is missing or infinite is decided by no device, so it is not compared.

    :raises TwinopsError: a model cannot be used, or a label is of a class that none of them knows
    """
    names = [records.choose(labelled.features, pattern, labelled.where) for pattern in globs]
    inputs = [records.matrix(labelled.features, some, labelled.where) for some in names]
    usable = np.logical_and(*(np.isfinite(values).all(axis=1) for values in inputs))
    decided = [
        models.Model(path).decide(values[usable], some) for path, values, some in zip(paths, inputs, names, strict=True)
    ]
    known = labelled.labels[usable].notna().to_numpy()
    truth, sides = _one_kind(labelled.labels[usable][known], [one.labels[known] for one in decided])
    _refuse_unknown(truth, labelled.ids[usable][known], decided)
    classes = sorted({*truth, *(label for side in sides for label in side)})
    position = {name: index for index, name in enumerate(classes)}
    found = compare(
        *([position[label] for label in labels] for labels in (truth, *sides)),
        limits=limits,
        classes={name: str(name) for name in classes},
    )
    return _as_json(found, labelled, int((~usable).sum()))


def _one_kind(truth: pd.Series[Any], sides: Sequence[NDArray[Any]]) -> tuple[list[Label], list[list[Label]]]:
    """True and decided labels as ints, or all as texts where one of them has texts."""
    lists = [truth.tolist(), *(side.tolist() for side in sides)]
    if any(isinstance(label, str) for labels in lists for label in labels):
        lists = [[str(label) for label in labels] for labels in lists]
    return lists[0], lists[1:]


def _refuse_unknown(truth: Sequence[Label], ids: pd.Series[str], decided: Sequence[Decisions]) -> None:
    if any(one.classes is None for one in decided):
        return  # a model may know a class without saying so
    known = {label for one in decided for label in one.classes or ()}
    texts = {str(label) for label in known}
    for label, record in zip(truth, ids, strict=True):
        if str(label) not in texts:
            raise RecordsError(
                f"label {label!r} of record {record}: expected a class that the models know: {', '.join(sorted(texts))}"
            )


def _as_json(found: Comparison, labelled: Labelled, unusable: int) -> dict[str, Any]:
    received = len(labelled.ids)
    notes = list(labelled.notes)
    if unusable:
        notes.append(f"{unusable} records have a value that is missing or infinite; devices decide none of them")
    return {
        "verdict": found.verdict,
        "reasons": found.reasons,
        "notes": notes,
        "n": found.n,
        "n_received": received,
        "n_rows": labelled.n_rows,
        "coverage": found.n / received,
        "champion": _scores_as_json(found.champion),
        "challenger": _scores_as_json(found.challenger),
        "macro_f1_difference": found.macro_f1_difference,
        "macro_f1_difference_interval": found.macro_f1_difference_interval,
        "mcnemar": {
            "only_champion_right": found.only_champion_right,
            "only_challenger_right": found.only_challenger_right,
            "p": found.mcnemar_p,
        },
        "policy": asdict(found.policy),
    }


def _scores_as_json(scores: Scores) -> dict[str, Any]:
    fields = asdict(scores)
    fields.pop("n")
    return {**fields, **{name: _by_text(fields[name]) for name in ("precision", "recall", "f1")}}


def _by_text(values: Mapping[Label, float | None]) -> dict[str, float | None]:
    return {str(name): value for name, value in values.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see the module's first lines."""
    parser = argparse.ArgumentParser(prog="python -m toolbox.compare", description="Is the challenger better?")
    parser.add_argument("records", metavar="RECORDS", type=Path, help="CSV or CSV.gz: a row a record")
    parser.add_argument("champion", metavar="CHAMPION.onnx", type=Path, help="the model in use")
    parser.add_argument("challenger", metavar="CHALLENGER.onnx", type=Path, help="the model that would replace it")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--label", metavar="COLUMN", help="column of RECORDS with the true class")
    where.add_argument("--labels", metavar="LABELS.csv", type=Path, help="file with record_id and label")
    parser.add_argument("--champion-features", metavar="GLOB", help="columns that the champion takes (default: all)")
    parser.add_argument(
        "--challenger-features", metavar="GLOB", help="columns that the challenger takes (default: all)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--policy", type=Path, default=POLICY_FILE, help="limits (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        limits = policy.load(Policy, options.policy)
        labelled = _read(options.records, options.label, options.labels)
        globs = (options.champion_features, options.challenger_features)
        found = compare_models(labelled, (options.champion, options.challenger), globs, limits)
    except TwinopsError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    print(json.dumps(found, indent=2, allow_nan=False) if options.json else compare_text.as_text(found))
    return EXIT_CODES[found["verdict"]]


def _read(path: Path, label: str | None, labels: Path | None) -> Labelled:
    rows = table.read(path, texts=[records.KEY])
    if labels is None:
        return records.with_column(rows, label or "", str(path))
    return records.with_file(rows, str(path), table.read(labels, texts=[records.KEY]), str(labels))


if __name__ == "__main__":
    sys.exit(main())
