"""The judgement of `make bench-rollout`: pure, so it is tested without a fleet."""

from __future__ import annotations

import numpy as np
import pytest

from tests.bench.rollout import COPY, OURS, PEER, Measurement, verdicts, weights


def measured(contender: str, *, devices: int = 50, wall_s: float, cpu_s: float, memory_mb: float = 300) -> Measurement:
    return Measurement(contender, devices, "one place", wall_s, cpu_s, memory_mb, 0, 0)


def test_targets_of_time_are_judged_for_fifty_devices() -> None:
    runs = [
        measured(COPY, wall_s=46, cpu_s=19),
        measured(PEER, wall_s=110, cpu_s=31),
        measured(OURS, wall_s=16, cpu_s=4),
    ]
    found = {verdict.target.partition(": ")[2]: (verdict.measured, verdict.reached) for verdict in verdicts(runs)}
    assert found == {
        "wall at least 7x below peer": ("6.9x", False),
        "CPU at least 7x below peer": ("7.8x", True),
        "wall at least 1x below copy": ("2.9x", True),
        "CPU at least 1x below copy": ("4.8x", True),
        "at most 550 MB of memory": ("300 MB", True),
    }


def test_with_fewer_devices_only_memory_is_judged() -> None:
    runs = [
        measured(PEER, devices=10, wall_s=30, cpu_s=9),
        measured(OURS, devices=10, wall_s=10, cpu_s=3, memory_mb=600),
    ]
    assert [verdict.reached for verdict in verdicts(runs)] == [None, None, False]


@pytest.mark.parametrize(("sent_bytes", "reached"), [(1.09e6, True), (1.11e6, False)])
def test_bytes_are_judged_for_every_number_of_devices(sent_bytes: float, reached: bool) -> None:
    ours = Measurement(OURS, 10, "one place", 10, 3, 300, sent_bytes, 0, 0.9e6, 1e6)
    assert [verdict.reached for verdict in verdicts([ours])] == [reached, True]


@pytest.mark.parametrize("change", ["one place", "scattered"])
def test_one_percent_of_the_bytes_changes(change: str) -> None:
    differ = weights(change).view("u1") != weights(None).view("u1")
    assert 0.0099 < differ.mean() <= 0.01
    assert (np.flatnonzero(differ).std() < differ.size / 100) == (change == "one place")
