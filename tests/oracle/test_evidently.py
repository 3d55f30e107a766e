"""The toolbox against evidently on the same arrays. ``make oracle`` renews what evidently says (evidently.json)."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from toolbox import statistics

from tests.oracle import samples

SAID = json.loads(Path(__file__).with_name("evidently.json").read_text("utf-8"))
CLOSE = 1e-9


def test_every_sample_was_asked_about() -> None:
    assert set(SAID["numbers"]) == {name for name, _ in samples.numbers()}
    assert set(SAID["categories"]) == {name for name, _ in samples.categories()}
    assert len(SAID["numbers"]) > 30


def test_numbers() -> None:
    for name, (reference, current) in samples.numbers():
        found = statistics.compare_numbers(np.sort(reference), np.sort(current))
        said = SAID["numbers"][name]
        assert found.ks_p == pytest.approx(said["ks_p"], rel=CLOSE, abs=CLOSE), name
        assert found.wasserstein_norm == pytest.approx(said["wasserstein_norm"], rel=CLOSE, abs=CLOSE), name


def test_categories() -> None:
    for name, (reference, current) in samples.categories():
        counts = [Counter(sample) for sample in (reference, current)]
        found = statistics.compare_categories(*([one[key] for key in sorted(counts[0])] for one in counts))
        assert found.psi == pytest.approx(SAID["categories"][name]["psi"], rel=CLOSE, abs=CLOSE), name
