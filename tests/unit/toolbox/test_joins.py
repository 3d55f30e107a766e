"""Queries over tables of several sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from toolbox.joins import JoinError, query

DECISIONS = pd.DataFrame({"device": ["d1", "d1", "d2"], "record_id": ["a", "b", "a"], "label": [0, 1, 1]})
LABELS = pa.table({"record_id": ["a", "b", "c"], "label": [1, 1, 0]})
QUALITY = """
    select device, count(*) as n, avg((d.label = l.label)::int) as accuracy
    from decisions d join labels l using (record_id) where device <> $without group by device order by device
"""


def test_a_join_of_two_sources() -> None:
    found = query(QUALITY, {"decisions": DECISIONS, "labels": LABELS}, {"without": "d3"})
    assert found.to_dict("list") == {"device": ["d1", "d2"], "n": [2, 1], "accuracy": [0.5, 1.0]}


def test_values_never_become_sql() -> None:
    found = query(QUALITY, {"decisions": DECISIONS, "labels": LABELS}, {"without": "d1'; drop table decisions; --"})
    assert len(found) == 2


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("selct 1", "query over decisions: Parser Error"),
        ("select * from labels", "Table with name labels does not exist"),
        ("select speed from decisions", 'Referenced column "speed" not found'),
        ("select * from decisions where device = $device", "device"),
    ],
    ids=["no SQL", "no such table", "no such column", "no value"],
)
def test_bad_queries_are_named(sql: str, said: str) -> None:
    with pytest.raises(JoinError, match="query over decisions") as refusal:
        query(sql, {"decisions": DECISIONS})
    assert said in str(refusal.value)


def test_a_query_reaches_no_file(tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("a\n1\n")
    with pytest.raises(JoinError, match="disabled"):
        query("select * from read_csv($path)", {}, {"path": str(tmp_path / "secret.csv")})


def test_more_than_fits_into_memory_goes_to_disk() -> None:
    """Sorting 24 MB in 20 MB."""
    values = np.random.default_rng(1).permutation(1_500_000)
    table = pa.table({"n": values, "m": values[::-1]})
    found = query(
        "select n from (select *, row_number() over (order by m, n) from t) limit 3", {"t": table}, memory_limit="20MB"
    )
    assert len(found) == 3
