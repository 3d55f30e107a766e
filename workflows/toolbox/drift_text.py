"""The words of a comparison of data (:mod:`toolbox.drift`), for terminals and mails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from toolbox.columns import Feature
from toolbox.statistics import CategoryDistance, NumberDistance

if TYPE_CHECKING:
    from toolbox.drift import Drift


def as_text(found: Drift, names: tuple[str, str]) -> str:
    """A table that a person reads: what was found first, then every column."""
    said = {"none": "no drift", "warn": "no drift, but a warning", "drift": "drift"}[found.verdict]
    lines = [f"{said}: {names[1]} ({found.n_current:,} records) against {names[0]} ({found.n_reference:,} records)", ""]
    lines += [f"  {sentence}" for sentence in sentences(found)]
    lines += [""] if len(lines) > 2 else []
    return "\n".join([*lines, *_table(found.features)])


def sentences(found: Drift) -> Iterator[str]:
    """What was found, a sentence each, the worst first."""
    order = {"drift": 0, "constant": 1, "small change": 2, None: 3}
    for one in sorted(found.features, key=lambda feature: order[feature.finding]):
        if one.finding == "drift":
            yield f"{one.name}: drifted ({_effect(one)}, {_p(one)}){f'; {one.unit}' if one.unit else ''}"
        elif one.finding == "constant":
            yield f"{one.name}: stands still at {one.constant_value}; the reference varies"
        elif one.finding == "small change":
            yield f"{one.name}: changed significantly, but little ({_effect(one)}, {_p(one)})"
    for one in found.features:
        if 0 < min(one.n_reference, one.n_current) < found.policy.least_values:
            yield f"{one.name}: {min(one.n_reference, one.n_current)} values are too few to judge"
        if one.missing_changed:
            before = one.missing_share_reference
            yield f"{one.name}: {one.missing_share:.1%} of the values are missing, {before:.1%} before"
        if one.infinite:
            yield f"{one.name}: {one.infinite:,} values are infinite and count as missing"


def _p(feature: Feature) -> str:
    return f"p = {feature.p_adjusted:.1e}" if feature.p_adjusted else "p < 1e-300"


def _effect(feature: Feature) -> str:
    if isinstance(feature.distance, CategoryDistance):
        return f"distance {feature.distance.distance:.3f}, PSI {feature.distance.psi:.3f}"
    if feature.distance is None:
        return "no value"
    distance = feature.distance
    return f"D {distance.ks_d:.3f}, Wasserstein {distance.wasserstein_norm:.3f} std, PSI {distance.psi:.3f}"


def _table(features: Sequence[Feature]) -> list[str]:
    rows = [("column", "finding", "D", "Wasserstein/std", "PSI", "p", "p of all", "missing")]
    rows += [_row(one) for one in features]
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return [_aligned(row, widths) for row in rows]


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    texts = [cell.ljust(width) for cell, width in zip(row[:2], widths, strict=False)]
    numbers = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
    return "  ".join([*texts, *numbers])


def _row(feature: Feature) -> tuple[str, ...]:
    distance = feature.distance
    finding = ", ".join(filter(None, [feature.finding, "missing values" if feature.missing_changed else None])) or "-"
    if distance is None:
        numbers: tuple[str, ...] = ("-",) * 5
    else:
        d = distance.ks_d if isinstance(distance, NumberDistance) else distance.distance
        norm = f"{distance.wasserstein_norm:.4f}" if isinstance(distance, NumberDistance) else "-"
        numbers = (f"{d:.4f}", norm, f"{distance.psi:.4f}", f"{feature.p:.2g}", f"{feature.p_adjusted:.2g}")
    return (feature.name, finding, *numbers, f"{feature.missing_share:.2%}")
