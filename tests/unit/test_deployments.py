"""What ran on a device when: cases in tests/plans/deployments.yml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from twinops import deployments
from twinops.errors import TwinopsError

CASES = yaml.safe_load((Path(__file__).parents[1] / "plans/deployments.yml").read_text())


def minute(number: int | None) -> str:
    return "" if number is None else f"2026-11-23T04:{number:02}:00.000000Z"


def event(at: int | None, state: str, release: str, learnt: int) -> dict[str, str]:
    return {
        "release": release,
        "release_digest": f"digest of {release}",
        "model_digest": f"model of {release}",
        "git_sha": f"commit of {release}",
        "state": state,
        "reason": "too many alarms" if state == "rolled_back" else "",
        "rollout_id": f"rollout of {release}",
        "valid_from": minute(at),
        "recorded_at": minute(learnt),
    }


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_periods(case: dict[str, Any]) -> None:
    events = [event(*each) for each in case["events"]]
    found = deployments.periods(events, known_at=minute(case.get("known_at")))
    assert [(each.release, each.since, each.until) for each in found] == [
        (release, minute(since), minute(until)) for release, since, until in case["ran"]
    ]


def test_a_period_says_all_about_its_release_and_why_the_device_came_back_to_it() -> None:
    events = [event(1, "committed", "v1", 2), event(10, "committed", "v2", 11), event(20, "rolled_back", "v2", 21)]
    back = deployments.periods(events)[-1]
    assert (back.release_digest, back.model_digest, back.git_sha) == ("digest of v1", "model of v1", "commit of v1")
    assert (back.rollout_id, back.why, back.recorded_at) == ("rollout of v2", "too many alarms", minute(21))


@pytest.mark.parametrize(("asked", "release"), [(0, None), (1, "v1"), (9, "v1"), (10, "v2"), (59, "v2")])
def test_what_ran_at_a_moment(asked: int, release: str | None) -> None:
    found = deployments.periods([event(1, "committed", "v1", 2), event(10, "committed", "v2", 11)])
    period = deployments.at(found, minute(asked))
    assert (period and period.release) == release


def test_a_device_tells_what_the_ledger_has_not_learnt_yet() -> None:
    recorded = [event(1, "committed", "v1", 2)]
    told = [
        {"at": minute(at), "release": release, "release_digest": f"digest of {release}", "outcome": "committed",
         "reason": None, "rollout_id": None}
        for at, release in ((1, "v1"), (10, "v2"), (20, "v1"))
    ]  # fmt: skip
    found = deployments.periods(deployments.with_history(recorded, told))
    assert [(each.release, each.since, each.recorded_at) for each in found] == [
        ("v1", minute(1), minute(2)), ("v2", minute(10), ""), ("v1", minute(20), "")
    ]  # fmt: skip
    assert found[-1].model_digest == "model of v1", "what the ledger knows of that release holds for each time of it"
    assert found[1].model_digest == ""


@pytest.mark.parametrize(
    "text", ["2026-11-23T04:00:00Z", "2026-11-23T04:00Z", "2026-11-23 05:00+01:00", "2026-11-23T04:00:00.000000Z"]
)
def test_a_moment_as_people_write_it(text: str) -> None:
    assert deployments.moment_of(text, "at") == minute(0)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-11-23T04:00:00", "2026-11-23", "2026-13-01T00:00Z"])
def test_a_moment_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(TwinopsError, match="at: expected a time with its zone, such as 2026-11-23T04:00:00Z, got "):
        deployments.moment_of(text, "at")
