"""Quantiles of durations in fixed memory: counts in buckets that grow by 5 %, so a quantile is right to 5 %."""

from __future__ import annotations

import itertools
import math

SMALLEST_S, LARGEST_S, GROWTH = 1e-6, 100.0, 1.05
BUCKETS = math.ceil(math.log(LARGEST_S / SMALLEST_S, GROWTH)) + 1


class Histogram:
    """Durations from a microsecond to 100 s; shorter and longer ones count as these."""

    def __init__(self) -> None:
        self._counts = [0] * BUCKETS

    def add(self, duration_s: float, count: int) -> None:
        """``count`` events took ``duration_s`` each."""
        scaled = max(duration_s, SMALLEST_S) / SMALLEST_S
        self._counts[min(BUCKETS - 1, math.ceil(math.log(scaled, GROWTH)))] += count

    def quantile_s(self, share: float) -> float | None:
        """The duration that ``share`` (0–1) of the events did not exceed; None before the first event."""
        total = sum(self._counts)
        if not total:
            return None
        up_to = itertools.accumulate(self._counts)
        bucket = next(bucket for bucket, seen in enumerate(up_to) if seen >= share * total)
        return SMALLEST_S * GROWTH**bucket
