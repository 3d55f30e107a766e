"""What the sensor has been giving lately: the last readings of each feature, in numbers that show a sensor gone wrong.

In bounded memory. The loop adds what it decided, whoever asks ``/readings`` gets a summary.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, NamedTuple

import numpy as np
from model import Decisions
from sensor import FEATURES, Records

WINDOW_RECORDS = 1000
RECENT_RECORDS = 20
NAMES = tuple(f"f{number}" for number in range(1, FEATURES + 1))


class Read(NamedTuple):
    """What one read gave, and what was decided on ``records.features``; no decisions where it has none."""

    records: Records
    decisions: Decisions | None

    @property
    def count(self) -> int:
        """Records of it that are in the window."""
        return len(self.records.features) + len(self.records.incomplete)

    @property
    def alarms(self) -> np.ndarray:
        """For each of these records, whether it raised one."""
        undecided = np.zeros(len(self.records.incomplete), dtype=bool)
        return undecided if self.decisions is None else np.concatenate([undecided, self.decisions.labels != 0])


class Readings:
    """The last ``WINDOW_RECORDS`` records, and the last ``RECENT_RECORDS`` of them with what was decided.

    Reads are kept as they came and put together when somebody asks: the loop adds thousands a second.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._window = Tail(WINDOW_RECORDS)
        self._decided = Tail(RECENT_RECORDS)
        self._last = np.full(FEATURES, np.nan)
        self._unchanged = np.zeros(FEATURES, dtype=np.int64)
        self._changed_at: list[str | None] = [None] * FEATURES

    def add(self, records: Records, decisions: Decisions | None) -> None:
        """Take in what one read gave; ``decisions`` are those on ``records.features``, None where it has none."""
        with self._lock:
            self._window.append(Read(records, decisions))
            if decisions is not None:
                self._decided.append(Read(records, decisions))
                self._note_changes(records)

    def _note_changes(self, records: Records) -> None:
        """For how many records, and since when, each feature has had the value it has now."""
        rows = np.vstack([self._last, records.features])
        differs = rows[:-1] != rows[1:]  # the first record ever differs from NaN
        since_change = differs[::-1].argmax(axis=0) + 1
        changed = differs.any(axis=0)
        self._unchanged = np.where(changed, since_change, self._unchanged + len(differs))
        for feature in np.flatnonzero(changed).tolist():
            self._changed_at[feature] = records.recorded_at[-since_change[feature]]
        self._last = rows[-1]

    def as_dict(self) -> dict[str, Any]:
        """The summary; shares and quantiles are of the window, without what is missing."""
        with self._lock:
            reads, decided = list(self._window.reads), list(self._decided.reads)
            unchanged, changed_at = self._unchanged.tolist(), list(self._changed_at)
        empty = np.empty((0, FEATURES))
        window = np.concatenate(
            [empty, *(part for read in reads for part in (read.records.incomplete, read.records.features))]
        )
        window = window[-WINDOW_RECORDS:]
        alarms = np.concatenate([np.zeros(0, dtype=bool), *(read.alarms for read in reads)])[-WINDOW_RECORDS:]
        features = {
            name: {
                **_summary(window[:, at]),
                "unchanged_records": unchanged[at],
                "changed_at": changed_at[at],
            }
            for at, name in enumerate(NAMES)
        }
        incomplete = int(np.isnan(window).any(axis=1).sum())
        until = decided[-1].records.recorded_at[-1] if decided else None
        counts = {"records": len(window), "incomplete": incomplete, "alarms": int(alarms.sum()), "until": until}
        recent = [entry for read in decided for entry in _entries(read)]
        return {**counts, "features": features, "recent": recent[-RECENT_RECORDS:]}


class Tail:
    """The newest reads, as many as it takes for ``records`` records."""

    def __init__(self, records: int) -> None:
        self._records = records
        self._held = 0
        self.reads: deque[Read] = deque()

    def append(self, read: Read) -> None:
        if not read.count:
            return
        self.reads.append(read)
        self._held += read.count
        while self._held - self.reads[0].count >= self._records:
            self._held -= self.reads.popleft().count


def _entries(read: Read) -> list[dict[str, Any]]:
    """The last records of a read, each with what was decided."""
    records, decisions = read
    if decisions is None:
        return []
    return [
        {
            "record_id": records.ids[at],
            "recorded_at": records.recorded_at[at],
            "features": [_rounded(value) for value in records.features[at]],
            "label": int(decisions.labels[at]),
            "score": _rounded(decisions.scores[at]),
        }
        for at in range(max(0, len(records.ids) - RECENT_RECORDS), len(records.ids))
    ]


def _summary(column: np.ndarray) -> dict[str, Any]:
    values = column[~np.isnan(column)]
    summary: dict[str, Any] = {"count": len(values), "missing": len(column) - len(values)}
    names = ("min", "p05", "p25", "p50", "p75", "p95", "max", "mean", "std", "most_common_share")
    if not len(values):
        return {**summary, "distinct": 0, **dict.fromkeys(names)}
    _, counts = np.unique(values, return_counts=True)
    quantiles = np.quantile(values, (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1))
    numbers = (*quantiles, values.mean(), values.std(), counts.max() / len(values))
    return {**summary, "distinct": len(counts), **{name: _rounded(value) for name, value in zip(names, numbers)}}


def _rounded(value: float) -> float:
    """Seven digits, as many as a float32 has."""
    return float(f"{value:.7g}")
