"""Plots of reports that are drawn the same on a page (SVG) and in a PDF: bars by day, and values with their intervals.

A :class:`Chart` is a list of shapes in points, y downwards. Same data, same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Union

from markupsafe import escape

from toolbox.report import COLOURS, INK, LINE, SOFT

WIDTH = 720.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 8.0, 26.0, 22.0
_TEXT = 11.0


@dataclass(frozen=True)
class Rectangle:
    """Filled, from its upper left corner."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    opacity: float = 1


@dataclass(frozen=True)
class Line:
    """From one point to another."""

    x1: float
    y1: float
    x2: float
    y2: float
    stroke: str
    width: float = 1
    dashed: bool = False


@dataclass(frozen=True)
class Dot:
    """Filled, around its middle."""

    x: float
    y: float
    radius: float
    fill: str


@dataclass(frozen=True)
class Text:
    """On a base line; ``anchor`` is start, middle or end."""

    x: float
    y: float
    text: str
    anchor: str = "start"
    fill: str = SOFT


Shape = Union[Rectangle, Line, Dot, Text]


@dataclass(frozen=True)
class Chart:
    """A plot; ``description`` is for who cannot see it."""

    height: float
    description: str
    shapes: tuple[Shape, ...]
    width: float = WIDTH


@dataclass(frozen=True)
class Interval:
    """A measured value, and where the true one lies."""

    value: float
    low: float
    high: float


def daily_bars(days: Sequence[date], series: Mapping[str, Sequence[float]], description: str) -> Chart:
    """A bar for each day, of the series on top of each other. As many series as there are colours, at most.

    :raises ValueError: more series than colours
    """
    if len(series) > len(COLOURS):
        raise ValueError(f"expected at most {len(COLOURS)} series, got {len(series)}")
    height = 200.0
    totals = [sum(values[n] for values in series.values()) for n in range(len(days))]
    top = nice_ceiling(max(totals, default=0))
    axes = _Axes(len(days), height, 0, top)
    shapes: list[Shape] = [*axes.grid([f"{top * part / 4:,.0f}" for part in range(5)]), *axes.days(days)]
    for n in range(len(days)):
        below = 0.0
        for (_, values), colour in zip(series.items(), COLOURS):
            upper, lower = axes.y(below + values[n]), axes.y(below)
            if values[n]:
                shapes.append(Rectangle(axes.x(n) + axes.step * 0.12, upper, axes.step * 0.76, lower - upper, colour))
            below += values[n]
    return Chart(height, description, (*shapes, *_legend(list(series))))


def daily_intervals(
    days: Sequence[date], series: Mapping[str, Sequence[Interval | None]], agreed: float | None, description: str
) -> Chart:
    """Shares between 0 and 1 with their intervals; ``agreed`` is a dashed line. Days without a value stay empty."""
    height = 200.0
    axes = _Axes(len(days), height, 0, 1)
    shapes: list[Shape] = [*axes.grid([f"{part * 25}%" for part in range(5)]), *axes.days(days)]
    if agreed is not None:
        shapes.append(Line(_LEFT, axes.y(agreed), WIDTH - _RIGHT, axes.y(agreed), INK, 1.2, dashed=True))
    offsets = [(index - (len(series) - 1) / 2) * axes.step * 0.3 for index in range(len(series))]
    for (_, values), colour, offset in zip(series.items(), COLOURS, offsets):
        for n, found in enumerate(values):
            if found:
                middle = axes.x(n) + axes.step / 2 + offset
                upper, lower = axes.y(found.high), axes.y(found.low)
                shapes.append(Rectangle(middle - 2.5, upper, 5, max(lower - upper, 0.5), colour, 0.3))
                shapes.append(Dot(middle, axes.y(found.value), 3.2, colour))
    line = "" if agreed is None else "agreed"
    return Chart(height, description, (*shapes, *_legend(list(series), dashed=line)))


_STEPS = (10, 12, 16, 20, 24, 32, 40, 60, 80, 100, 120)


