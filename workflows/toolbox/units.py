"""Units of measurement: does a change look as if a sensor now reports in another one?"""

from __future__ import annotations

import numpy as np
from scipy import stats

from toolbox.statistics import Numbers

CONVERSIONS = (
    ("°C → °F", 1.8, 32.0),
    ("°F → °C", 1 / 1.8, -32.0 / 1.8),
    ("°C → K", 1.0, 273.15),
    ("K → °C", 1.0, -273.15),
    ("factor 3.6, as m/s → km/h", 3.6, 0.0),
    ("factor 1/3.6, as km/h → m/s", 1 / 3.6, 0.0),
    ("factor 25.4, as inch → mm", 25.4, 0.0),
    ("factor 1/25.4, as mm → inch", 1 / 25.4, 0.0),
    ("factor 60, as min → s", 60.0, 0.0),
    ("factor 1/60, as s → min", 1 / 60, 0.0),
    ("factor 6.895, as psi → kPa", 6.894757, 0.0),
    ("factor 1/6.895, as kPa → psi", 1 / 6.894757, 0.0),
    ("sign changed", -1.0, 0.0),
    *((f"factor 10^{power}", 10.0**power, 0.0) for power in (-6, -3, -2, -1, 1, 2, 3, 6)),
)
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
