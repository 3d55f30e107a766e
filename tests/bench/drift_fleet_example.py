"""Writes docs/reports/drift-fleet.html: the report of drift_report about two weeks of six devices.

Every day each device decides some of the Shuttle's field records. device-003's f4 comes in another unit from the
twelfth day on, device-004's f2 is stuck on the last one, and device-005 loses readings of f7.
"""

from __future__ import annotations

import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import yaml
from drift_report import fleet_drift, fleet_drift_page
from river.datasets import Shuttle
from toolbox import drift, policy, report
from toolbox.context import Context
from toolbox.registry import Version

CLONE = Path(__file__).resolve().parents[2]
REPORTS = CLONE / "docs/reports"
DEVICES, DAYS, RECORDS = 6, 14, 3000
LAST = datetime(2026, 11, 23, 5, 30, tzinfo=timezone.utc)
GAPS = {"device-005": {"f7": (180, 1000)}}


def day(field: pd.DataFrame, number: int) -> pd.DataFrame:
    """What the devices read on a day (from 0), as ``readings.as_seen`` has it."""
    random = np.random.default_rng(number)
    parts = []
    for device in range(1, DEVICES + 1):
        rows = field.iloc[random.permutation(len(field))[:RECORDS]].copy()
        if device == 3 and number >= 11:
            rows["f4"] = rows["f4"] * 1.8 + 32
        if device == 4 and number == DAYS - 1:
            rows["f2"] = 0.0
        moments = LAST - timedelta(days=DAYS - number) + pd.to_timedelta(np.arange(RECORDS) * 28, unit="s")
        named = {"device": f"device-{device:03}", "record_id": [f"shuttle-{row}" for row in rows.index]}
        parts.append(rows.assign(**named, recorded_at=moments.tz_localize(None), release="v2", is_known=True))
    return pd.concat(parts, ignore_index=True)


def main() -> int:
    rows = pd.read_csv(Shuttle().path).drop(columns="anomaly").astype(float)
    part = rows.index % 5
    reference = pa.Table.from_pandas(rows[part <= 1], preserve_index=False)
    limits = policy.load(drift.Policy, drift.POLICY_FILE)
    groups = yaml.safe_load((CLONE / "workflows/drift_report/feature_groups.yml").read_text("utf-8"))
    trend = []
    for number in range(DAYS):
        seen = day(rows[part >= 3], number)
        gaps = GAPS if number == DAYS - 1 else {}
        found = fleet_drift.judge(seen, reference, gaps, limits, n_decisions=len(seen))
        kept = fleet_drift.summary(found, groups, data_version="d" * 64)
        trend.append(kept.assign(day=(LAST - timedelta(days=DAYS - 1 - number)).date().isoformat()))
    champion = Version("v2", "a" * 64, "9d2f4c0b7e51" + "0" * 52, "0" * 40, "0" * 64)
    window = fleet_drift_page.Window(
        LAST - timedelta(days=1), LAST, champion, len(reference), "4be1807f3ac2" + "0" * 52, seen
    )
    run = Context("0" * 24, "0" * 40, "", {"lookback_h": 24, "model": "shuttle-anomaly"}, {"env": "sandbox"}, Path())
    page = fleet_drift_page.page(found, reference, pd.concat(trend), window, run)
    REPORTS.mkdir(exist_ok=True)
    (REPORTS / "drift-fleet.html").write_text(report.html(page), "utf-8")
    print(report.text(page))
    return 0


if __name__ == "__main__":
    sys.exit(main())
