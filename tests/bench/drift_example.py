"""Writes docs/reports/drift.html: the report about a bad day of the plant, made from the Shuttle's records.

The reference is what models are trained on, the current data are the field's records, and four things went wrong.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from river.datasets import Shuttle
from toolbox import drift, drift_page, report

REPORTS = Path(__file__).resolve().parents[2] / "docs/reports"


def bad_day(field: pd.DataFrame) -> pd.DataFrame:
    """The field's records after a stuck sensor, a unit error, gaps, and a plant that runs warmer."""
    rows = field.astype(float)
    rows["f2"] = 0.0
    rows["f4"] *= 1000
    rows.loc[rows.index[::9], "f6"] = np.nan
    rows["f1"] += 0.3 * rows["f1"].std()
    return rows


def main() -> int:
    rows = pd.read_csv(Shuttle().path).drop(columns="anomaly")
    part = rows.index % 5
    reference = pa.Table.from_pandas(rows[part <= 1], preserve_index=False)
    current = pa.Table.from_pandas(bad_day(rows[part >= 3]), preserve_index=False)
    found = drift.compare(reference, current)
    page = drift_page.page(
        found, reference, current, title="Drift of the data", subtitle="An example: a bad day of the plant"
    )
    REPORTS.mkdir(exist_ok=True)
    (REPORTS / "drift.html").write_text(report.html(page), "utf-8")
    print(report.text(page))
    return 0


if __name__ == "__main__":
    sys.exit(main())
