"""Did the data change? ``python -m toolbox.drift REF CUR [--json] [--html PAGE]`` compares two CSV files by column.

Exit code 0: no; 3: a warning; 4: drift; 2: the files cannot be compared. docs/toolbox.md defines every number.

A column *drifts* when its distribution changed significantly, all columns accounted for (Holm), and by so much that it
matters. A column that stands still, another share of missing values, and a change that is significant but small are
warnings. Drift says that the data is another, not that the model is worse: it warns people, and acts on nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from twinops.errors import TwinopsError

from toolbox import columns, drift_text, policy, statistics, table, units
from toolbox.columns import ColumnError, Feature
from toolbox.statistics import CategoryDistance, NumberDistance

Verdict = Literal["none", "warn", "drift"]
EXIT_CODES: dict[Verdict, int] = {"none": 0, "warn": 3, "drift": 4}
IGNORED = "record_id"
POLICY_FILE = policy.FOLDER / "drift.yml"


@dataclass(frozen=True)
class Policy:
    """What it takes; ``policies/drift.yml`` says what each field means."""

    version: int
    significance: float
    least_values: int
    least_distance: float
    least_wasserstein_norm: float
    least_psi: float
    least_missing_change: float


@dataclass(frozen=True)
class Drift:
    """What :func:`compare` found, of every column in the reference's order."""

    features: tuple[Feature, ...]
    policy: Policy
    n_reference: int
    n_current: int

    @property
    def drifted(self) -> list[str]:
        return [one.name for one in self.features if one.finding == "drift"]

    @property
    def small_changes(self) -> list[str]:
        return [one.name for one in self.features if one.finding == "small change"]

    @property
    def constant(self) -> list[str]:
        """Columns that vary in the reference and stand still now."""
        return [one.name for one in self.features if one.finding == "constant"]

    @property
    def missing(self) -> dict[str, float]:
        """Current share of missing values of the columns where it changed."""
        return {one.name: one.missing_share for one in self.features if one.missing_changed}

    @property
    def verdict(self) -> Verdict:
        if self.drifted:
            return "drift"
        return "warn" if self.small_changes or self.constant or self.missing else "none"


class Matrix:
    """An array as a table that :func:`compare` takes. A column is copied while it is looked at, so that memory never
    holds a copy of all of them.
    """

    def __init__(self, values: NDArray[Any], names: Sequence[str]) -> None:
        """:raises ColumnError: not one name for each column"""
        if values.ndim != 2 or values.shape[1] != len(names):
            raise ColumnError(f"array: expected [n, {len(names)}] for {len(names)} names, got {list(values.shape)}")
        self._values, self._positions = values, {name: at for at, name in enumerate(names)}

    @property
    def column_names(self) -> list[str]:
        return list(self._positions)

    @property
    def num_rows(self) -> int:
        return len(self._values)

    def __getitem__(self, name: str) -> pa.ChunkedArray:
        return pa.chunked_array([pa.array(np.ascontiguousarray(self._values[:, self._positions[name]]))])


def compare(
    reference: pa.Table | Matrix,
    current: pa.Table | Matrix,
    limits: Policy | None = None,
    *,
    names: tuple[str, str] = ("reference", "current"),
) -> Drift:
    """Compare two tables with the same columns, in any order. ``names`` are theirs in errors; limits are, unless given,
    those of ``policies/drift.yml``.

    :raises ColumnError: a column is in one of them only, has numbers in one and texts in the other, or the reference
        has no value in it
    """
    limits = limits or policy.load(Policy, POLICY_FILE)
    common = _common_columns(reference, current, names)
    measured = [columns.measure(name, reference[name], current[name], names) for name in common]
    if all(one.distance is None for one in measured):
        raise ColumnError(f"{names[1]}: expected values, all are missing")
    judged = [_judge(one, limits) for one in _adjusted(measured)]
    explained = [_explained(one, reference[one.name], current[one.name]) for one in judged]
    return Drift(tuple(explained), limits, reference.num_rows, current.num_rows)


def _common_columns(reference: pa.Table | Matrix, current: pa.Table | Matrix, names: tuple[str, str]) -> list[str]:
    both = [[name for name in one.column_names if name != IGNORED] for one in (reference, current)]
    for mine, other, here, there in ((*both, *names), (*both[::-1], *names[::-1])):
        missing = [name for name in mine if name not in set(other)]
        if missing:
            raise ColumnError(f"{there}: expected the columns of {here}, missing: {', '.join(missing)}")
    if not both[0]:
        raise ColumnError(f"{names[0]}: expected columns beside {IGNORED}, got none")
    return both[0]


_TESTS = {"p": "p_adjusted", "missing_p": "missing_p_adjusted", "constant_p": "constant_p_adjusted"}


