"""Schedule expressions of EventBridge, ``cron(...)`` and ``rate(...)``, and the time zones they may be in.

AWS refuses a bad expression only when the rule is put, with "Parameter ScheduleExpression is not valid." and nothing
else; here each field says what is wrong with it. Source: EventBridge User Guide, "Cron-based schedules" and "Rate-based
schedules"; EventBridge Scheduler takes the same expressions. Pure, but for the machine's own database of time zones.
"""

from __future__ import annotations

import functools
import re
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass, field

UTC = "UTC"
TIMEZONE = re.compile(r"UTC|[A-Z][A-Za-z_]*(/[A-Za-z0-9_+-]+)+")
"""Names of the IANA database, without those that are only there for old programs (``EST5EDT``)."""

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


@dataclass(frozen=True)
class _Field:
    """A field of a cron expression: its numbers, their names, and the wildcards that only it may have."""

    name: str
    first: int
    last: int
    names: Mapping[str, int] = field(default_factory=dict)
    special: str = ""


_FIELDS = (
    _Field("minutes", 0, 59),
    _Field("hours", 0, 23),
    _Field("day of month", 1, 31, special="?LW"),
    _Field("month", 1, 12, names={name: number for number, name in enumerate(_MONTHS, 1)}),
    _Field("day of week", 1, 7, names={name: number for number, name in enumerate(_DAYS, 1)}, special="?L#"),
    _Field("year", 1970, 2199),
)


def schedule_mistake(expression: str) -> str | None:
    """What is wrong with an expression, as ``expected ..., got ...``; ``None`` when AWS takes it."""
    if match := re.fullmatch(r"rate\((.*)\)", expression):
        return _rate_mistake(match[1])
    if match := re.fullmatch(r"cron\((.*)\)", expression):
        return _cron_mistake(match[1])
    return f"expected cron(...) or rate(...), got {expression!r}"


def rate_h(expression: str) -> float | None:
    """Hours between two ticks of a right ``rate(...)``; ``None`` for anything else."""
    match = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", expression)
    return int(match[1]) * {"minute": 1 / 60, "hour": 1, "day": 24}[match[2]] if match else None


def timezone_mistake(timezone: str) -> str | None:
    """What is wrong with the name of a time zone; ``None`` when it is one.

    Where a machine has no database of time zones, its name is only asked for its form.
    """
    known = _timezones()
    if TIMEZONE.fullmatch(timezone) and (timezone in known or not known):
        return None
    return f"expected a time zone of the IANA database, like Europe/Berlin, got {timezone!r}"


@functools.cache  # a walk through some hundred files
def _timezones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


def _rate_mistake(rate: str) -> str | None:
    match = re.fullmatch(r"(\d+) (minute|hour|day)(s?)", rate)
    if not match or int(match[1]) == 0:
        return f"expected a rate like rate(1 hour) or rate(5 minutes), got 'rate({rate})'"
    value, unit, plural = int(match[1]), match[2], bool(match[3])
    if plural == (value == 1):
        right = unit if value == 1 else unit + "s"
        return f"expected rate({value} {right}), got 'rate({rate})'"
    return None


def _cron_mistake(cron: str) -> str | None:
    values = cron.split(" ")
    if len(values) != len(_FIELDS) or "" in values:
        names = ", ".join(one.name for one in _FIELDS)
        return f"expected cron with 6 fields and a space between them ({names}), got 'cron({cron})'"
    for one, value in zip(_FIELDS, values):
        for part in value.split(","):
            if mistake := _part_mistake(one, part, alone=part == value):
                return f"{one.name}: {mistake}, got {value!r}"
    if (values[2] == "?") == (values[4] == "?"):
        return f"expected ? in exactly one of day of month and day of week, got {values[2]!r} and {values[4]!r}"
    return None


def _part_mistake(one: _Field, part: str, *, alone: bool) -> str | None:
    """What is wrong with one element of a field's comma-separated list."""
    if (special := _special_mistake(one, part, alone=alone)) is not None:
        return special or None
    base, slash, step = part.partition("/")
    if slash and not (step.isdecimal() and 1 <= int(step) <= one.last):
        return f"expected a step of 1–{one.last} after the slash"
    if base == "*":
        return None
    start, dash, end = base.partition("-")
    numbers = [_number(one, text) for text in ((start, end) if dash else (start,))]
    if None in numbers:
        names = f" or {next(iter(one.names))}–{list(one.names)[-1]}" if one.names else ""
        return f"expected {one.first}–{one.last}{names}"
    if dash and numbers[0] > numbers[1]:  # type: ignore[operator]
        return "expected a range that rises"
    return None


def _special_mistake(one: _Field, part: str, *, alone: bool) -> str | None:
    """``None``: no wildcard of one field in it; empty: right; otherwise what is wrong with it."""
    used = re.sub(r"[^?LW#]", "", part) if _number(one, part) is None else ""
    if any(name in part.upper() for name in one.names):  # JUL has an L, WED a W
        used = re.sub(r"[LW]", "", used)
    if not used:
        return None
    wrong = [character for character in used if character not in one.special]
    if wrong:
        return f"expected no {wrong[0]} in this field"
    if not alone:
        return f"expected {used[0]} on its own, not in a list"
    if part in ("?", "L", "LW") and set(part) <= set(one.special):
        return ""
    day, mark, which = part.partition(used[0])
    right = _number(one, day) is not None and (which in tuple("12345") if mark == "#" else which == "")
    right = right and not (mark == "L" and one.name == "day of month")
    return "" if right else f"expected {_SPECIAL_FORMS[used[0]]}"


_SPECIAL_FORMS = {
    "?": "? on its own",
    "L": "L (the last day of the month), or in day of week a day and L, like 6L",
    "W": "a day and W (the weekday nearest to it), like 15W",
    "#": "a day, # and which one of the month (1–5), like 6#3",
}


def _number(one: _Field, text: str) -> int | None:
    """The number that a value stands for, or ``None`` if the field has no such value."""
    if text.upper() in one.names:
        return one.names[text.upper()]
    if text.isdecimal() and one.first <= int(text) <= one.last:
        return int(text)
    return None
