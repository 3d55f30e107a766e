"""Reports: one HTML file that needs nothing else, whose first screen says whether everything is fine and what to do.

A report is data (:class:`Report`); the page is ``templates/report.html.j2``. Same data, same bytes.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import matplotlib as mpl
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure as Plot

if TYPE_CHECKING:
    from toolbox.chart import Chart

State = Literal["ok", "watch", "act", "none"]
STATES = {
    "ok": "Everything is fine",
    "watch": "Keep an eye on it",
    "act": "Something has to be done",
    "none": "Nothing to judge yet",
}
COLOURS = ("#1f5fa8", "#c4501b", "#3b7d4f", "#7b4fa3", "#8a6d00", "#0f7f8c")
"""Of series in plots: each at least 4.5:1 against white, told apart by the colour-blind (with markers beside)."""
INK, SOFT, LINE = "#16202a", "#52606d", "#dde3e9"

_TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class Fact:
    """One number of the first screen."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table; the first column names its row. ``text_columns``: indices of those that are not numbers."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str
    text_columns: Sequence[int] = ()


@dataclass(frozen=True)
class Figure:
    """A plot as SVG text; the caption says what to see in it. ``chart``: the same for a PDF (:mod:`toolbox.pdf`)."""

    svg: str
    caption: str
    chart: Chart | None = None


@dataclass(frozen=True)
class Section:
    """A heading, a sentence, and what belongs to it: points of a list, lines of a log as they are, plots, tables."""

    title: str
    text: str = ""
    points: Sequence[str] = ()
    lines: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Report:
    """A page. ``action`` answers "what do I do"; `words in backticks` are set as code."""

    title: str
    subtitle: str
    state: State
    headline: str
    action: str
    reasons: Sequence[str] = ()
    facts: Sequence[Fact] = ()
    sections: Sequence[Section] = ()
    footer: Sequence[str] = ()


def html(report: Report) -> str:
    """The page of a report."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["code"] = _code
    return environment.get_template("report.html.j2").render(report=report, states=STATES)


def text(report: Report) -> str:
    """The same first screen as plain text, for a mail; its first line is the headline."""
    lines = [report.headline, "", f"{STATES[report.state]}. What to do: {report.action.replace('`', '')}"]
    lines += ["", *(f"- {reason}" for reason in report.reasons)] if report.reasons else []
    if report.facts:
        width = max(len(fact.name) for fact in report.facts)
        lines += ["", *(f"{fact.name:<{width}}  {fact.value}  {fact.note}".rstrip() for fact in report.facts)]
    return "\n".join(lines) + "\n"


def write(folder: Path, page: Report, metrics: Mapping[str, float], *, mail_ends: str = "") -> None:
    """What a run leaves: report.html, summary.txt (the mail, which ends with ``mail_ends``) and metrics.json."""
    (folder / "report.html").write_text(html(page), "utf-8")
    (folder / "summary.txt").write_text(text(page) + mail_ends, "utf-8")
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", "utf-8")


def plot(*, height: float, rows: int = 1, columns: int = 1) -> tuple[Plot, list[Any]]:
    """A figure in the style of the reports, as wide as the page, and its axes."""
    mpl.rcParams.update(_STYLE)
    figure = Plot(figsize=(9.2, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axis in axes:
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(length=0)
    return figure, axes


def svg(figure: Plot, description: str) -> str:
    """A figure as inline SVG: real text, no fonts, no external reference, ``description`` for who cannot see it."""
    mpl.rcParams["svg.hashsalt"] = description  # ids of clip paths: stable, and different between plots of one page
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    drawing = buffer.getvalue()
    # Metadata has the time, which would make every page different.
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing[drawing.index("<svg") :], flags=re.DOTALL)
    referenced = set(re.findall(r"#([\w.-]+)", drawing))  # all other ids repeat in every plot of a page
    drawing = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in referenced else "", drawing)
    label = f'role="img" aria-label="{escape(description)}"'
    return re.sub(r'<svg ([^>]*?)width="[^"]*" ', lambda found: f"<svg {label} {found[1]}", drawing, count=1).replace(
        ' height="', ' data-height="', 1
    )


_STYLE = {
    "svg.fonttype": "none",
    "font.family": ["sans-serif"],
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "xtick.color": SOFT,
    "ytick.color": INK,
    "grid.color": LINE,
    "axes.grid": True,
    "axes.grid.axis": "x",
    "legend.frameon": False,
}


def _code(sentence: str) -> Markup:
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(sentence))))  # noqa: S704 - escaped before