def nice_ceiling(value: float) -> float:
    """The first of 4, 8, 12, 16, 20, 24, 32, 40, 60, 80, 100, ... not below ``value``: its quarters are whole."""
    if value <= 8:
        return 4 if value <= 4 else 8
    scale = 10 ** math.floor(math.log10(value)) / 10
    return next(step * scale for step in _STEPS if step * scale >= value and step * scale % 4 == 0)


class _Axes:
    """Where days and values are on the plot."""

    def __init__(self, count: int, height: float, low: float, high: float) -> None:
        self._low, self._high, self._base = low, high, height - _BOTTOM
        self.step = (WIDTH - _LEFT - _RIGHT) / max(count, 1)

    def x(self, n: int) -> float:
        return _LEFT + n * self.step

    def y(self, value: float) -> float:
        return self._base - (value - self._low) / (self._high - self._low) * (self._base - _TOP)

    def grid(self, labels: Sequence[str]) -> list[Shape]:
        shapes: list[Shape] = []
        for n, label in enumerate(labels):
            y = self.y(self._low + (self._high - self._low) * n / (len(labels) - 1))
            shapes += [Line(_LEFT, y, WIDTH - _RIGHT, y, LINE), Text(_LEFT - 6, y + 3.5, label, "end")]
        return shapes

    def days(self, days: Sequence[date]) -> list[Shape]:
        every = max(1, math.ceil(len(days) / 16))
        return [
            Text(self.x(n) + self.step / 2, self._base + 15, f"{day.day}", "middle")
            for n, day in enumerate(days)
            if n % every == 0
        ]


def _legend(names: Sequence[str], dashed: str = "") -> list[Shape]:
    shapes: list[Shape] = []
    x = _LEFT
    for name, colour in zip(names, COLOURS):
        shapes += [Rectangle(x, 4, 10, 10, colour), Text(x + 15, 13, name)]
        x += 32 + 6.2 * len(name)
    if dashed:
        shapes += [Line(x, 9, x + 16, 9, INK, 1.2, dashed=True), Text(x + 21, 13, dashed)]
    return shapes


def svg(chart: Chart) -> str:
    """Inline SVG: real text, no fonts, no reference."""
    drawn = "".join(_SVG[type(shape)](shape) for shape in chart.shapes)
    return (
        f'<svg role="img" aria-label="{escape(chart.description)}" xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="0 0 {_n(chart.width)} {_n(chart.height)}" font-size="{_n(_TEXT)}" font-family="inherit">'
        f"{drawn}</svg>"
    )


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _rectangle(shape: Rectangle) -> str:
    opacity = f' fill-opacity="{_n(shape.opacity)}"' if shape.opacity != 1 else ""
    size = f'width="{_n(shape.width)}" height="{_n(shape.height)}"'
    return f'<rect x="{_n(shape.x)}" y="{_n(shape.y)}" {size} fill="{shape.fill}"{opacity}/>'


def _line(shape: Line) -> str:
    dashes = ' stroke-dasharray="5 3"' if shape.dashed else ""
    ends = f'x1="{_n(shape.x1)}" y1="{_n(shape.y1)}" x2="{_n(shape.x2)}" y2="{_n(shape.y2)}"'
    return f'<line {ends} stroke="{shape.stroke}" stroke-width="{_n(shape.width)}"{dashes}/>'


def _dot(shape: Dot) -> str:
    return f'<circle cx="{_n(shape.x)}" cy="{_n(shape.y)}" r="{_n(shape.radius)}" fill="{shape.fill}"/>'


def _text(shape: Text) -> str:
    anchor = f' text-anchor="{shape.anchor}"' if shape.anchor != "start" else ""
    return f'<text x="{_n(shape.x)}" y="{_n(shape.y)}" fill="{shape.fill}"{anchor}>{escape(shape.text)}</text>'


_SVG = {Rectangle: _rectangle, Line: _line, Dot: _dot, Text: _text}
