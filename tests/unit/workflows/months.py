"""A month of decisions as devices make them, and what the monthly report is made of it. The same at every call."""

from __future__ import annotations

import zlib
from datetime import date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
from monthly_report import month as months
from monthly_report.month import Month
from twinops import runs

DEVICES = ("device-001", "device-003", "device-005")
START, END = datetime(2026, 10, 1, tzinfo=timezone.utc), datetime(2026, 11, 1, tzinfo=timezone.utc)
AGREED = {"least_recall": 0.9, "most_false_alarm_rate": 0.02, "silent_after_min": 24 * 60}
A_DAY = 150


def decisions(
    device: str, *, wrong: float = 0.01, missed: float = 0.04, off: tuple[int, int] | None = None
) -> pd.DataFrame:
    """A record every few minutes; v1 until the 12th, then v2. ``off``: days on which the device is silent.

    ``missed``: share of the anomalies without an alarm; ``wrong``: share of the others with one.
    """
    random = np.random.default_rng(zlib.crc32(device.encode()))
    n = np.arange(31 * A_DAY)
    truth = random.random(len(n)) < 0.07
    luck = random.random(len(n))
    label = np.where(truth, luck >= missed, luck < wrong)
    days = n // A_DAY
    moments = pd.Timestamp(START) + pd.to_timedelta(n * (86400 / A_DAY), unit="s")
    frame = pd.DataFrame(
        {
            "device": device,
            "seq": n,
            "record_id": [f"{device}-{number}" for number in n],
            "recorded_at": moments,
            "release": np.where(days < 11, "v1", "v2"),
            "model_sha256": np.where(days < 11, "1" * 64, "2" * 64),
            "label": label.astype("int64"),
            "score": 0.5,
            "truth": truth.astype("int64"),
        }
    )
    return frame if off is None else frame[(days + 1 < off[0]) | (days + 1 > off[1])]


def labels_of(frame: pd.DataFrame, share: float = 0.3) -> pd.Series[int]:
    """What inspectors found out about a share of the records, by ``record_id``."""
    inspected = frame[np.random.default_rng(3).random(len(frame)) < share]
    return inspected.set_index("record_id")["truth"].astype("int64")


def month(
    frames: dict[str, pd.DataFrame] | None = None,
    *,
    share: float = 0.3,
    incidents: tuple[months.Incident, ...] = (),
    **changed: Any,
) -> Month:
    """October 2026 of a customer with three devices."""
    frames = {device: decisions(device) for device in DEVICES} if frames is None else frames
    days = [day for frame in frames.values() for day in months.days_of(frame, labels_of(frame, share))]
    silences = [
        one
        for device, frame in frames.items()
        for one in months.silences_of(
            device, frame["recorded_at"], in_use_since=START, until=END, silent_after_min=AGREED["silent_after_min"]
        )
    ]
    fields: dict[str, Any] = {
        "customer": "orbital",
        "customer_title": "Orbital Freight",
        "feature": "anomaly-detection",
        "feature_title": "Anomaly detection",
        "month": "2026-10",
        "revision": 1,
        "as_of": runs.timestamp(datetime(2026, 11, 5, 6, 0, 12, tzinfo=timezone.utc)),
        "is_over": True,
        "agreed": AGREED,
        "devices": tuple((device, str(date(2026, 10, 1)), str(date(2026, 11, 1))) for device in frames),
        "days": tuple(days),
        "silences": tuple(silences),
        "incidents": incidents,
        "left_out": {},
        **changed,
    }
    return Month(**fields)


def at(day: int, hour: int = 0) -> str:
    return runs.timestamp(START + timedelta(days=day - 1, hours=hour))


def incidents() -> tuple[months.Incident, ...]:
    """A run that failed, and a release that a gate stopped on one of the customer's devices."""
    run = {"claimed_at": at(3, 5), "workflow": "model_evaluation", "state": "FAILED", "reason": "exit code 2"}
    rollout = {
        "started_at": at(20, 9),
        "release": "v3",
        "state": "blocked",
        "reason": "edge_canary: device-001: alarm rate 0 %, champion 7.1 %",
        "devices": '{"device-001": "rolled_back", "device-002": "pending", "device-003": "pending"}',
    }
    back = {"valid_from": at(20, 10), "device": "device-001", "release": "v3", "state": "rolled_back", "reason": "gate"}
    return tuple(months.incidents_of(DEVICES, [run], [rollout], [back]))
