"""The report about a comparison of data (:mod:`toolbox.drift`): what changed, how it looks, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from toolbox import columns, drift_text, report, table
from toolbox.columns import Feature
from toolbox.report import COLOURS, INK, SOFT, Fact, Figure, Section, State, Table
from toolbox.statistics import NumberDistance

if TYPE_CHECKING:
    from toolbox.drift import Drift

MOST_PLOTTED = 25
"""Columns in the overview: those that changed most."""
MOST_SHOWN = 6
"""Columns whose distributions are drawn."""
_BINS = 30
_MOST_CATEGORIES = 8
_RED = "#a11d1d"


def page(
    found: Drift, reference: pa.Table, current: pa.Table, *, title: str, subtitle: str, footer: Sequence[str] = ()
) -> report.Report:
    """The page about ``found``, which compared the two tables. Drift warns: its state is never worse than "watch"."""
    state, headline, action = _answer(found)
    worst = sorted((one for one in found.features if one.distance), key=_strength, reverse=True)
    shown = [one for one in worst if one.finding][:MOST_SHOWN]
    sections = [
        Section(
            "How much each column changed",
            f"The {len(worst[:MOST_PLOTTED])} columns that changed most." if len(worst) > MOST_PLOTTED else "",
            figures=[_overview(worst[:MOST_PLOTTED], found)],
        ),
        *([distributions(shown, reference, current)] if shown else []),
        Section("Every column", tables=[every_column(found)]),
    ]
    return report.Report(
        title=title,
        subtitle=subtitle,
        state=state,
        headline=headline,
        action=action,
        reasons=list(drift_text.sentences(found))[:12],
        facts=_facts(found),
        sections=sections,
        footer=(
            f"Drift: significant with all columns together (Holm, {found.policy.significance:.0%}), and D, the "
            "Wasserstein distance or PSI above their limits. docs/toolbox.md defines every number. "
            f"Policy version {found.policy.version}.",
            *footer,
        ),
    )


def _answer(found: Drift) -> tuple[State, str, str]:
    drifted, warned = found.drifted, [*found.constant, *found.missing, *found.small_changes]
    if drifted:
        return (
            "watch",
            f"{_count(len(drifted))} drifted: {_some(drifted)}",
            "Look whether the plant, a sensor or a unit changed. Then see in the report of `model_evaluation` whether "
            "the model got worse: only that is a reason to retrain.",
        )
    if warned:
        names = list(dict.fromkeys(warned))
        return (
            "watch",
            f"No drift, but {_count(len(names))} should be looked at: {_some(names)}",
            "Look at these sensors: a column that stands still or has gaps usually is a sensor or a cable.",
        )
    return "ok", "The data is as it was", "Nothing."


def _facts(found: Drift) -> list[Fact]:
    quiet = len({*found.constant, *found.missing})
    return [
        Fact("Columns", str(len(found.features)), f"{len(found.drifted)} drifted"),
        Fact(
            "Sensors to look at", str(quiet), f"{len(found.constant)} stand still, {len(found.missing)} have other gaps"
        ),
        Fact("Records now", f"{found.n_current:,}", ""),
        Fact("Records of the reference", f"{found.n_reference:,}", ""),
    ]


def _distance(feature: Feature) -> float:
    if feature.distance is None:
        return 0.0
    return feature.distance.ks_d if isinstance(feature.distance, NumberDistance) else feature.distance.distance


def _strength(feature: Feature) -> tuple[int, float]:
    """Findings first, then by distance."""
    return {"drift": 3, "constant": 2, "small change": 1, None: 0}[feature.finding], _distance(feature)


_COLOUR = {"drift": _RED, "constant": COLOURS[1], "small change": COLOURS[4], None: COLOURS[0]}
_MARKER = {"drift": "D", "constant": "s", "small change": "^", None: "o"}


def _overview(features: Sequence[Feature], found: Drift) -> Figure:
    figure, (axis,) = report.plot(height=0.9 + 0.24 * len(features))
    rows = {one.name: row for row, one in enumerate(reversed(features))}
    for finding, colour in _COLOUR.items():
        some = [one for one in features if one.finding == finding]
        if some:
            places = [[_distance(one) for one in some], [rows[one.name] for one in some]]
            axis.plot(*places, _MARKER[finding], color=colour, label=finding or "no finding", linestyle="none")
    axis.axvline(found.policy.least_distance, color=SOFT, linewidth=1, linestyle="--")
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.6, len(features) - 0.4), yticks=range(len(features)))
    axis.set_yticklabels(list(rows), fontsize=8 if len(features) > 12 else 10)
    axis.set_xlabel("distance of the two distributions (D; of categories: total variation)")
    figure.legend(loc="outside upper left", ncols=4, handletextpad=0.1)
    described = ", ".join(f"{one.name} {_distance(one):.2f}" for one in features[:5])
    return Figure(
        report.svg(figure, f"Distance of each column's distribution from the reference, from 0 to 1: {described}."),
        "0: the same values as often; 1: none in common. Changes left of the dashed line are too small to matter.",
    )


def distributions(features: Sequence[Feature], reference: pa.Table, current: pa.Table) -> Section:
    """How the values of some features are distributed in both tables, two plots in a line."""
    lines = (len(features) + 1) // 2
    figure, axes = report.plot(height=2.1 * lines + 0.3, rows=lines, columns=2)
    for axis, feature in zip(axes, features, strict=False):
        pair = (reference[feature.name], current[feature.name])
        (_draw_numbers if feature.kind == "number" else _draw_categories)(axis, feature, *pair)
        axis.set_title(f"{feature.name}: {feature.finding}")
        axis.set_yticks([])
    for axis in axes[len(features) :]:
        axis.set_visible(False)
    axes[0].legend(loc="best", fontsize=8)
    names = ", ".join(one.name for one in features)
    return Section(
        "How the distributions look",
        figures=[
            Figure(
                report.svg(figure, f"Distributions of the reference and of the current data: {names}."),
                "Filled: the reference. Line: now. The outermost 0.5 % of both together are drawn at the edges.",
            )
        ],
    )


def _draw_numbers(axis: Any, feature: Feature, reference: pa.ChunkedArray, current: pa.ChunkedArray) -> None:
    before, now = (columns.finite(column)[0] for column in (reference, current))
    both = np.concatenate([before, now])
    low, high = np.quantile(both, (0.005, 0.995))
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    shares = [np.histogram(np.clip(sample, low, high), edges)[0] / len(sample) for sample in (before, now)]
    axis.stairs(shares[0], edges, fill=True, color=COLOURS[0], alpha=0.35, label="reference")
    axis.stairs(shares[1], edges, color=_RED, linewidth=1.5, label="now")


def _draw_categories(axis: Any, feature: Feature, reference: pa.ChunkedArray, current: pa.ChunkedArray) -> None:
    before, now = (_shares(column) for column in (reference, current))
    largest = sorted({*before, *now}, key=lambda name: -max(before.get(name, 0), now.get(name, 0)))
    names = largest[:_MOST_CATEGORIES]
    places = np.arange(len(names))
    axis.bar(places - 0.2, [before.get(name, 0) for name in names], 0.4, color=COLOURS[0], alpha=0.4, label="reference")
    axis.bar(places + 0.2, [now.get(name, 0) for name in names], 0.4, color=_RED, label="now")
    axis.set_xticks(places, [name[:12] for name in names], fontsize=8, color=INK)


def _shares(column: pa.ChunkedArray) -> dict[str, float]:
    counted = table.texts(column).drop_null().value_counts().to_pylist()
    whole = sum(one["counts"] for one in counted)
    return {one["values"]: one["counts"] / whole for one in counted}


def every_column(found: Drift) -> Table:
    """A row for each column, with its finding and numbers."""
    rows = []
    for one in found.features:
        distance = one.distance
        norm = f"{distance.wasserstein_norm:.3f}" if isinstance(distance, NumberDistance) else "–"
        findings = [one.finding, "missing values" if one.missing_changed else None, one.unit]
        rows.append(
            (
                one.name,
                ", ".join(filter(None, findings)) or "–",
                f"{_distance(one):.3f}" if distance else "–",
                norm,
                f"{distance.psi:.3f}" if distance else "–",
                f"{one.p_adjusted:.2g}" if one.p_adjusted is not None else "–",
                f"{one.missing_share_reference:.1%}",
                f"{one.missing_share:.1%}",
            )
        )
    names = ("Column", "Finding", "D", "Wasserstein / std", "PSI", "p, all columns", "Missing before", "Missing now")
    caption = "D of categories is the total variation distance. What cannot be computed has a dash."
    return Table(names, rows, caption, text_columns=(1,))


def _count(number: int) -> str:
    return "1 column" if number == 1 else f"{number} columns"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
