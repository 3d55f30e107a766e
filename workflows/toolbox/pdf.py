"""A report (:class:`toolbox.report.Report`) as PDF, on A4: the same words, numbers and charts as its page.

reportlab writes it, which needs no package of the system; the fonts are those that matplotlib ships. Same report, same
bytes.
"""

from __future__ import annotations

import functools
import io
import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
from markupsafe import escape
from reportlab.graphics import shapes as drawn
from reportlab.lib.colors import HexColor
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import KeepTogether, Paragraph, SimpleDocTemplate, Spacer
from reportlab.platypus import Table as Grid

from toolbox import chart as charts
from toolbox.report import INK, LINE, SOFT, STATES, Fact, Report, Section, State, Table

MARGIN = 16 * mm
WIDTH = A4[0] - 2 * MARGIN
_TONES: dict[State, tuple[str, str]] = {
    "ok": ("#17663a", "#e7f4ec"),
    "watch": ("#7a4b00", "#fff4dc"),
    "act": ("#a11d1d", "#fdeaea"),
    "none": ("#44525f", "#eceff2"),
}
"""Text and ground of the answer; the same as in the page's style."""
_FONTS = {"Report": "DejaVuSans", "Report-Bold": "DejaVuSans-Bold", "Report-Code": "DejaVuSansMono"}


def pdf(report: Report) -> bytes:
    """The document of a report. A figure without a chart is only in the page."""
    _register_fonts()
    buffer = io.BytesIO()
    document = SimpleDocTemplate(
        buffer,
        pagesize=A4,
        leftMargin=MARGIN,
        rightMargin=MARGIN,
        topMargin=MARGIN,
        bottomMargin=MARGIN + 4 * mm,
        title=f"{report.title}: {report.headline}",
        subject=report.subtitle,
        author="twinops",
        lang="en",
        invariant=1,  # neither the time nor a random id
    )
    document.build(_story(report), onFirstPage=_number_page, onLaterPages=_number_page)
    return buffer.getvalue()


@functools.cache
def _register_fonts() -> None:
    folder = Path(mpl.get_data_path()) / "fonts/ttf"
    for name, file in _FONTS.items():
        pdfmetrics.registerFont(TTFont(name, str(folder / f"{file}.ttf")))


def _style(size: float, colour: str = INK, *, bold: bool = False, **more: Any) -> ParagraphStyle:
    font = "Report-Bold" if bold else "Report"
    return ParagraphStyle(font, fontName=font, fontSize=size, leading=size * 1.4, textColor=HexColor(colour), **more)


def _story(report: Report) -> list[Any]:
    story: list[Any] = [
        _text(report.title, _style(11, bold=True)),
        _text(report.subtitle, _style(8.5, SOFT)),
        Spacer(1, 4 * mm),
        _answer(report),
        Spacer(1, 4 * mm),
    ]
    if report.facts:
        story += [_facts(report.facts), Spacer(1, 2 * mm)]
    for section in report.sections:
        story += _section(section)
    story.append(Spacer(1, 6 * mm))
    return [*story, *(_text(line, _style(7.5, SOFT, spaceAfter=1 * mm)) for line in report.footer)]


def _section(section: Section) -> list[Any]:
    head = [_text(section.title, _style(11.5, bold=True, spaceBefore=5 * mm, spaceAfter=1 * mm, keepWithNext=1))]
    if section.text:
        head.append(_text(section.text, _style(8.5, SOFT, spaceAfter=1.5 * mm, keepWithNext=1)))
    head += [_text(f"• {point}", _style(8.5, leftIndent=8, firstLineIndent=-8)) for point in section.points]
    head += [_text(f"`{line}`" if line else "\u00a0", _style(7)) for line in section.lines]
    story: list[Any] = []
    for one in section.figures:
        if one.chart:
            caption = _text(one.caption, _style(8, SOFT, spaceAfter=3 * mm))
            story.append(KeepTogether([*head, drawing(one.chart), caption]))
            head = []
    return [*story, *head, *(part for one in section.tables for part in _table(one))]


def _answer(report: Report) -> Grid:
    tone, ground = _TONES[report.state]
    parts = [
        _text(STATES[report.state], _style(9, tone, bold=True)),
        _text(report.headline, _style(15, bold=True, spaceAfter=1.5 * mm)),
        Paragraph(f'<font name="Report-Bold">What to do:</font> {_marked_up(report.action)}', _style(9)),
        *(_text(f"• {reason}", _style(8.5, SOFT, leftIndent=8, firstLineIndent=-8)) for reason in report.reasons),
    ]
    padding = [(side, (0, 0), (-1, -1), 5 * mm) for side in ("LEFTPADDING", "RIGHTPADDING")]
    padding += [(side, (0, 0), (-1, -1), 3.5 * mm) for side in ("TOPPADDING", "BOTTOMPADDING")]
    marks = [("BACKGROUND", (0, 0), (-1, -1), HexColor(ground)), ("LINEBEFORE", (0, 0), (0, -1), 3, HexColor(tone))]
    return Grid([[parts]], colWidths=[WIDTH], style=[*padding, *marks])


