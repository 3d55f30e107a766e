"""The command ``python -m toolbox.compare``: records and models from files, the verdict of :mod:`toolbox.compare`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from twinops.errors import TwinopsError

from toolbox import compare_text, models, policy, records, table
from toolbox.compare import EXIT_CODES, POLICY_FILE, Comparison, Policy, compare
from toolbox.metrics import Label, Scores
from toolbox.models import Decisions
from toolbox.records import Labelled, RecordsError


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
