"""The shortest time that AWS's documented rates allow for a number of calls. Pure."""

from __future__ import annotations

from collections.abc import Mapping


def floor_s(calls: Mapping[str, int], rates: Mapping[str, float]) -> float:
    """The time, in seconds, that the slowest of ``rates`` takes to let these calls through.

    Rates are calls a second by ``service:Action``, or ``service:*`` for all of a service that have no rate of their own
    together; one second's worth is let through at once. ``calls`` are counted by ``service:Action``.
    """

    def limited(operation: str) -> int:
        service, _, action = operation.partition(":")
        if action != "*":
            return calls.get(operation, 0)
        return sum(n for call, n in calls.items() if call.startswith(f"{service}:") and call not in rates)

    return max((max(0.0, limited(operation) / rate - 1) for operation, rate in rates.items()), default=0.0)
