from __future__ import annotations

import random

import numpy as np
import pytest
from histogram import BUCKETS, Histogram


def test_nothing_yet() -> None:
    assert Histogram().quantile_s(0.5) is None


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.99, 1.0])
def test_quantiles_are_right_to_five_percent(share: float) -> None:
    generator, histogram = random.Random(7), Histogram()  # noqa: S311
    durations_s = [generator.lognormvariate(-7, 1.5) for _ in range(5000)]
    for duration_s in durations_s:
        histogram.add(duration_s, 1)
    exact_s = np.quantile(durations_s, share, method="inverted_cdf")
    assert exact_s <= histogram.quantile_s(share) * 1.000001
    assert histogram.quantile_s(share) <= exact_s * 1.0501


def test_counts_weigh_and_memory_is_fixed() -> None:
    histogram = Histogram()
    histogram.add(0.001, 99)
    histogram.add(5.0, 1)
    histogram.add(0.0, 0)
    histogram.add(1e9, 0)
    assert histogram.quantile_s(0.99) == pytest.approx(0.001, rel=0.05)
    assert histogram.quantile_s(1.0) == pytest.approx(5.0, rel=0.05)
    assert len(histogram._counts) == BUCKETS < 400
