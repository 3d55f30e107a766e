"""The evaluation out of core finds what the one in memory finds, to the digit."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from model_evaluation import evaluation
from toolbox import large
from toolbox.large import LargeError

from tests.unit.toolbox.conftest import Decide


def three_versions(decide: Decide) -> pd.DataFrame:
    """On two devices; the feed of one starts over, v3 raises no alarm."""
    devices = ("device-001", "device-002")
    again = decide("v2", "device-002", start_s=120, count=4000, wrong=0.02)
    parts = [
        *(decide("v1", device, count=2500, wrong=0.05) for device in devices),
        *(decide("v2", device, start_s=60, count=2500, first=300, wrong=0.01) for device in devices),
        again.assign(seq=again["seq"] + 9000),
        decide("v3", "device-001", start_s=300, count=1500, wrong=None),
    ]
    return pd.concat(parts, ignore_index=True).sort_values(["device", "seq"], ignore_index=True)


@pytest.fixture
def files(tmp_path: Path, decide: Decide, labels: pd.Series) -> tuple[list[Path], Path]:
    decisions = three_versions(decide)
    parts = [tmp_path / f"{number}.parquet" for number in range(3)]
    for number, part in enumerate(parts):
        decisions.iloc[number::3].to_parquet(part, index=False)
    known = tmp_path / "labels.parquet"
    labels.iloc[:2900].rename("label").reset_index().to_parquet(known, index=False)
    return parts, known


def test_the_same_numbers_as_in_memory(files: tuple[list[Path], Path], decide: Decide, labels: pd.Series) -> None:
    found = large.evaluate(*files, memory_limit="200MB")
    expected = evaluation.evaluate(three_versions(decide), labels.iloc[:2900])
    assert found.comparison == expected.comparison
    for mine, theirs in zip(found.versions, expected.versions, strict=True):
        assert (mine.release, mine.n_decisions, mine.n_labelled) == (
            theirs.release,
            theirs.n_decisions,
            theirs.n_labelled,
        )
        assert mine.quality == theirs.quality
        assert mine.devices == {one.device: one.quality for one in theirs.devices}


def test_one_version_is_not_compared(tmp_path: Path, decide: Decide, labels: pd.Series) -> None:
    decide("v1", "device-001").to_parquet(tmp_path / "d.parquet", index=False)
    labels.rename("label").reset_index().to_parquet(tmp_path / "l.parquet", index=False)
    found = large.evaluate([tmp_path / "d.parquet"], tmp_path / "l.parquet")
    assert [version.release for version in found.versions] == ["v1"]
    assert found.comparison is None


def test_a_file_without_a_column_is_named(files: tuple[list[Path], Path], tmp_path: Path) -> None:
    pd.DataFrame({"device": ["a"]}).to_parquet(tmp_path / "bad.parquet")
    with pytest.raises(LargeError, match=r"bad\.parquet: .*(record_id|release)"):
        large.evaluate([tmp_path / "bad.parquet"], files[1])
