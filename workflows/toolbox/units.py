"""Units of measurement: does a change look as if a sensor now reports in another one?"""

from __future__ import annotations

import numpy as np
from scipy import stats
from twinops.conversions import CONVERSIONS

from toolbox.statistics import Numbers

MOST_LEFT = 0.1
"""Distance (Kolmogorov-Smirnov's D) that a conversion may leave, and the share of the distance that it may leave."""
_SAMPLE = 5000


def recognise(reference: Numbers, current: Numbers, distance: float) -> str | None:
    """The conversion that explains most of ``distance`` between two sorted samples, or None."""
    before, now = _thinned(reference), _thinned(current)
    if before[0] == before[-1]:
        return None
    left = {
        name: float(stats.ks_2samp(before * factor + offset, now, method="asymp").statistic)
        for name, factor, offset in CONVERSIONS
    }
    best = min(left, key=lambda name: left[name])
    if left[best] > min(MOST_LEFT, distance / 4):
        return None
    return f"looks like another unit: {best}"


def _thinned(ordered: Numbers) -> Numbers:
    """A sorted sample's quantiles, where it is large."""
    if len(ordered) <= _SAMPLE:
        return ordered
    return ordered[np.linspace(0, len(ordered) - 1, _SAMPLE).astype(int)]
