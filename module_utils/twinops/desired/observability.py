"""What shows how the environment is doing."""

from __future__ import annotations

from ..resources import LogGroup, Resource
from .common import Estate, Options

PART = "observability"

RETENTION_DAYS = [
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731),
    *(1096, 1827, 2192, 2557, 2922, 3288, 3653),
]
"""What CloudWatch Logs offers."""

OPTIONS = {"retention_days": {"type": "int", "default": 90, "choices": RETENTION_DAYS}}


def resources(estate: Estate, options: Options) -> tuple[Resource, ...]:
    """Log groups of the functions: without them Lambda makes its own, which keep everything for ever."""
    names = estate.scope.names
    return tuple(
        LogGroup(names.function_log_group(purpose), estate.tags(PART), options["retention_days"])
        for purpose in ("dispatch", "backup")
    )
