"""The published schema of workflow specs says what the parser says, where a schema can: cases in tests/plans/spec."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from twinops import spec_schema
from twinops.errors import SpecError
from twinops.spec import (
    EVENT_FIELDS,
    EVENT_FILTERS,
    LONGEST_MISSING_H,
    OPTIONAL,
    PARAMETER_TYPES,
    REQUIRED,
    parse_workflow,
)

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


SCALARS = st.none() | st.booleans() | st.integers(-1, 3) | st.floats(0.1, 0.9) | st.sampled_from(["", "a", "26h"])
NAMES = st.sampled_from(["a", "Days", *EVENT_FIELDS[:3], "$or", "type", "default"])
ANYTHING = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2))
FILTERS = st.dictionaries(st.sampled_from([*EVENT_FILTERS, "starts"]), ANYTHING, min_size=1, max_size=2)
CONDITIONS = st.lists(SCALARS | FILTERS, max_size=2)
PATTERNS = st.recursive(
    st.dictionaries(NAMES, CONDITIONS, max_size=2),
    lambda inner: st.dictionaries(NAMES, CONDITIONS | inner | st.lists(inner, max_size=2), max_size=2),
)
KINDS = st.sampled_from([*PARAMETER_TYPES, "date"])
PARAMETERS = st.dictionaries(NAMES, st.fixed_dictionaries({"type": KINDS, "default": SCALARS}) | ANYTHING, max_size=2)


def mapping(**choices: list[object]) -> st.SearchStrategy[dict[str, object]]:
    return st.fixed_dictionaries({}, optional={key: st.sampled_from(values) for key, values in choices.items()})


CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "event": PATTERNS,
    "parameters": PARAMETERS,
    "environment": mapping(lock=["packages.txt", "a/b.txt", 1], python=["3.12"]),
    "report": mapping(topic=["workflows", "alarms"], attach=["link", "none", None]),
    "alarms": mapping(
        failed=[True, "no"],
        missing_after=["26h", "8d", "24h", 3],
        performance=[{"metric": "MacroF1", "below": 0.9}, {"below": 1}, {"metric": "F 1", "below": "x"}],
        late=[True],
    ),
    "dashboard": st.lists(st.sampled_from(["MacroF1", "Drift", "F 1", "A", "B", "C", 1]), max_size=6),
    "data_sources": st.lists(st.sampled_from(["plant", "Plant", "archive", 1]), max_size=3),
    "entrypoint": st.sampled_from(["run.py", "notebook.ipynb", "main.sh"]),
    "timeout_s": st.sampled_from([0, 1, 43200, 43201, 1.5, True]),
    "engine": st.sampled_from(["twin", "airflow"]),
    "timezone": st.sampled_from(["Europe/Berlin", "UTC", "Berlin"]),  # the schedule is a rate
}
ONLY_PARSER = "expected more than the 24 h"


@pytest.mark.parametrize("field", CHANGES)
@given(data=st.data())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_whatever_is_written_parser_and_schema_say_the_same(field: str, data: st.DataObject) -> None:
    spec = {**SMALLEST, field: data.draw(CHANGES[field] | ANYTHING)}
    try:
        parse_workflow(spec, "workflows/example/workflow.yml", {"run.py", "notebook.ipynb", "packages.txt"})
    except SpecError as error:
        assert all(mistake.startswith(f"workflows/example/workflow.yml: {field}") for mistake in error.mistakes)
        if ONLY_PARSER not in str(error):
            assert not VALIDATOR.is_valid(spec)
    else:
        assert not list(VALIDATOR.iter_errors(spec))
