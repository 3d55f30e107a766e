"""A table for a terminal: columns as wide as their widest cell. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence


def aligned(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    to_the_right: Collection[str] = (),
    notes: Mapping[int, Sequence[tuple[str, str]]] | None = None,
) -> list[str]:
    """The lines. ``to_the_right``: titles of columns of numbers; ``notes``: row -> (title, text) to say below it."""
    widths = [max(map(len, column)) for column in zip(header, *rows)]

    def line(cells: Sequence[str]) -> str:
        sides = (str.rjust if title in to_the_right else str.ljust for title in header)
        return "  ".join(side(cell, width) for side, cell, width in zip(sides, cells, widths)).rstrip()

    lines = [line(header)]
    for number, row in enumerate(rows):
        lines += [line(row), *(f"    {title + ':':<8} {text}" for title, text in (notes or {}).get(number, ()))]
    return lines
