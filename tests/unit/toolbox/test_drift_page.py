"""The report about drift: what it says first, and that it is a small, accessible page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from toolbox import drift, drift_page, report

from tests.unit.toolbox.test_evaluation import Outline

N = 1000


def tables(**changed: object) -> tuple[pa.Table, pa.Table]:
    def some(seed: int) -> dict[str, object]:
        random = np.random.default_rng(seed)
        numbers = {f"f{n}": random.normal(size=N) for n in range(3)}
        return {**numbers, "mode": random.choice(["on", "off", "<idle>"], N)}

    return pa.table(some(1)), pa.table({**some(2), **changed})


def page(*pair: pa.Table) -> report.Report:
    return drift_page.page(drift.compare(*pair), *pair, title="Drift", subtitle="now against then")


SHIFTED = np.random.default_rng(3).normal(2, size=N)


@pytest.mark.parametrize(
    ("changed", "state", "headline"),
    [
        ({}, "ok", "The data is as it was"),
        ({"f1": SHIFTED}, "watch", "1 column drifted: f1"),
        ({"f1": SHIFTED, "mode": ["on"] * 900 + ["off"] * 100}, "watch", "2 columns drifted: f1, mode"),
        ({"f1": [0.5] * N, "f2": pa.nulls(N)}, "watch", "No drift, but 2 columns should be looked at: f1, f2"),
    ],
    ids=["nothing", "drift", "a category as well", "sensors"],
)
def test_the_first_screen_answers(changed: dict[str, object], state: str, headline: str) -> None:
    said = page(*tables(**changed))
    assert (said.state, said.headline) == (state, headline)
    assert report.text(said).splitlines()[0] == headline


def test_the_page_is_accessible_and_escapes_what_the_data_says() -> None:
    text = report.html(page(*tables(f1=SHIFTED, mode=["<idle>"] * 900 + ["on"] * 100)))
    outline = Outline(text)
    figures = [one for one in outline.all("svg") if "aria-hidden" not in one]
    assert len(figures) == 2
    assert all(one["role"] == "img" and one["aria-label"] for one in figures)
    assert len(outline.all("caption")) == len(outline.all("table")) == 1
    assert "<idle>" not in text
    ids = [attributes["id"] for _, attributes in outline.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))


def test_128_columns_are_a_small_page_and_twice_the_same_bytes() -> None:
    random = np.random.default_rng(4)
    pair = [pa.table({f"sensor_{n}": random.normal(n % 2 * k, size=400) for n in range(128)}) for k in (0, 1)]
    first = report.html(page(*pair))
    assert first == report.html(page(*pair))
    assert len(first.encode()) < 300_000
    assert "64 columns drifted" in first


def test_the_command_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, one in zip(("ref", "cur"), tables(f1=SHIFTED), strict=True):
        one.to_pandas().to_csv(tmp_path / f"{name}.csv", index=False)
    files = [str(tmp_path / f"{name}.csv") for name in ("ref", "cur")]
    assert drift.main([*files, "--html", str(tmp_path / "page.html")]) == 4
    assert "1 column drifted: f1" in (tmp_path / "page.html").read_text("utf-8")
    assert drift.main([*files, "--html", str(tmp_path / "nowhere/page.html")]) == 2
    assert "expected to write the report: No such file" in capsys.readouterr().err