def _facts(facts: Any) -> Grid:
    columns = min(4, len(facts))
    cells = [_fact(fact) for fact in facts]
    cells += [""] * (-len(cells) % columns)
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    line = HexColor(LINE)
    style = [("VALIGN", (0, 0), (-1, -1), "TOP"), ("BOX", (0, 0), (-1, -1), 0.6, line)]
    return Grid(rows, colWidths=[WIDTH / columns] * columns, style=[*style, ("INNERGRID", (0, 0), (-1, -1), 0.6, line)])


def _fact(fact: Fact) -> list[Paragraph]:
    note = [_text(fact.note, _style(7.5, SOFT))] if fact.note else []
    return [_text(fact.name, _style(7.5, SOFT)), _text(fact.value, _style(14, bold=True)), *note]


def _table(table: Table) -> list[Any]:
    """The grid and its caption. Columns are as wide as what is in them; where that is too wide, texts are wrapped."""
    size = 7.5
    widths = [
        max(pdfmetrics.stringWidth(str(cell), "Report-Bold", size) for cell in column) + 9
        for column in zip(table.columns, *table.rows, strict=True)
    ]
    too_wide = sum(widths) - WIDTH
    if too_wide > 0:
        widest = max(range(len(widths)), key=lambda n: widths[n])
        widths[widest] = max(widths[widest] - too_wide, 60)
    widths = [width * WIDTH / sum(widths) for width in widths]
    lefts = {0, *table.text_columns}

    def row(cells: Any, colour: str, *, bold: bool) -> list[Paragraph]:
        right = {"alignment": TA_RIGHT}
        return [
            _text(str(cell), _style(size, colour, bold=bold and n == 0, **({} if n in lefts else right)))
            for n, cell in enumerate(cells)
        ]

    rows = [row(table.columns, SOFT, bold=False), *(row(cells, INK, bold=True) for cells in table.rows)]
    style = [
        ("LINEBELOW", (0, 0), (-1, -1), 0.5, HexColor(LINE)),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        *((side, (0, 0), (-1, -1), 4) for side in ("LEFTPADDING", "RIGHTPADDING")),
        *((side, (0, 0), (-1, -1), 2) for side in ("TOPPADDING", "BOTTOMPADDING")),
    ]
    grid = Grid(rows, colWidths=widths, repeatRows=1, style=style)
    return [grid, _text(table.caption, _style(8, SOFT, spaceBefore=1.5 * mm, spaceAfter=3 * mm))]


def drawing(chart: charts.Chart) -> drawn.Drawing:
    """A chart as reportlab's drawing, as wide as the text."""
    scale = WIDTH / chart.width
    made = drawn.Drawing(chart.width * scale, chart.height * scale)
    group = drawn.Group(*(_shape(shape, chart.height) for shape in chart.shapes))
    group.scale(scale, scale)
    made.add(group)
    return made


def _shape(shape: charts.Shape, height: float) -> drawn.Shape:
    """reportlab's y grows upwards."""
    if isinstance(shape, charts.Rectangle):
        fill = HexColor(shape.fill)
        return drawn.Rect(
            shape.x, height - shape.y - shape.height, shape.width, shape.height,
            fillColor=fill, fillOpacity=shape.opacity, strokeColor=None,
        )  # fmt: skip
    if isinstance(shape, charts.Line):
        dashes = [5, 3] if shape.dashed else None
        return drawn.Line(
            shape.x1, height - shape.y1, shape.x2, height - shape.y2,
            strokeColor=HexColor(shape.stroke), strokeWidth=shape.width, strokeDashArray=dashes,
        )  # fmt: skip
    if isinstance(shape, charts.Dot):
        return drawn.Circle(shape.x, height - shape.y, shape.radius, fillColor=HexColor(shape.fill), strokeColor=None)
    return drawn.String(
        shape.x, height - shape.y, shape.text,
        fontName="Report", fontSize=9.5, fillColor=HexColor(shape.fill), textAnchor=shape.anchor,
    )  # fmt: skip


def _text(text: str, style: ParagraphStyle) -> Paragraph:
    return Paragraph(_marked_up(text), style)


def _marked_up(text: str) -> str:
    """reportlab's markup of a text; `words in backticks` are set as code."""
    return re.sub(r"`([^`]+)`", r'<font name="Report-Code">\1</font>', str(escape(text)))


def _number_page(canvas: Any, document: Any) -> None:
    canvas.saveState()
    canvas.setFont("Report", 7.5)
    canvas.setFillColor(HexColor(SOFT))
    canvas.drawRightString(A4[0] - MARGIN, MARGIN - 2 * mm, f"Page {document.page}")
    canvas.restoreState()