def _adjusted(features: Sequence[Feature]) -> list[Feature]:
    """With p-values for all tests of all columns together."""
    tests = [(index, test) for index, one in enumerate(features) for test in _TESTS if getattr(one, test) is not None]
    p_values = [getattr(features[index], test) for index, test in tests]
    # Which columns stand still is known only after looking at all of them: those that do not are tested as well.
    varying = sum(one.constant_p is None for one in features)
    adjusted = statistics.holm([*p_values, *[1.0] * varying])[: len(tests)]
    result = list(features)
    for (index, test), p in zip(tests, adjusted, strict=True):
        result[index] = replace(result[index], **{_TESTS[test]: p})
    return result


def _judge(feature: Feature, limits: Policy) -> Feature:
    def significant(p: float | None) -> bool:
        return p is not None and p < limits.significance

    missing_change = abs(feature.missing_share - feature.missing_share_reference)
    missing = significant(feature.missing_p_adjusted) and missing_change >= limits.least_missing_change
    finding: Any = None
    if min(feature.n_reference, feature.n_current) >= limits.least_values:
        if feature.constant_p is not None:
            still = significant(feature.constant_p_adjusted) or significant(feature.p_adjusted)
            finding = "constant" if still else None
        elif significant(feature.p_adjusted):
            finding = "drift" if _matters(feature.distance, limits) else "small change"
    return replace(feature, finding=finding, missing_changed=missing)


def _matters(distance: NumberDistance | CategoryDistance | None, limits: Policy) -> bool:
    if distance is None:
        return False
    if distance.psi - distance.psi_null >= limits.least_psi:
        return True
    if isinstance(distance, CategoryDistance):
        return distance.distance >= limits.least_distance
    return distance.ks_d >= limits.least_distance or distance.wasserstein_norm >= limits.least_wasserstein_norm


def _explained(feature: Feature, reference: pa.ChunkedArray, current: pa.ChunkedArray) -> Feature:
    if feature.finding != "drift" or not isinstance(feature.distance, NumberDistance):
        return feature
    before, now = columns.finite(reference)[0], columns.finite(current)[0]
    return replace(feature, unit=units.recognise(before, now, feature.distance.ks_d))


def as_json(found: Drift) -> dict[str, Any]:
    """The object that ``--json`` prints. A number that cannot be computed is null."""
    return {
        "verdict": found.verdict,
        "n_features": len(found.features),
        "n_drifted": len(found.drifted),
        "drifted": found.drifted,
        "small_changes": found.small_changes,
        "constant": found.constant,
        "missing": found.missing,
        "n_reference": found.n_reference,
        "n_current": found.n_current,
        "policy": asdict(found.policy),
        "features": {one.name: _feature_as_json(one) for one in found.features},
    }


def _feature_as_json(feature: Feature) -> dict[str, Any]:
    fields = asdict(feature)
    distance = fields.pop("distance") or {}
    fields.pop("name")
    numbers = {**distance, "p": feature.p, **fields}
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in numbers.items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see the module's first lines."""
    parser = argparse.ArgumentParser(prog="python -m toolbox.drift", description="Did the data change?")
    parser.add_argument("reference", metavar="REF", type=Path, help="CSV or CSV.gz of the data as it was")
    parser.add_argument("current", metavar="CUR", type=Path, help="CSV or CSV.gz of the data as it is")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--html", metavar="PAGE", type=Path, help="also write a report for people: one HTML file")
    parser.add_argument("--policy", type=Path, default=POLICY_FILE, help="limits (default: %(default)s)")
    options = parser.parse_args(arguments)
    names = (str(options.reference), str(options.current))
    try:
        limits = policy.load(Policy, options.policy)
        reference, current = (table.read(path, texts=[IGNORED]) for path in (options.reference, options.current))
        found = compare(reference, current, limits, names=names)
        if options.html:
            _write_page(options.html, found, reference, current, names)
    except TwinopsError as error:
        print(f"drift: {error}", file=sys.stderr)
        return 2
    for one in found.features:
        if not one.n_current:
            print(f"drift: warning: {names[1]}: column {one.name}: all values are missing", file=sys.stderr)
    print(json.dumps(as_json(found), indent=2, allow_nan=False) if options.json else drift_text.as_text(found, names))
    return EXIT_CODES[found.verdict]


def _write_page(path: Path, found: Drift, reference: pa.Table, current: pa.Table, names: tuple[str, str]) -> None:
    from toolbox import drift_page, report  # noqa: PLC0415 - a second to import, for matplotlib

    page = drift_page.page(
        found, reference, current, title="Drift of the data", subtitle=f"{names[1]} against {names[0]}"
    )
    try:
        path.write_text(report.html(page), "utf-8")
    except OSError as error:
        raise ColumnError(f"{path}: expected to write the report: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
