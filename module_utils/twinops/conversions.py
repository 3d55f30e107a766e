"""Units of measurement that sensors are changed to by mistake: by what a reading in one becomes one in the other."""

from __future__ import annotations

CONVERSIONS: tuple[tuple[str, float, float], ...] = (
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
"""Name, factor and offset: what was ``x`` is now ``factor * x + offset``."""
