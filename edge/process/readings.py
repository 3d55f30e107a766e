"""What the sensor has been giving lately: the last readings of each feature, in numbers that show a sensor gone wrong.

In fixed memory. The loop adds what it decided, whoever asks ``/readings`` gets a summary.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import numpy as np
from model import Decisions
from sensor import FEATURES, Records

WINDOW_RECORDS = 1000
RECENT_RECORDS = 20
NAMES = tuple(f"f{number}" for number in range(1, FEATURES + 1))


class Readings:
    """The last ``WINDOW_RECORDS`` records, and the last ``RECENT_RECORDS`` of them with what was decided."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._window = np.full((0, FEATURES), np.nan)
        self._alarms = np.zeros(0, dtype=bool)
        self._recent: deque[dict[str, Any]] = deque(maxlen=RECENT_RECORDS)
        self._last = np.full(FEATURES, np.nan)
        self._unchanged = np.zeros(FEATURES, dtype=np.int64)
        self._changed_at: list[str | None] = [None] * FEATURES
        self._until: str | None = None

    def add(self, records: Records, decisions: Decisions | None) -> None:
        """Take in what one read gave; ``decisions`` are those on ``records.features``, None where it has none."""
        with self._lock:
            alarms = np.zeros(len(records.incomplete), dtype=bool)
            if decisions is not None:
                alarms = np.concatenate([alarms, decisions.labels != 0])
                self._note_changes(records)
                self._note_recent(records, decisions)
                self._until = records.recorded_at[-1]
            self._window = np.concatenate([self._window, records.incomplete, records.features])[-WINDOW_RECORDS:]
            self._alarms = np.concatenate([self._alarms, alarms])[-WINDOW_RECORDS:]

    def _note_changes(self, records: Records) -> None:
        """For how many records, and since when, each feature has had the value it has now."""
        rows = np.vstack([self._last, records.features])
        differs = rows[:-1] != rows[1:]  # the first record ever differs from NaN
        count = len(records.features)
        for feature in range(FEATURES):
            changes = np.flatnonzero(differs[:, feature])
            if len(changes):
                self._unchanged[feature] = count - changes[-1]
                self._changed_at[feature] = records.recorded_at[changes[-1]]
            else:
                self._unchanged[feature] += count
        self._last = rows[-1]

    def _note_recent(self, records: Records, decisions: Decisions) -> None:
        for at in range(max(0, len(records.ids) - RECENT_RECORDS), len(records.ids)):
            self._recent.append(
                {
                    "record_id": records.ids[at],
                    "recorded_at": records.recorded_at[at],
                    "features": [_rounded(value) for value in records.features[at]],
                    "label": int(decisions.labels[at]),
                    "score": _rounded(decisions.scores[at]),
                }
            )

    def as_dict(self) -> dict[str, Any]:
        """The summary; shares and quantiles are of the window, without what is missing."""
        with self._lock:
            window, recent = self._window, list(self._recent)
            alarms = int(self._alarms.sum())
            unchanged, changed_at = self._unchanged.tolist(), list(self._changed_at)
            until = self._until
        features = {
            name: {
                **_summary(window[:, at]),
                "unchanged_records": unchanged[at],
                "changed_at": changed_at[at],
            }
            for at, name in enumerate(NAMES)
        }
        incomplete = int(np.isnan(window).any(axis=1).sum())
        counts = {"records": len(window), "incomplete": incomplete, "alarms": alarms, "until": until}
        return {**counts, "features": features, "recent": recent}


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
