"""The published schema of workflow specs says what the parser says, where a schema can: cases in tests/plans/spec."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from twinops import spec_schema
from twinops.spec import LONGEST_MISSING_H, OPTIONAL, REQUIRED

CLONE = Path(__file__).parents[2]
CASES = CLONE / "tests/plans/spec"
PUBLISHED = CLONE / "workflows/workflow.schema.json"

VALIDATOR = Draft202012Validator(json.loads(PUBLISHED.read_text("utf-8")))


def cases(name: str) -> Any:
    return yaml.safe_load((CASES / f"{name}.yml").read_text("utf-8"))


RIGHT = cases("right")
SMALLEST = RIGHT[0]["spec"]


def test_the_published_one_is_that_of_the_parser() -> None:
    assert PUBLISHED.read_text("utf-8") == spec_schema.as_json(), "`make schema` renews it"
    Draft202012Validator.check_schema(VALIDATOR.schema)


def test_it_describes_every_field() -> None:
    fields = VALIDATOR.schema["properties"]
    assert set(fields) == {*REQUIRED, *OPTIONAL}
    for name, field in fields.items():
        assert field["description"].endswith("."), name
        for inner in field.get("properties", {}) if name != "event" else ():
            assert field["properties"][inner]["description"], f"{name}.{inner}"


@pytest.mark.parametrize("case", RIGHT, ids=lambda case: case["name"])
def test_right(case: dict[str, Any]) -> None:
    assert not list(VALIDATOR.iter_errors(case["spec"]))


@pytest.mark.parametrize("case", cases("mistakes"), ids=lambda case: case["name"])
def test_mistakes(case: dict[str, Any]) -> None:
    spec = {key: value for key, value in {**SMALLEST, **case["change"]}.items() if value is not None}
    assert VALIDATOR.is_valid(spec) == case.get("only_parser", False)


@pytest.mark.parametrize(
    ("kind", "is_valid"), [("right", True), ("wrong", False), ("wrong_day_or_time", True)], ids=str
)
def test_schedules(kind: str, is_valid: bool) -> None:
    for expression in cases("schedules")[kind]:
        assert VALIDATOR.is_valid({**SMALLEST, "schedule": expression}) == is_valid, expression


def test_missing_after_takes_exactly_an_hour_to_seven_days() -> None:
    taken = [
        f"{number}{unit}"
        for number in range(1000)
        for unit in "hd"
        if re.fullmatch(spec_schema.MISSING_AFTER, f"{number}{unit}")
    ]
    hours = [f"{number}h" for number in range(1, LONGEST_MISSING_H + 1)]
    days = [f"{number}d" for number in range(1, LONGEST_MISSING_H // 24 + 1)]
    assert sorted(taken) == sorted(hours + days)
