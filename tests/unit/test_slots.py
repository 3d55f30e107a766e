"""The transition table of the slots. The cases of what to do first are in tests/plans/slots, in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from twinops import slots

CASES = yaml.safe_load((Path(__file__).parents[1] / "plans/slots/choices.yml").read_text("utf-8"))


def named(release: str, slot: str) -> dict[str, str]:
    return {"slot": slot, "release": release, "release_digest": f"digest of {release}"}


def found(*, phase: str, runs: str | None = None, target: str | None = None, **_: object) -> dict[str, Any]:
    state = {**slots.empty_state(), "phase": phase}
    if runs:
        state.update(named(runs, "a"))
    return {**state, "target": named(target, "b") if target else None}


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_what_to_do_first(case: dict[str, Any]) -> None:
    choice = slots.choose(found(**case["found"]), "digest of v2", case["found"]["linked"])
    assert choice.action == case["action"], choice.why


def test_a_link_that_somebody_moved_is_no_release_that_runs() -> None:
    assert slots.choose(found(phase="committed", runs="v2"), "digest of v2", "b").action == slots.INSTALL


def test_the_way_of_an_install() -> None:
    state = slots.begin(found(phase="committed", runs="v1"), named("v2", "b"), "r1")
    for phase in ("fetched", "verified", "staged", "smoke-tested", "switched", "probing"):
        state = slots.enter(state, phase)
    state = slots.commit(state, "t1")
    assert (state["phase"], state["release"], state["slot"], state["target"]) == ("committed", "v2", "b", None)
    assert state["previous"] == named("v1", "a")
    assert [(entry["outcome"], entry["rollout_id"]) for entry in state["history"]] == [("committed", "r1")]


def test_a_failure_before_the_switch_keeps_what_runs_and_says_why() -> None:
    state = slots.enter(slots.begin(found(phase="committed", runs="v1"), named("v2", "b"), "r1"), "fetched")
    state = slots.fail(state, "t1", "the disk is full")
    assert (state["phase"], state["release"], state["target"]) == ("committed", "v1", None)
    assert (state["reason"], state["history"][-1]["outcome"]) == ("the disk is full", "failed")


def test_a_slot_about_to_be_overwritten_is_no_way_back() -> None:
    state = {**found(phase="committed", runs="v2"), "previous": named("v1", "b")}
    state = slots.begin(state, named("v3", "b"), "r1")
    state = slots.enter(slots.enter(state, "fetched"), "verified")
    assert state["previous"] == named("v1", "b")
    assert slots.enter(state, "staged")["previous"] is None


def test_a_way_back_for_the_fleet_ends_rolled_back_and_forgets_what_it_left() -> None:
    state = {**found(phase="committed", runs="v3"), "previous": named("v2", "b")}
    target = slots.reverts(state, "no alarms")
    assert target is not None
    state = slots.enter(slots.begin(state, target, "r1"), "verified")
    state = slots.commit(slots.enter(slots.enter(state, "switched"), "probing"), "t1")
    assert (state["phase"], state["release"], state["previous"], state["target"]) == ("rolled-back", "v2", None, None)
    last = state["history"][-1]
    assert (last["release"], last["outcome"], last["reason"]) == ("v3", "rolled_back", "no alarms")


def test_without_an_earlier_release_there_is_no_way_back() -> None:
    assert slots.reverts(found(phase="committed", runs="v1"), "why") is None


def test_steps_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="committed -> switched"):
        slots.enter(found(phase="committed", runs="v1"), "switched")


def test_the_history_has_an_end() -> None:
    state = found(phase="committed", runs="v1")
    for number in range(slots.HISTORY_LENGTH + 5):
        state = slots.fail(slots.begin(state, named("v2", "b"), str(number)), "t", "why")
    assert [entry["rollout_id"] for entry in state["history"]][-1] == str(slots.HISTORY_LENGTH + 4)
    assert len(state["history"]) == slots.HISTORY_LENGTH


@given(
    phase=st.sampled_from(sorted(slots.TRANSITIONS)),
    runs=st.sampled_from([None, "v1", "v2"]),
    target=st.sampled_from(["v2", "v3"]),
    linked=st.sampled_from([None, "a", "b"]),
)
def test_nothing_is_only_ever_chosen_when_it_runs_and_nothing_is_open(
    phase: str, runs: str | None, target: str, linked: str | None
) -> None:
    state = found(phase=phase, runs=runs, target=None if phase in ("idle", "committed") else target)
    if slots.choose(state, "digest of v2", linked).action == slots.NOTHING:
        assert (runs, linked, state["target"]) == ("v2", "a", None)
