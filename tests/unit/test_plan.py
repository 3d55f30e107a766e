"""The plan: cases in tests/plans/cloud/*.yml, but samples.yml, which has the resources that they start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from twinops import resources
from twinops.errors import SpecError
from twinops.names import Names
from twinops.plan import Change, Observed, diff, plan

FOLDER = Path(__file__).parents[1] / "plans/cloud"
CASES = [
    case
    for path in sorted(FOLDER.glob("*.yml"))
    if path.name != "samples.yml"
    for case in yaml.safe_load(path.read_text())
]
SAMPLES = yaml.safe_load((FOLDER / "samples.yml").read_text())
TYPES = resources.KINDS


def frozen(value: Any) -> Any:
    """YAML has lists where resources have tuples."""
    if isinstance(value, dict):
        return {key: frozen(inner) for key, inner in value.items()}
    return tuple(frozen(inner) for inner in value) if isinstance(value, list) else value


def resource(sample: dict[str, dict[str, Any]]) -> resources.Resource:
    ((kind, different),) = sample.items()
    return TYPES[kind](**frozen({"tags": Names("staging").tags, **SAMPLES[kind], **different}))


def spoken(change: Change) -> str:
    steps = f" ({', '.join(change.steps)})" if change.steps else ""
    return f"{change.action} {change.kind} {change.name}: {' '.join(change.fields)}{steps}"


def plan_of(case: dict[str, Any]) -> tuple[Change, ...]:
    observed = [resource(sample) for sample in case["observed"]]
    return plan(
        [resource(sample) for sample in case["desired"]],
        {(each.kind, each.name): Observed(each) for each in observed},
        absent=[(kind, SAMPLES[kind]["name"]) for kind in case.get("absent", [])],
    )


@pytest.mark.parametrize("case", [case for case in CASES if "error" not in case], ids=lambda case: case["case"])
def test_plan(case: dict[str, Any]) -> None:
    changes = plan_of(case)
    if "changes" in case:
        assert [spoken(change) for change in changes] == case["changes"]
    if "order" in case:
        assert [change.kind for change in changes] == case["order"]
    if "before" in case:
        assert diff(changes) == {"before": case["before"], "after": case["after"]}


@pytest.mark.parametrize("case", [case for case in CASES if "error" in case], ids=lambda case: case["case"])
def test_what_aws_cannot_do_is_refused(case: dict[str, Any]) -> None:
    with pytest.raises(SpecError) as refused:
        plan_of(case)
    assert case["error"] in str(refused.value)


def test_all_obstacles_are_reported_at_once() -> None:
    case = next(case for case in CASES if case["case"] == "Every obstacle is reported at once")
    with pytest.raises(SpecError) as refused:
        plan_of(case)
    assert len(refused.value.mistakes) == 2


def test_every_kind_comes_after_those_it_needs() -> None:
    assert set(TYPES.values()) == set(resources.Resource.__subclasses__())
    for place, kind in enumerate(resources.ORDER):
        assert resources.made_before(kind) <= set(resources.ORDER[:place]), kind


def test_long_texts_are_shown_line_by_line() -> None:
    script = resources.LifecycleConfig(name="twin", tags={}, on_start="#!/bin/sh\necho hello\n")
    assert diff(plan([script], {}))["after"] == {
        "lifecycle_config twin": {"tags": {}, "on_start": ["#!/bin/sh", "echo hello"]}
    }
