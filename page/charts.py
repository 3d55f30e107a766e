"""Small line charts: one number over time, with its changes of release. Geometry only; the template draws it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

WIDTH, HEIGHT = 320, 120
LEFT, RIGHT, TOP, BOTTOM = 40, 312, 14, 100
"""Edges of the plot; around it are the axes."""
SHOWN = (("macro_f1", "Macro-F1"), ("missed_alarm_rate", "Alarms missed"), ("alarm_rate", "Alarm rate"))
LEAST_SPAN = 0.01
"""Of an axis: noise in the fourth digit must not look like an event."""


@dataclass(frozen=True)
class Mark:
    """A text at a place of the plot: a level at its left, a change of release or a day along it."""

    x: float
    y: float
    text: str
    anchor: str


@dataclass(frozen=True)
class Chart:
    """A chart, its newest value, and in a sentence what is to be seen in it."""

    title: str
    last: float
    told: str
    points: tuple[tuple[float, float], ...]
    levels: tuple[Mark, ...]
    changes: tuple[Mark, ...]
    days: tuple[Mark, ...]

    @property
    def line(self) -> str:
        """As the attribute ``points`` of a polyline."""
        return " ".join(f"{x},{y}" for x, y in self.points)


def charts(quality: Sequence[Mapping[str, Any]]) -> tuple[Chart, ...]:
    """A chart for each number that was ever told. ``quality``: oldest first."""
    return tuple(
        _chart(title, field, known)
        for field, title in SHOWN
        if (known := [point for point in quality if point[field] is not None])
    )


def _chart(title: str, field: str, known: Sequence[Mapping[str, Any]]) -> Chart:
    values = [float(point[field]) for point in known]
    low, high = _range(values)
    heights = [round(TOP + (BOTTOM - TOP) * (high - value) / (high - low), 1) for value in values]
    placed = tuple(zip(_along([point["at"] for point in known]), heights))
    told = f"{title}: {len(values)} values from {min(values):.4f} to {max(values):.4f}, the last {values[-1]:.4f}"
    levels = (Mark(LEFT - 5, TOP, f"{high:.3f}", "end"), Mark(LEFT - 5, BOTTOM, f"{low:.3f}", "end"))
    return Chart(title, values[-1], told, placed, levels, _changes(known, placed), _days(known))


def _along(times: Sequence[str]) -> list[float]:
    """Where moments lie on the axis of time, from edge to edge; a single one in the middle."""
    seconds = [datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp() for at in times]
    span = seconds[-1] - seconds[0]
    if not span:
        return [(LEFT + RIGHT) / 2] * len(times)
    return [round(LEFT + (RIGHT - LEFT) * (at - seconds[0]) / span, 1) for at in seconds]


def _range(values: Sequence[float]) -> tuple[float, float]:
    """The axis: all values with some room, within 0 and 1."""
    middle, reach = (min(values) + max(values)) / 2, max(max(values) - min(values), LEAST_SPAN) * 0.6
    return max(0.0, middle - reach), min(1.0, middle + reach)


def _changes(points: Sequence[Mapping[str, Any]], placed: Sequence[tuple[float, float]]) -> tuple[Mark, ...]:
    """Where another release came into use."""
    marks: list[Mark] = []
    for point, (x, _) in zip(points, placed):
        if point["release"] and (not marks or point["release"] != marks[-1].text):
            marks.append(Mark(x, TOP - 4, point["release"], "end" if x > WIDTH * 0.8 else "start"))
    return tuple(marks)


def _days(points: Sequence[Mapping[str, Any]]) -> tuple[Mark, ...]:
    first, last = points[0]["at"][:10], points[-1]["at"][:10]
    begin = Mark(LEFT, HEIGHT - 4, first, "start")
    return (begin,) if first == last else (begin, Mark(RIGHT, HEIGHT - 4, last, "end"))
