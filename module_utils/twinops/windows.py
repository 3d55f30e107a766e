"""Maintenance windows: when a device may be updated. Pure: the caller says what time it is.

A window is written ``22:00-04:30``, in UTC, or ``Sat,Sun 08:00-16:00``; several are separated by semicolons. One that
ends before it begins goes on after midnight, and belongs to the day on which it begins.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from .errors import SpecError

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
WINDOW = re.compile(
    rf"(?:(?P<days>(?:{'|'.join(DAYS)})(?:,(?:{'|'.join(DAYS)}))*) )?"
    r"(?P<start>([01][0-9]|2[0-3]):[0-5][0-9])-(?P<end>([01][0-9]|2[0-3]):[0-5][0-9])"
)


def check(text: str, where: str) -> None:
    """:raises SpecError: ``text`` is no window, nor several; the empty text is always open"""
    mistakes = [
        f"{where}: expected hours in UTC such as 22:00-04:30 or Sat,Sun 08:00-16:00, got {part!r}"
        for part in _parts(text)
        if not (found := WINDOW.fullmatch(part)) or found["start"] == found["end"]
    ]
    if mistakes:
        raise SpecError(mistakes)


def is_open(text: str, now: datetime) -> bool:
    """Whether ``now`` (UTC) is in one of the windows of ``text``, which was checked; without windows it always is."""
    parts = _parts(text)
    return not parts or any(_is_in(part, now) for part in parts)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(";")] if text.strip() else []


def _is_in(part: str, now: datetime) -> bool:
    found = WINDOW.fullmatch(part)
    if found is None:
        return False
    days = found["days"].split(",") if found["days"] else DAYS
    start, end, time = found["start"], found["end"], f"{now:%H:%M}"
    if start < end:
        return DAYS[now.weekday()] in days and start <= time < end
    yesterday = DAYS[(now - timedelta(days=1)).weekday()]
    return (DAYS[now.weekday()] in days and time >= start) or (yesterday in days and time < end)
