"""Records with their labels: each once, late labels joined, what has none counted and never dropped in silence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from twinops.errors import TwinopsError

from toolbox import table

KEY = "record_id"
LABEL = "label"
_NAMED = 5


class RecordsError(TwinopsError):
    """Records or labels cannot be used: says where, what they have and what was expected."""


@dataclass(frozen=True)
class Labelled:
    """Records, each once."""

    features: pa.Table
    """Without key and label, in the file's order."""
    ids: pd.Series[str]
    labels: pd.Series[Any]
    """One entry a record: an int or a text; None where the label is not known."""
    n_rows: int
    notes: tuple[str, ...]
    """What a person should know: duplicates, contradictions."""
    where: str


def with_column(records: pa.Table, label: str, where: str) -> Labelled:
    """Records whose column ``label`` has their labels. Without a column ``record_id``, each row is a record.

    :raises RecordsError: no such column, a row without ``record_id``, or values that are no classes
    """
    if label not in records.column_names:
        raise RecordsError(f"{where}: expected a column {label}, got {_some(records.column_names)}")
    ids = _ids(records, where) if KEY in records.column_names else pd.Series(np.arange(1, records.num_rows + 1))
    return _joined(records, ids, (ids.astype(str), _classes(records[label], f"{where}: column {label}")), label, where)


def with_file(records: pa.Table, where: str, labels: pa.Table, labels_where: str) -> Labelled:
    """Records whose labels are in a table of its own: ``record_id`` and ``label`` (or the only other column).

    :raises RecordsError: as :func:`with_column`
    """
    for one, place in ((records, where), (labels, labels_where)):
        if KEY not in one.column_names:
            raise RecordsError(
                f"{place}: expected a column {KEY}, by which labels are joined, got {_some(one.column_names)}"
            )
    others = [name for name in labels.column_names if name != KEY]
    if LABEL not in others and len(others) != 1:
        raise RecordsError(f"{labels_where}: expected columns {KEY} and {LABEL}, got {_some(labels.column_names)}")
    label = LABEL if LABEL in others else others[0]
    known = (_ids(labels, labels_where), _classes(labels[label], f"{labels_where}: column {label}"))
    return _joined(records, _ids(records, where), known, label, where)


def _ids(rows: pa.Table, where: str) -> pd.Series[str]:
    ids = table.texts(rows[KEY]).to_pandas()
    if ids.isna().any():
        raise RecordsError(f"{where}: expected a {KEY} in every row, row {int(ids.isna().argmax()) + 1} has none")
    return ids


def _classes(column: pa.ChunkedArray, where: str) -> pd.Series[Any]:
    """The labels as ints or texts (and None)."""
    kind = column.type
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int64())
    elif pa.types.is_floating(kind):
        values = table.numbers(column)
        known = values[~np.isnan(values)]
        odd = known[known != np.round(known)]
        if len(odd) or np.isinf(known).any():
            raise RecordsError(f"{where}: expected classes, got the number {(odd if len(odd) else known)[0]}")
        column = pa.chunked_array([pa.array(values, from_pandas=True).cast(pa.int64())])
    elif not table.is_number(kind) and not pa.types.is_null(kind):
        column = table.texts(column)
    return pd.Series(column.to_pylist(), dtype=object)


def _joined(
    records: pa.Table, ids: pd.Series[str], known: tuple[pd.Series[str], pd.Series[Any]], label: str, where: str
) -> Labelled:
    labels, contradicted = _one_label_each(*known)
    first = ~ids.duplicated()
    features = records.drop_columns([name for name in (KEY, label) if name in records.column_names])
    once = ids[first].astype(str).reset_index(drop=True)
    notes = list(_notes(ids, features, contradicted, set(labels) - set(once)))
    return Labelled(
        features=features.filter(pa.array(first)),
        ids=once,
        labels=pd.Series([labels.get(record) for record in once], dtype=object),
        n_rows=records.num_rows,
        notes=tuple(notes),
        where=where,
    )


def _one_label_each(ids: pd.Series[str], labels: pd.Series[Any]) -> tuple[dict[str, Any], list[str]]:
    """(label by record, records with several): who contradicts himself is not believed."""
    pairs = pd.DataFrame({"id": ids, "label": labels}).dropna().drop_duplicates()
    several = pairs["id"].duplicated(keep=False)
    once = pairs[~several]
    return dict(zip(once["id"], once["label"], strict=True)), sorted(pairs.loc[several, "id"].unique())


def _notes(ids: pd.Series[str], features: pa.Table, contradicted: list[str], unmatched: set[str]) -> Sequence[str]:
    notes = []
    again = int(ids.duplicated().sum())
    if again:
        notes.append(f"{again} rows repeat a record that came before; each record counts once")
    different = _different(ids, features)
    if different:
        notes.append(f"{len(different)} records came with different values, the first counts: {_some(different)}")
    if contradicted:
        notes.append(
            f"{len(contradicted)} records have contradicting labels and count as unlabelled: {_some(contradicted)}"
        )
    if unmatched:
        notes.append(f"{len(unmatched)} labels belong to no record here")
    return notes


def _different(ids: pd.Series[str], features: pa.Table) -> list[str]:
    """Records that came more than once, and not with the same values."""
    repeated = ids.duplicated(keep=False)
    if not repeated.any():
        return []
    rows = features.filter(pa.array(repeated)).to_pandas().assign(**{KEY: ids[repeated].to_numpy()}).drop_duplicates()
    return sorted(rows.loc[rows[KEY].duplicated(), KEY].unique())


def choose(features: pa.Table, pattern: str | None, where: str) -> list[str]:
    """The columns that a glob names, in the file's order; all without one.

    :raises RecordsError: none
    """
    names = [name for name in features.column_names if pattern is None or fnmatchcase(name, pattern)]
    if not names:
        raise RecordsError(
            f"{where}: expected features {pattern or 'beside the label'}, got {_some(features.column_names)}"
        )
    return names


def matrix(features: pa.Table, names: Sequence[str], where: str) -> NDArray[np.float32]:
    """The columns as a model takes them: float32 ``[records, columns]``, what is missing as NaN.

    :raises RecordsError: a column of texts, or without any value
    """
    result = np.empty((features.num_rows, len(names)), np.float32)
    for index, name in enumerate(names):
        column = features[name]
        if column.null_count == len(column):
            raise RecordsError(f"{where}: column {name}: expected numbers, all values are missing")
        if pa.types.is_boolean(column.type):
            column = column.cast(pa.int64())
        if not table.is_number(column.type):
            position, value = table.first_text(column)
            raise RecordsError(f"{where}: column {name}: expected numbers, got {value!r} in record {position}")
        with np.errstate(over="ignore"):  # beyond float32 is infinite, and counted as such
            result[:, index] = table.numbers(column)
        if not np.isfinite(result[:, index]).any():
            raise RecordsError(f"{where}: column {name}: expected finite numbers, got none")
    return result


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(str, names[:_NAMED])) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
