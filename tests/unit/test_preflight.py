from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from twinops.errors import SpecError
from twinops.preflight import check_target

CASES = yaml.safe_load((Path(__file__).parents[1] / "plans/preflight.yml").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_what_a_playbook_may_touch(case: dict[str, Any]) -> None:
    arguments = case["targeted"], case["inventory"], case["groups"]
    if "env" in case:
        assert check_target(*arguments) == case["env"]
    else:
        with pytest.raises(SpecError) as caught:
            check_target(*arguments)
        assert list(caught.value.mistakes) == case["errors"]
