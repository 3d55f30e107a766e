"""Workflow specs: the cases are in tests/plans/spec, in words that need no Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from twinops.errors import SpecError
from twinops.schedule import schedule_mistake
from twinops.spec import matching_event, merge_parameters, parse_workflow

CASES = Path(__file__).parents[1] / "plans" / "spec"
WHERE = "workflows/example/workflow.yml"
FILES = {"run.py", "workflow.yml"}


def cases(name: str) -> Any:
    return yaml.safe_load((CASES / f"{name}.yml").read_text("utf-8"))


RIGHT = {case["name"]: case for case in cases("right")}
EVERYTHING = RIGHT["everything"]["spec"]


@pytest.mark.parametrize("case", RIGHT.values(), ids=RIGHT.keys())
def test_right(case: dict[str, Any]) -> None:
    workflow = parse_workflow(case["spec"], WHERE, FILES)
    found = {
        "name": workflow.name,
        "idempotent": workflow.idempotent,
        "concurrency": workflow.concurrency,
        "parameters": [[one.name, one.type, one.default] for one in workflow.parameters],
        "event": workflow.event,
        "topic": workflow.report.topic,
        "alarms": [workflow.alarms.failed, workflow.alarms.missing_after_h],
        "data_sources": list(workflow.data_sources),
    }
    expected = {"event": case["spec"].get("event"), "concurrency": "queue", **case["taken_for"]}
    assert found == expected
    for field in ("description", "owner", "entrypoint", "schedule", "timeout_s"):
        assert getattr(workflow, field) == case["spec"][field]


@pytest.mark.parametrize("case", cases("mistakes"), ids=lambda case: case["name"])
def test_mistakes(case: dict[str, Any]) -> None:
    spec = {**RIGHT["the smallest"]["spec"], **case["change"]}
    spec = {key: value for key, value in spec.items() if value is not None}
    with pytest.raises(SpecError) as caught:
        parse_workflow(spec, WHERE, FILES)
    assert list(caught.value.mistakes) == [f"{WHERE}: {mistake}" for mistake in case["mistakes"]]


@pytest.mark.parametrize("data", [None, "text", ["a"], 3])
def test_not_a_mapping(data: object) -> None:
    with pytest.raises(SpecError, match="expected a mapping of fields"):
        parse_workflow(data, WHERE, FILES)


@pytest.mark.parametrize("folder", ["Example", "1st", "a-b", "", "a" * 42])
def test_folder_name(folder: str) -> None:
    with pytest.raises(SpecError, match="folder: expected a name like model_evaluation"):
        parse_workflow(EVERYTHING, f"workflows/{folder}/workflow.yml", FILES)


@pytest.mark.parametrize("expression", cases("schedules")["right"])
def test_right_schedule(expression: str) -> None:
    assert schedule_mistake(expression) is None


@pytest.mark.parametrize(("expression", "mistake"), cases("schedules")["wrong"].items())
def test_wrong_schedule(expression: str, mistake: str) -> None:
    assert schedule_mistake(expression) == mistake


def test_parameters_of_an_event() -> None:
    workflow = parse_workflow(EVERYTHING, WHERE, FILES)
    assert merge_parameters(workflow, {"lookback_h": 1, "share": 0.5}) == {
        "lookback_h": 1,
        "share": 0.5,
        "device": "",
        "quick": False,
    }
    with pytest.raises(SpecError) as caught:
        merge_parameters(workflow, {"lookback_h": "1", "days": 3})
    assert caught.value.mistakes == (
        "example: parameters.lookback_h: expected an integer, got '1'",
        "example: parameters.days: expected one of lookback_h, share, device, quick, got an unknown name",
    )


@pytest.mark.parametrize(
    ("pattern", "event"),
    [
        ({"source": ["a", "b"]}, {"source": "a", "detail-type": "Started by hand", "detail": {}}),
        (
            {"source": [{"prefix": "x"}, "a"], "detail-type": ["T"], "detail": {"n": {"m": [1]}}},
            {"source": "a", "detail-type": "T", "detail": {"n": {"m": 1}}},
        ),
    ],
)
def test_matching_event(pattern: dict[str, Any], event: dict[str, Any]) -> None:
    assert matching_event(parse_workflow({**EVERYTHING, "event": pattern}, WHERE, FILES)) == event


@pytest.mark.parametrize(
    ("pattern", "mistake"),
    [
        ({"source": [{"prefix": "a"}]}, "event.source: expected a plain value"),
        ({"source": ["aws.s3"]}, "AWS reserves aws.s3"),
        ({"source": ["a"], "region": ["eu-central-1"]}, "event.region: expected no condition"),
    ],
)
def test_no_matching_event(pattern: dict[str, Any], mistake: str) -> None:
    with pytest.raises(SpecError, match=mistake):
        matching_event(parse_workflow({**EVERYTHING, "event": pattern}, WHERE, FILES))


def test_our_own_specs_are_right() -> None:
    specs = list(Path(__file__).parents[2].glob("workflows/*/workflow.yml"))
    assert specs
    for spec in specs:
        files = {path.name for path in spec.parent.iterdir()}
        parse_workflow(yaml.safe_load(spec.read_text("utf-8")), str(spec), files)
