"""The targets of the Cloud issue, and whether the measurements reach them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

from tests.bench.report import (
    CHANGED_CHECK,
    CHECKS,
    CREATE,
    NO_OP,
    PEER,
    REPAIR,
    TWINOPS,
    Measurement,
    Measurements,
    Verdict,
    cpu,
    times,
)

CPU_RATIOS = (
    (NO_OP, PEER, 10, 15),
    (NO_OP, PEER, 50, 60),
    (NO_OP, PEER, 100, 100),
    (NO_OP, "peer-mitogen", 100, 25),
    (CREATE, PEER, 50, 50),
)
"""(phase, compared with, workflows, at least so many times less client CPU)"""

CALLS_OF_A_NO_OP = 40
"""Calls that a no-op may make besides one for each workflow."""

ABOVE_THE_MINIMUM = Fraction(115, 100)
"""How much above the minimum of write calls, and above the time that AWS's rates set, a creation may be."""

FROM_W_UNDER_RATES = 100
"""With fewer workflows the rates hardly matter: the time that Ansible takes to start is longer."""


def verdicts(measurements: Measurements, under_rates: Iterable[Measurement]) -> list[Verdict]:
    """One for each target, the five ratios first, then what holds for every W that was measured."""
    found = [_ratio(measurements, *target) for target in CPU_RATIOS]
    for workflows in sorted({m.workflows for m in measurements.all if m.contender == TWINOPS}):
        found += _calls(measurements, workflows)
    return [*found, *_behaviour(measurements), *_under_rates(under_rates)]


def _ratio(measurements: Measurements, phase: str, base: str, workflows: int, at_least: float) -> Verdict:
    ratio = measurements.ratio(TWINOPS, workflows, phase, cpu, base=base)
    target = f"{phase}, W={workflows}: client CPU at least {at_least:g}x below {base}"
    return Verdict(target, times(ratio), None if ratio is None else ratio >= at_least)


def _calls(measurements: Measurements, workflows: int) -> list[Verdict]:
    found = []
    made = measurements.figure(TWINOPS, workflows, NO_OP, lambda m: m.calls)
    if made is not None:
        limit = workflows + CALLS_OF_A_NO_OP
        found.append(Verdict(f"no-op, W={workflows}: at most W + 40 = {limit} calls", f"{made:.0f}", made <= limit))
    writes = measurements.figure(TWINOPS, workflows, CREATE, lambda m: m.writes)
    minimum = measurements.figure(TWINOPS, workflows, CREATE, lambda m: m.minimum_writes)
    if writes is not None and minimum:
        target = f"create, W={workflows}: at most 1.15x the {minimum:.0f} writes that it takes"
        is_reached = Fraction(writes) <= ABOVE_THE_MINIMUM * Fraction(minimum)
        found.append(Verdict(target, f"{writes:.0f} = {writes / minimum:.2f}x", is_reached))
    return found


def _behaviour(measurements: Measurements) -> list[Verdict]:
    """What has to hold in every single run, not in the median."""
    ours = [m for m in measurements.all if m.contender == TWINOPS]
    checks = [m.writes for m in ours if m.phase in CHECKS]
    no_ops = [m.changed for m in ours if m.phase == NO_OP]
    seen = [(m.seen, m.altered) for m in ours if m.phase == CHANGED_CHECK]
    repaired = [(m.restored, m.altered) for m in ours if m.phase == REPAIR]
    return [
        Verdict(
            "no check writes", f"{sum(checks)} writes in {len(checks)} checks", not any(checks) if checks else None
        ),
        Verdict("a no-op changes nothing", f"{sum(no_ops)} changed", not any(no_ops) if no_ops else None),
        _all_of("every out-of-band change is seen by --check --diff", seen),
        _all_of("every out-of-band change is repaired", repaired),
    ]


def _all_of(target: str, parts: Sequence[tuple[int | None, int | None]]) -> Verdict:
    measured = ", ".join(f"{part} of {whole}" for part, whole in parts)
    return Verdict(target, measured or "-", all(part == whole for part, whole in parts) if parts else None)


def _under_rates(measurements: Iterable[Measurement]) -> list[Verdict]:
    found = []
    for m in measurements:
        if m.floor_s is None or m.exit_code:
            continue
        title = f"create under AWS's rates, W={m.workflows}"
        found.append(Verdict(f"{title}: no throttled call", str(m.throttled), m.throttled == 0))
        if m.workflows >= FROM_W_UNDER_RATES:
            target = f"{title}: at most 1.15x the {m.floor_s:.1f} s that the rates set"
            limit_s = float(ABOVE_THE_MINIMUM) * m.floor_s
            found.append(Verdict(target, f"{m.wall_s:.1f} s = {m.wall_s / m.floor_s:.2f}x", m.wall_s <= limit_s))
    return found
