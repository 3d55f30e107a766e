"""An AWS endpoint, and labelled decisions as devices make them."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest

from tests.unit.endpoint import _endpoint_url, endpoint  # noqa: F401

START = datetime(2026, 11, 22, 18, 0, tzinfo=timezone.utc)
RECORDS = 3000
ALARM_SHARE = 0.07

Decide = Callable[..., pd.DataFrame]


@pytest.fixture(scope="session")
def labels() -> pd.Series:
    """The true labels of all records, indexed by ``record_id``."""
    random = np.random.default_rng(7)
    truth = (random.random(RECORDS) < ALARM_SHARE).astype("int64")
    return pd.Series(truth, index=pd.Index([f"shuttle-{5 * n + 3}" for n in range(RECORDS)], name="record_id"))


@pytest.fixture(scope="session")
def decide(labels: pd.Series) -> Decide:
    """Decisions of a release on a device: ``wrong`` is the share that it gets wrong, ``None`` never raises an alarm."""

    def decisions(
        release: str, device: str, *, start_s: int = 0, count: int = 1000, first: int = 0, wrong: float | None = 0.0
    ) -> pd.DataFrame:
        random = np.random.default_rng(zlib.crc32(f"{release} {device} {start_s}".encode()))
        rows = (first + np.arange(count)) % len(labels)
        truth = labels.to_numpy()[rows]
        label = np.zeros_like(truth) if wrong is None else np.where(random.random(count) < wrong, 1 - truth, truth)
        return pd.DataFrame(
            {
                "device": device,
                "seq": np.arange(count),
                "record_id": labels.index[rows],
                "recorded_at": [START + timedelta(seconds=start_s + n / 50) for n in range(count)],
                "release": release,
                "model_sha256": release * 8,
                "label": label,
                "score": 0.5,
            }
        )

    return decisions
