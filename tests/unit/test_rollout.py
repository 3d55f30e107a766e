"""Whether a rollout is due, for whom, compared with what, and what the ledger says of it."""

from __future__ import annotations

from typing import Any

import pytest
from twinops import rollout
from twinops.errors import TwinopsError

NEW, OLD = "digest of v2", "digest of v1"
WAVES = {"canary": ["d1"], "early": ["d2"], "fleet": ["d3", "d4"]}
CHAMPION = {"release": "v1", "manifest_sha256": OLD, "hold_out": {"records": 9800, "alarms": 700}}
NOW = "2026-11-22T18:00:00.000000Z"


def runs(digest: str | None, *, records: int = 1000, phase: str = "committed", target: Any = None) -> dict[str, Any]:
    health = {"records": records, "alarms": records // 10}
    return {"release": "v", "release_digest": digest, "phase": phase, "target": target, "history": [], "health": health}


def plan(statuses: dict[str, Any], **changes: Any) -> rollout.Plan:
    arguments: dict[str, Any] = {
        "release": "v2",
        "release_digest": NEW,
        "current": CHAMPION,
        "hold_out": {"records": 9800, "alarms": 660},
        "waves": WAVES,
        "statuses": statuses,
        "rollouts": [],
        "now": NOW,
        "retry_blocked": False,
        "min_records": 500,
    }
    return rollout.make_plan(**{**arguments, **changes})


def entry(state: str, digest: str = NEW, rollout_id: str = "r1") -> dict[str, str]:
    return {"rollout_id": rollout_id, "release_digest": digest, "state": state, "reason": "no alarms"}


ALL_OLD = dict.fromkeys(["d1", "d2", "d3", "d4"], runs(OLD))
ALL_NEW = dict.fromkeys(["d1", "d2", "d3", "d4"], runs(NEW))


def test_a_new_release_is_a_trial_on_every_device() -> None:
    found = plan(ALL_OLD)
    assert (found.is_trial, found.is_resumed, found.devices) == (True, False, ("d1", "d2", "d3", "d4"))
    assert found.rollout_id == "20261122T180000000000Z-v2"


def test_nothing_is_due_where_every_device_runs_it() -> None:
    assert plan(ALL_NEW, current={**CHAMPION, "manifest_sha256": NEW}).rollout_id is None


def test_a_device_that_does_not_answer_opens_no_rollout() -> None:
    statuses = {**ALL_NEW, "d3": {"unreachable": True}, "d4": None}
    assert plan(statuses, current={**CHAMPION, "manifest_sha256": NEW}).rollout_id is None


def test_a_device_that_returns_catches_up_alone_and_without_a_trial() -> None:
    found = plan({**ALL_NEW, "d3": runs(OLD)}, current={**CHAMPION, "manifest_sha256": NEW})
    assert (found.devices, found.is_trial, found.baseline) == (("d3",), False, None)
    assert set(found.records_per_device.values()) == {0}


def test_a_device_in_the_middle_of_an_install_is_due() -> None:
    statuses = {**ALL_NEW, "d2": runs(NEW, phase="rolled-back", target={"release_digest": OLD})}
    assert plan(statuses, current={**CHAMPION, "manifest_sha256": NEW}).due == ("d2",)


def test_a_killed_rollout_is_resumed_under_its_id_even_if_all_devices_are_done() -> None:
    found = plan(ALL_NEW, rollouts=[entry("running")])
    assert (found.rollout_id, found.is_resumed, found.is_trial, found.due) == ("r1", True, True, ())
    assert found.devices == ("d1", "d2", "d3", "d4")


def test_a_rollout_of_another_release_is_superseded() -> None:
    found = plan(ALL_OLD, rollouts=[entry("running", "digest of v3", "r9")])
    assert (found.superseded, found.is_resumed) == (("r9",), False)


def test_a_blocked_release_is_refused_with_rollout_reason_and_the_way_to_insist() -> None:
    with pytest.raises(TwinopsError) as caught:
        plan(ALL_OLD, rollouts=[entry("blocked")])
    for part in ("v2", "r1", "no alarms", "-e edge_retry_blocked=true"):
        assert part in str(caught.value)


def test_a_blocked_release_may_be_tried_again_on_demand() -> None:
    assert plan(ALL_OLD, rollouts=[entry("blocked")], retry_blocked=True).rollout_id != "r1"


@pytest.mark.parametrize("since", [[], ["running"], ["running", "superseded"]])
def test_a_rollout_of_a_blocked_release_is_a_retry_also_when_it_is_resumed(since: list[str]) -> None:
    rollouts = [entry(state, rollout_id=f"r{10 - at}") for at, state in enumerate([*since, "blocked"])]
    found = plan(ALL_OLD, rollouts=rollouts, retry_blocked=not since)
    assert (found.is_retry, found.is_resumed) == (True, bool(since))


def test_a_rollout_of_a_release_that_was_completed_since_it_was_blocked_is_no_retry() -> None:
    assert not plan(ALL_OLD, rollouts=[entry("completed", rollout_id="r2"), entry("blocked")]).is_retry
    assert not plan(ALL_OLD, rollouts=[entry("blocked", "digest of v3")]).is_retry


def test_a_release_that_was_blocked_once_and_completed_later_is_not_refused() -> None:
    assert plan(ALL_OLD, rollouts=[entry("completed", rollout_id="r2"), entry("blocked")]).rollout_id


def test_an_empty_canary_is_one_clear_error() -> None:
    with pytest.raises(TwinopsError, match="edge_canary: expected at least one device, got none"):
        plan(ALL_OLD, waves={**WAVES, "canary": []})


def test_check_mode_before_the_first_build_expects_every_device_to_change() -> None:
    assert plan({**ALL_OLD, "d1": runs(None)}, release_digest=None).due == ("d1", "d2", "d3", "d4")


def test_the_baseline_is_the_champion_on_the_fleet() -> None:
    baseline = plan({**ALL_OLD, "d4": runs("digest of v0")}).baseline
    assert baseline is not None
    assert (baseline.records, baseline.alarms, baseline.of) == (3000, 300, "v1 on 3 devices")


def test_with_few_records_on_the_fleet_the_baseline_is_the_champion_s_hold_out() -> None:
    baseline = plan(dict.fromkeys(ALL_OLD, runs(OLD, records=100))).baseline
    assert baseline is not None
    assert (baseline.records, baseline.alarms) == (9800, 700)


def test_the_first_release_is_compared_with_its_own_hold_out() -> None:
    baseline = plan(dict.fromkeys(ALL_OLD, runs(None)), current=None).baseline
    assert baseline is not None
    assert (baseline.records, baseline.alarms) == (9800, 660)


def test_a_wave_is_watched_until_half_of_its_devices_suffice() -> None:
    waves = {"canary": ["d1"], "early": ["d2", "d3"], "fleet": ["d4", "d5", "d6"]}
    found = plan(dict.fromkeys(["d1", "d2", "d3", "d4", "d5", "d6"], runs(OLD)), waves=waves)
    assert found.records_per_device == {"canary": 500, "early": 250, "fleet": 167}


def history(outcome: str, digest: str = NEW, rollout_id: str = "r1") -> dict[str, Any]:
    return {"release_digest": digest, "rollout_id": rollout_id, "outcome": outcome, "reason": "why", "at": "t1"}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (None, ("unreachable", "no connection", "")),
        ({"unreachable": True}, ("unreachable", "no connection", "")),
        ({**runs(NEW), "history": [history("committed")]}, ("committed", "why", "t1")),
        ({**runs(OLD), "history": [history("committed"), history("rolled_back")]}, ("rolled_back", "why", "t1")),
        ({**runs(NEW), "history": [history("committed", NEW, "r0")]}, ("committed", "ran it before this rollout", "")),
        ({**runs(OLD), "history": [history("failed", "digest of v3")]}, ("failed", "runs v, phase committed", "")),
    ],
)
def test_outcome_of_a_device(status: Any, expected: tuple[str, str, str]) -> None:
    assert rollout.outcome(status, NEW, "r1") == expected


def test_only_devices_that_run_it_or_were_on_the_way_are_taken_back() -> None:
    statuses = {
        "d1": runs(NEW),
        "d2": runs(OLD),
        "d3": runs(OLD, phase="switched", target={"release_digest": NEW}),
        "d4": {"unreachable": True},
    }
    assert rollout.to_roll_back(["d1", "d2", "d3", "d4", "d5"], statuses, NEW) == ["d1", "d3"]


def test_what_ansible_registered_becomes_a_status() -> None:
    results = {"d1": {"device_status": {"release": "v1"}}, "d2": {"unreachable": True, "device_status": {}}, "d3": {}}
    assert rollout.read_results(results) == {"d1": {"release": "v1"}, "d2": {"unreachable": True}, "d3": None}


def test_the_end_in_a_sentence() -> None:
    ended = {"d1": "rolled_back", "d2": "failed", "d3": "unreachable", "d4": "pending"}
    assert rollout.describe_end(ended) == (
        "Rolled back: d1. Never ran it: d2. Not reached: d3; the next run brings them up to date."
    )
