"""The AWS endpoint of one contender: a new, empty account that counts calls; ended by id in all cases."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox import account, lifecycle
from sandbox.settings import Settings

BY_OTHERS = ("ConfirmSubscription",)
"""Calls of the people in the sandbox, who open the links in their mail."""


@dataclass(frozen=True)
class Calls:
    """The calls of one run. ``refused`` are answers of 400 and above, ``throttled`` those of them for their rate.

    ``by_operation`` counts them by ``service:Action``, the answer's status and whether it was throttled.
    """

    reads: int
    writes: int
    refused: int
    throttled: int
    by_operation: Mapping[str, int]


class Endpoint:
    """A running endpoint and its log of calls."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.session: Any = account.session(settings)
        self._log = settings.home / "calls.jsonl"

    def mark(self) -> int:
        """Where the log of calls ends now."""
        return self._log.stat().st_size

    def calls_since(self, mark: int) -> Calls:
        """What was called after ``mark``."""
        return count(self._log, mark)


def count(log: Path, mark: int) -> Calls:
    with log.open("rb") as file:
        file.seek(mark)
        logged = [json.loads(line) for line in file]
    calls = [call for call in logged if call["action"] not in BY_OTHERS]
    writes = sum(call["write"] for call in calls)
    return Calls(
        reads=len(calls) - writes,
        writes=writes,
        refused=sum(call["status"] >= 400 for call in calls),
        throttled=sum(call["throttled"] for call in calls),
        by_operation=Counter(map(_operation, calls)),
    )


def _operation(call: Mapping[str, Any]) -> str:
    return f"{call['service']}:{call['action']} {call['status']}{' throttled' if call['throttled'] else ''}"


@contextmanager
def fresh(settings: Settings) -> Iterator[Endpoint]:
    """A new, empty account. It is gone, with everything it wrote, when the block ends."""
    quiet = lambda text: None  # noqa: E731
    lifecycle.clean(settings, quiet)
    try:
        lifecycle.up_endpoint(settings, quiet)
        yield Endpoint(settings)
    finally:
        lifecycle.clean(settings, quiet)
