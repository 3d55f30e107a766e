"""One column of two tables, measured: how far apart the two samples are, and each test's p-value. It judges nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa
from twinops.errors import TwinopsError

from toolbox import statistics, table
from toolbox.statistics import CategoryDistance, NumberDistance, Numbers

MOST_UNSEEN = 20


class ColumnError(TwinopsError):
    """Two tables cannot be compared: says which column, what it has and what was expected."""


@dataclass(frozen=True)
class Feature:
    """One column. p-values are as tested, those with ``adjusted`` account for all columns."""

    name: str
    kind: Literal["number", "category"]
    n_reference: int
    """Values that are there (of numbers: and finite)."""
    n_current: int
    missing_share_reference: float
    missing_share: float
    infinite: int
    """Of the current sample; counted as missing."""
    missing_p: float | None = None
    constant_p: float | None = None
    """None where the current sample has several values, or the reference has one only."""
    constant_value: str | None = None
    distance: NumberDistance | CategoryDistance | None = None
    """None without any current value."""
    unseen: tuple[str, ...] = ()
    """Categories that the reference does not have: the first :data:`MOST_UNSEEN` of ``n_unseen``."""
    n_unseen: int = 0
    p_adjusted: float | None = None
    missing_p_adjusted: float | None = None
    constant_p_adjusted: float | None = None
    finding: Literal["drift", "small change", "constant"] | None = None
    missing_changed: bool = False
    unit: str | None = None
    """What looks as if the unit of measurement had changed."""

    @property
    def p(self) -> float | None:
        """Of the test that decides: Kolmogorov-Smirnov's, or chi-squared with rare categories pooled."""
        if isinstance(self.distance, CategoryDistance):
            return self.distance.p
        return self.distance.ks_p if self.distance else None


def measure(name: str, reference: pa.ChunkedArray, current: pa.ChunkedArray, names: tuple[str, str]) -> Feature:
    """Column ``name`` of two tables, which errors call ``names``.

    :raises ColumnError: numbers in one and texts in the other, or no value in the reference
    """
    if reference.null_count == len(reference):
        raise ColumnError(
            f"{names[0]}: column {name}: expected values to compare with, all {len(reference)} are missing"
        )
    if pa.types.is_null(current.type):
        current = current.cast(reference.type)
    numeric = [table.is_number(column.type) for column in (reference, current)]
    if numeric[0] != numeric[1]:
        odd = numeric.index(False)
        position, value = table.first_text((reference, current)[odd])
        raise ColumnError(
            f"{names[odd]}: column {name}: expected numbers, as in {names[1 - odd]}, got {value!r} in record {position}"
        )
    return (_measure_numbers if numeric[0] else _measure_categories)(name, reference, current, names)


def _measure_numbers(
    name: str, reference: pa.ChunkedArray, current: pa.ChunkedArray, names: tuple[str, str]
) -> Feature:
    before, _ = finite(reference)
    now, infinite = finite(current)
    if not len(before):
        raise ColumnError(f"{names[0]}: column {name}: expected finite numbers to compare with, got none")
    feature = _with_missing(name, "number", (reference, current), (len(before), len(now)), infinite)
    if not len(now):
        return feature
    feature = replace(feature, distance=statistics.compare_numbers(before, now))
    if now[0] == now[-1] and before[0] != before[-1]:
        _, counts = np.unique(np.concatenate([before, now]), return_counts=True)
        feature = _stands_still(feature, counts, f"{now[0]:g}")
    return feature


def finite(column: pa.ChunkedArray) -> tuple[Numbers, int]:
    """(the finite values ascending, how many are infinite)."""
    ordered = np.sort(table.numbers(column))  # NaN last
    ordered = ordered[: len(ordered) - int(np.isnan(ordered).sum())]
    first, last = ordered.searchsorted(-np.inf, "right"), ordered.searchsorted(np.inf, "left")
    return ordered[first:last], len(ordered) - int(last - first)


def _measure_categories(
    name: str, reference: pa.ChunkedArray, current: pa.ChunkedArray, names: tuple[str, str]
) -> Feature:
    before, now = (_category_counts(column) for column in (reference, current))
    there = (sum(before.values()), sum(now.values()))
    feature = _with_missing(name, "category", (reference, current), there)
    if not now:
        return feature
    categories = sorted({*before, *now})
    counts = [[some.get(category, 0) for category in categories] for some in (before, now)]
    unseen = [category for category in categories if category not in before]
    feature = replace(
        feature,
        distance=statistics.compare_categories(*counts),
        unseen=tuple(unseen[:MOST_UNSEEN]),
        n_unseen=len(unseen),
    )
    if len(now) == 1 and len(before) > 1:
        feature = _stands_still(feature, np.sum(counts, axis=0), next(iter(now)))
    return feature


def _category_counts(column: pa.ChunkedArray) -> dict[str, int]:
    counted = table.texts(column).drop_null().value_counts()
    return {one["values"]: one["counts"] for one in counted.to_pylist()}


def _with_missing(
    name: str,
    kind: Literal["number", "category"],
    columns: tuple[pa.ChunkedArray, pa.ChunkedArray],
    there: tuple[int, int],
    infinite: int = 0,
) -> Feature:
    """A feature without distance, from the reference's and the current column and how many values are ``there``."""
    sizes = [len(column) for column in columns]
    missing = [size - count for size, count in zip(sizes, there, strict=True)]
    return Feature(
        name=name,
        kind=kind,
        n_reference=there[0],
        n_current=there[1],
        missing_share_reference=missing[0] / sizes[0],
        missing_share=missing[1] / sizes[1],
        infinite=infinite,
        missing_p=statistics.share_p(missing[0], sizes[0], missing[1], sizes[1]) if any(missing) else None,
    )


def _stands_still(feature: Feature, counts_of_both: np.ndarray, value: str) -> Feature:
    return replace(feature, constant_p=statistics.constant_p(counts_of_both, feature.n_current), constant_value=value)
