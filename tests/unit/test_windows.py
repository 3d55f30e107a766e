"""Maintenance windows, as cases."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from twinops import windows
from twinops.errors import SpecError

CASES = yaml.safe_load((Path(__file__).parents[1] / "plans/windows/windows.yml").read_text())


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_window(case: dict[str, Any]) -> None:
    if "mistake" in case:
        with pytest.raises(SpecError, match=f"edge_maintenance_window: expected hours in UTC.*{case['mistake']}"):
            windows.check(case["window"], "edge_maintenance_window")
        return
    windows.check(case["window"], "edge_maintenance_window")
    now = datetime.strptime(case["at"], "%Y-%m-%d %H:%M").replace(tzinfo=timezone.utc)
    assert windows.is_open(case["window"], now) is case["open"]
