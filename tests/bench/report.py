"""Measurements -> tables, ratios and verdicts. Pure: no I/O, no AWS, no clock."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

TWINOPS = "twinops"
PEER = "peer"

CHECK_EMPTY = "check, nothing exists"
CREATE = "create"
NO_OP = "no-op"
CHECK = "check, all exists"
CHANGED_CHECK = "check after changes"
REPAIR = "repair"
TEARDOWN = "teardown"
PHASES = (CHECK_EMPTY, CREATE, NO_OP, CHECK, CHANGED_CHECK, REPAIR, TEARDOWN)
CHECKS = (CHECK_EMPTY, CHECK, CHANGED_CHECK)


@dataclass(frozen=True)
class Measurement:
    """One run of ansible-playbook.

    ``refused`` answers were 400 and above; ``ignored`` tasks failed and were gone on from. ``minimum_writes`` are the
    fewest calls that make what the run made (creations only), ``floor_s`` the shortest time that AWS's rates allow for
    them (runs under rates only). Of ``altered`` out-of-band changes, ``seen`` were announced by a check, and
    ``restored`` undone by a repair.
    """

    contender: str
    workflows: int
    phase: str
    repetition: int
    exit_code: int
    wall_s: float
    cpu_s: float
    reads: int
    writes: int
    refused: int
    throttled: int
    changed: int
    ignored: int
    diff_lines: int
    minimum_writes: int | None = None
    floor_s: float | None = None
    altered: int | None = None
    seen: int | None = None
    restored: int | None = None

    @property
    def calls(self) -> int:
        return self.reads + self.writes


@dataclass(frozen=True)
class Verdict:
    """A target of the issue. ``reached`` is None where this run did not measure it."""

    target: str
    measured: str
    reached: bool | None


class Measurements:
    """All measurements of one go; figures are medians over the repetitions."""

    def __init__(self, all_of_them: Iterable[Measurement]) -> None:
        self.all = tuple(all_of_them)

    def of(self, contender: str, workflows: int, phase: str) -> tuple[Measurement, ...]:
        wanted = (contender, workflows, phase)
        return tuple(m for m in self.all if (m.contender, m.workflows, m.phase) == wanted and m.exit_code == 0)

    def figure(
        self, contender: str, workflows: int, phase: str, of: Callable[[Measurement], float | None]
    ) -> float | None:
        """The median of a figure; None where it was not measured."""
        values = [value for m in self.of(contender, workflows, phase) if (value := of(m)) is not None]
        return median(values) if values else None

    def ratio(
        self, contender: str, workflows: int, phase: str, of: Callable[[Measurement], float | None], *, base: str = PEER
    ) -> float | None:
        """How many times as much ``base`` needs; None where one of the two was not measured or needs nothing."""
        ours, theirs = self.figure(contender, workflows, phase, of), self.figure(base, workflows, phase, of)
        return theirs / ours if ours and theirs is not None else None

    def cells(self) -> list[tuple[int, str, str]]:
        """What was measured: (workflows, phase, contender), in the order of a reader."""
        contenders = list(dict.fromkeys(m.contender for m in self.all))
        found = {(m.workflows, m.phase, m.contender) for m in self.all if m.exit_code == 0}
        return sorted(found, key=lambda cell: (cell[0], PHASES.index(cell[1]), contenders.index(cell[2])))


def cpu(measurement: Measurement) -> float:
    return measurement.cpu_s


def calls(measurement: Measurement) -> float:
    return measurement.calls


HEADING = (
    "W",
    "phase",
    "contender",
    "wall s",
    "CPU s",
    "reads",
    "writes",
    "4xx",
    "changed",
    "failed",
    "diff lines",
    "peer CPU ÷",
    "peer calls ÷",
)


def comparison(measurements: Measurements) -> list[Sequence[object]]:
    """The rows of the ratio table: what each contender needed, and how many times as much the peer needed."""
    rows: list[Sequence[object]] = [HEADING]
    for workflows, phase, contender in measurements.cells():
        cell = contender, workflows, phase
        last = measurements.of(*cell)[-1]
        rows.append(
            (
                workflows,
                phase,
                contender,
                decimal(measurements.figure(*cell, lambda m: m.wall_s)),
                decimal(measurements.figure(*cell, cpu)),
                whole(measurements.figure(*cell, lambda m: m.reads)),
                whole(measurements.figure(*cell, lambda m: m.writes)),
                whole(measurements.figure(*cell, lambda m: m.refused)),
                last.changed,
                last.ignored,
                last.diff_lines,
                times(measurements.ratio(*cell, cpu)),
                times(measurements.ratio(*cell, calls)),
            )
        )
    return rows


def growth(measurements: Measurements, contender: str, phases: Collection[str]) -> list[Sequence[object]]:
    """How wall, CPU and calls of one contender grow with the number of workflows."""
    shown = [phase for phase in PHASES if phase in phases]
    rows: list[Sequence[object]] = [
        ("W", *(f"{phase}: {unit}" for phase in shown for unit in ("wall s", "CPU s", "calls")))
    ]
    for workflows in sorted({m.workflows for m in measurements.all if m.contender == contender}):
        row: list[object] = [workflows]
        for phase in shown:
            cell = contender, workflows, phase
            row.append(decimal(measurements.figure(*cell, lambda m: m.wall_s)))
            row.append(decimal(measurements.figure(*cell, cpu)))
            row.append(whole(measurements.figure(*cell, calls)))
        rows.append(row)
    return rows


def repairs(measurements: Measurements) -> list[Sequence[object]]:
    """What each contender saw and undid of the changes that were made out of band."""
    rows: list[Sequence[object]] = [
        ("W", "contender", "changes made", "seen by --check --diff", "its writes", "repaired")
    ]
    for workflows, phase, contender in measurements.cells():
        if phase != REPAIR:
            continue
        check = measurements.of(contender, workflows, CHANGED_CHECK)
        repair = measurements.of(contender, workflows, REPAIR)[-1]
        seen, writes = (check[-1].seen, check[-1].writes) if check else ("-", "-")
        rows.append((workflows, contender, repair.altered, seen, writes, repair.restored))
    return rows


def table(rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; numbers to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(3, *map(len, column)) for column in zip(*cells)]
    to_right = [all(_is_number(cell) for cell in column[1:]) for column in zip(*cells)]
    rule = ["-" * (width - 1) + ":" if right else "-" * width for width, right in zip(widths, to_right)]
    lines = [
        [cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(row, widths, to_right)]
        for row in cells
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in (lines[0], rule, *lines[1:]))


def _is_number(cell: str) -> bool:
    return cell.rstrip("x").replace(".", "", 1).isdigit() or cell in {"", "-"}


def decimal(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.1f}"


def whole(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.0f}"


def times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.1f}x"
