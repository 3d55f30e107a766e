"""The status document: what is read of an environment, judged."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from twinops.overview import document
from twinops.overview.model import Read

from sandbox.settings import CLONE
from tests.page import worlds
from tests.page.worlds import at, deployment, facts, rollout, run

SCHEMA = json.loads(Path(CLONE / "page/status.schema.json").read_text())


def said(read: Read) -> list[tuple[str, str]]:
    """Tone and headline, then tone and text of each item."""
    answer = document.assemble(read).answer
    return [(answer.tone, answer.headline), *((item.tone, item.text) for item in answer.items)]


def test_all_is_fine() -> None:
    assert said(worlds.healthy()) == [("ok", "v2 runs on 6 of 6 devices")]


def test_an_environment_without_anything_is_not_called_fine() -> None:
    assert said(worlds.empty()) == [("none", "Nothing was deployed here yet")]


def test_what_needs_somebody_comes_before_what_is_to_be_watched() -> None:
    assert said(worlds.troubled()) == [
        ("act", "3 things need somebody, 5 more to watch"),
        ("act", "1 of 6 devices failed"),
        ("act", "model_evaluation: the last run ended as FAILED"),
        ("act", "The cloud differs from git"),
        ("watch", "v3 was stopped at wave canary and taken back"),
        ("watch", "1 of 6 devices silent"),
        ("watch", "1 of 6 devices without v2"),
        ("watch", "Alarm twinops-staging-dead-letters"),
        ("watch", "The data of devices have drifted"),
    ]


def test_a_source_that_cannot_be_read_is_said_and_the_rest_is_shown() -> None:
    read = worlds.partial()
    assert said(read) == [
        ("watch", "This page is incomplete: reports and alarms could not be read"),
        ("watch", "This page is incomplete: reports and alarms could not be read"),
    ]
    made = document.assemble(read)
    assert made.quality == ()
    assert len(made.devices) == 6
    assert made.answer.items[0].detail == "GetObject: AccessDenied: not authorized to perform s3:GetObject"


def test_where_the_ledger_could_not_be_read_nothing_is_said_to_be_fine() -> None:
    failed = tuple(
        replace(source, state="failed", problem="no credentials") if source.name.startswith("ledger") else source
        for source in worlds.SOURCES
    )
    headline = "The ledger could not be read: how things are is not known"
    assert said(replace(worlds.empty(), sources=failed))[0] == ("act", headline)


GATES = [
    ("completed", {"wave": "fleet"}, ["passed", "passed", "passed"]),
    ("blocked", {"wave": "early", "reason": "too many"}, ["passed", "failed", "not reached"]),
    ("running", {"wave": "canary"}, ["running", "pending", "pending"]),
    ("running", {"wave": "early", "reason": "held: too few"}, ["passed", "held", "pending"]),
    ("superseded", {"wave": "early", "reason": "superseded by another"}, ["passed", "not reached", "not reached"]),
]


@pytest.mark.parametrize(("state", "other", "gates"), GATES)
def test_gates_follow_from_the_wave_that_a_rollout_reached(state: str, other: dict[str, Any], gates: list[str]) -> None:
    read = worlds.healthy()
    item = rollout("v3", dict.fromkeys(read.waves, "pending"), 1, state=state, **other)
    shown = document.assemble(replace(read, rollouts=(item, *read.rollouts))).rollouts[0]
    assert [(wave.name, wave.gate) for wave in shown.waves] == list(zip(("canary", "early", "fleet"), gates))


def test_a_wave_that_was_judged_leaves_the_next_one_running() -> None:
    read = worlds.healthy()
    states = {name: "committed" if wave == "canary" else "pending" for name, wave in read.waves.items()}
    item = rollout("v3", states, 1, state="running", wave="canary")
    shown = document.assemble(replace(read, rollouts=(item,))).rollouts[0]
    assert [wave.gate for wave in shown.waves] == ["passed", "running", "pending"]


def test_a_wave_has_the_times_and_states_of_its_devices() -> None:
    shown = document.assemble(worlds.healthy()).rollouts[0].waves
    assert [(wave.name, wave.devices) for wave in shown] == [
        ("canary", {"committed": 1}), ("early", {"committed": 2}), ("fleet", {"committed": 3}),
    ]  # fmt: skip
    assert {(wave.started_at, wave.ended_at) for wave in shown} == {(at(27.9), at(27.9))}


def test_a_release_that_was_stopped_and_still_runs_somewhere_needs_somebody() -> None:
    read = worlds.healthy()
    item = rollout("v3", {"device-001": "committed"}, 1, state="blocked", wave="canary", reason="dead")
    assert ("act", "v3 was stopped at wave canary, and 1 device still runs it") in said(
        replace(read, rollouts=(item, *read.rollouts))
    )


def test_what_a_later_rollout_has_mended_is_not_said_any_more() -> None:
    read = worlds.healthy()
    old = rollout("v3", {"device-001": "rolled_back"}, 40, state="blocked", wave="canary", reason="dead")
    assert said(replace(read, rollouts=(*read.rollouts, old)))[0][0] == "ok"


def test_a_rollout_at_work_is_told_with_its_wave() -> None:
    read = worlds.healthy()
    item = rollout("v3", dict.fromkeys(read.waves, "pending"), 1, state="running", wave="canary")
    (told,) = said(replace(read, rollouts=(item, *read.rollouts)))
    assert told == ("ok", f"v3 is being rolled out, wave canary: 0 of {len(read.waves)} devices run it")


def test_a_rollout_that_stands_still_for_hours_is_noticed() -> None:
    read = worlds.healthy()
    item = rollout("v3", dict.fromkeys(read.waves, "pending"), 7, state="running", wave="canary")
    assert ("watch", "The rollout of v3 has not ended for hours") in said(
        replace(read, rollouts=(item, *read.rollouts))
    )


def test_devices_stand_wave_after_wave_by_name() -> None:
    read = worlds.healthy(1001)
    mixed = dict(sorted(read.waves.items(), key=lambda item: worlds.digest(item[0])))
    assert list(mixed) != list(read.waves)
    made = document.assemble(replace(read, waves=mixed))
    assert [device.name for device in made.devices] == list(read.waves)


HEALTH: list[tuple[str, dict[str, Any], str]] = [
    ("it answers", {}, "ok"),
    ("its release says that it failed", {"health": {"status": "failed", "reason": "NaN"}}, "failed"),
    ("its release does not answer", {"health": None}, "failed"),
    ("it starts", {"health": {"status": "starting"}}, "starting"),
    ("it never had a release", {"release": None, "health": None}, "no release"),
    ("three of its reports are missing", {"heard_at": at(0.51)}, "silent"),
    ("two of its reports are missing", {"heard_at": at(0.49)}, "ok"),
    ("it reports once in two hours", {"heard_at": at(5.9), "interval_s": 7200}, "ok"),
    ("it says that it reports once a year", {"heard_at": at(19), "interval_s": 3e7}, "silent"),
    ("its model is not the signed one", {"model_file_sha256": "0" * 64}, "failed"),
    (
        "it tells nonsense",
        {"health": [], "release": {}, "interval_s": "x", "problems": 1, "disk": "full"},
        "no release",
    ),
]


@pytest.mark.parametrize(("changes", "health"), [case[1:] for case in HEALTH], ids=[case[0] for case in HEALTH])
def test_health_from_the_facts_of_a_device(changes: dict[str, Any], health: str) -> None:
    read = worlds.healthy()
    told = {**read.facts, "device-001": facts("device-001", "v2", **changes)}
    assert document.assemble(replace(read, facts=told)).devices[0].health == health


def notes(**changes: Any) -> tuple[str, ...]:
    read = worlds.healthy()
    told = {**read.facts, "device-001": facts("device-001", "v2", **changes)}
    return document.assemble(replace(read, facts=told)).devices[0].notes


def test_what_a_device_says_of_itself_is_noted() -> None:
    assert notes() == ()
    health = {"status": "failed", "reason": "model: NaN", "upload_error": "S3: 503", "spool_dropped": 1200}
    assert notes(health=health, reported_at=at(0.5)) == (
        "model: NaN", "upload: S3: 503", "1,200 decisions dropped", "its clock is 26 min behind",
    )  # fmt: skip
    assert notes(disk={"free_bytes": 4, "total_bytes": 100}, problems=["state.json: Permission denied"]) == (
        "its disk is 96% full", "state.json: Permission denied",
    )  # fmt: skip
    assert notes(target={"release": "v3"}, phase="staged", waiting={"release": "v3", "window": "22:00-04:30"}) == (
        "on the way to v3: staged", "waits with v3 for its maintenance window, 22:00-04:30 UTC",
    )  # fmt: skip


def test_what_a_device_says_is_bounded() -> None:
    found = notes(problems=["x" * 5000] * 100, reason="y" * 5000)
    assert len(found) == 6
    assert max(map(len, found)) == 300


def test_a_release_that_a_device_has_pulled_is_known_from_its_facts() -> None:
    read = worlds.healthy()
    pulled = {"at": at(1), "release": "v2", "release_digest": worlds.release("v2")["release_digest"]}
    told = {**read.facts, "device-001": facts("device-001", "v2", history=[pulled])}
    device = document.assemble(replace(read, facts=told, deployments=())).devices[0]
    assert (device.release, device.since, device.told_by) == ("v2", at(1), "device")


def without_facts(*events: dict[str, Any]) -> Any:
    read = worlds.healthy()
    return document.assemble(replace(read, facts={}, deployments=events)).devices[0]


def test_without_facts_the_ledger_tells_what_runs_but_not_how_it_is() -> None:
    device = without_facts(deployment("device-001", "v2", 28), deployment("device-001", "v1", 400))
    assert (device.release, device.health, device.told_by, device.last_seen) == ("v2", "unknown", "ledger", at(27.9))


def test_a_device_that_the_last_rollout_did_not_reach_runs_what_it_ran() -> None:
    missed = deployment("device-001", "v2", 28, "unreachable", valid_from="", reason="no connection")
    device = without_facts(missed, deployment("device-001", "v1", 400))
    assert (device.release, device.health, device.notes) == ("v1", "unreachable", ("no connection",))


def test_a_release_taken_back_leaves_the_one_before() -> None:
    events = [deployment("device-001", "v3", 2), deployment("device-001", "v3", 1, "rolled_back")]
    device = without_facts(*events, deployment("device-001", "v2", 28))
    assert device.release == "v2"


def test_silence_of_many_needs_somebody() -> None:
    read = worlds.healthy(100)
    for silent, tone in ((10, "watch"), (11, "act")):
        told = {name: facts(name, "v2", 600 if n < silent else 3) for n, name in enumerate(read.waves)}
        assert (tone, f"{silent} of 100 devices silent") in said(replace(read, facts=told))


WORKFLOWS: list[tuple[str, list[tuple[float, str]], str]] = [
    ("never ran", [], "never"),
    ("ran today", [(3, "SUCCEEDED")], "ok"),
    ("the last one failed", [(3, "FAILED"), (27, "SUCCEEDED")], "failed"),
    ("the last one was lost", [(3, "LOST")], "failed"),
    ("one at work hides no failure", [(0.1, "RUNNING"), (3, "TIMED_OUT")], "failed"),
    ("one at work after a good one", [(0.1, "RUNNING"), (3, "SUCCEEDED")], "running"),
    ("a skipped one says nothing", [(1, "SKIPPED"), (3, "SUCCEEDED")], "ok"),
    ("a cancelled one says nothing", [(1, "CANCELLED"), (3, "FAILED")], "failed"),
    ("missing for longer than it may", [(27, "SUCCEEDED")], "missing"),
]


@pytest.mark.parametrize(("runs", "state"), [case[1:] for case in WORKFLOWS], ids=[case[0] for case in WORKFLOWS])
def test_state_of_a_workflow(runs: list[tuple[float, str]], state: str) -> None:
    made = [run(number, hours, what) for number, (hours, what) in enumerate(runs)]
    shown = document.assemble(replace(worlds.healthy(), runs=tuple(made), results={})).workflows[0]
    assert shown.state == state


def test_a_workflow_that_left_the_repository_is_still_shown() -> None:
    read = worlds.healthy()
    made = document.assemble(replace(read, runs=(run(1, 1, workflow="gone"), *read.runs)))
    assert [(flow.name, flow.state) for flow in made.workflows] == [
        ("model_evaluation", "ok"), ("drift_report", "ok"), ("monthly_report", "never"), ("gone", "ok"),
    ]  # fmt: skip


def test_an_alarm_about_a_failed_workflow_is_said_once() -> None:
    read = worlds.healthy()
    alarms = tuple(
        {"name": f"twinops-staging-{name}", "reason": "", "since": at(1)}
        for name in ("failed-model_evaluation", "dispatch-errors")
    )
    texts = [text for _, text in said(replace(read, runs=(run(1, 1, "FAILED"), *read.runs), alarms=alarms))]
    assert texts[1:] == ["model_evaluation: the last run ended as FAILED", "Alarm twinops-staging-dispatch-errors"]


def test_quality_is_that_of_the_release_in_use_oldest_first() -> None:
    trend = document.assemble(worlds.healthy()).quality
    assert [point.release for point in trend] == ["v1"] * 12 + ["v2"] * 2
    assert trend[-1].macro_f1 == pytest.approx(0.9978)
    assert trend[-1].at > trend[0].at


def test_who_approved_and_signed_the_release() -> None:
    deployed = document.assemble(worlds.healthy()).deployed
    assert deployed is not None
    assert (deployed.release, deployed.approved_by, deployed.signed_by) == ("v2", "ada@example.com", ("staging-1",))


def test_a_deployment_that_failed_or_was_refused_needs_somebody() -> None:
    for state, told in (("failed", "failed"), ("refused", "was refused")):
        read = replace(worlds.healthy(), deployment=worlds.deployed(state=state, message="why"))
        assert said(read)[1:] == [("act", f"The deployment of {worlds.COMMIT[:12]} {told}")]


def test_what_differs_in_the_cloud_is_named_with_its_fields() -> None:
    made = document.assemble(worlds.troubled())
    assert [(each.what, each.detail) for each in made.drift if each.kind == "cloud"] == [
        ("rule twinops-staging-tick", "differs in schedule, state")
    ]
    assert (made.drift_checks[0].kind, made.drift_checks[0].at, made.drift_checks[0].findings) == ("cloud", at(6), 1)


def test_what_is_not_declared_any_more_is_to_be_watched() -> None:
    plan = {"at": at(1), "cloud": [], "orphans": [{"kind": "rule", "name": "twinops-staging-old"}]}
    read = replace(worlds.healthy(), plan=plan)
    assert said(read)[0] == ("watch", "The cloud differs from git")
    assert document.assemble(read).answer.items[0].detail == "rule twinops-staging-old"


def test_a_plan_that_was_deployed_is_no_difference_any_more() -> None:
    read = worlds.troubled()
    assert read.plan is not None
    plan = {**read.plan, "digest": "d" * 64}
    for state, expected in (("deployed", ["data"]), ("failed", ["data"]), ("refused", ["cloud", "data"])):
        done = replace(read, plan=plan, deployment=worlds.deployed(plan="d" * 64, state=state))
        assert [check.kind for check in document.assemble(done).drift_checks] == expected, state
    other = replace(read, plan=plan, deployment=worlds.deployed(plan="e" * 64))
    assert [check.kind for check in document.assemble(other).drift_checks] == ["cloud", "data"]


def test_devices_whose_data_have_drifted_come_before_those_that_might() -> None:
    made = document.assemble(worlds.troubled())
    assert [(each.tone, each.what, each.detail) for each in made.drift if each.kind == "data"] == [
        ("watch", "device-003: drift", "drifted: f4, f7"),
        ("none", "device-004: warn", "changed a little: f2"),
    ]
    assert (made.drift_checks[1].kind, made.drift_checks[1].at, made.drift_checks[1].findings) == ("data", at(2.49), 1)


def test_a_result_of_another_form_is_said_and_the_rest_is_shown() -> None:
    read = worlds.healthy()
    newer = {read.runs[0]["run_id"]: {"drift.json": {"schema": 2}}, read.runs[1]["run_id"]: {"metrics.json": {}}}
    made = document.assemble(replace(read, results={**read.results, **newer, "x": {"drift.json": {"devices": []}}}))
    assert made.answer.tone == "ok", "a comparison of no device found nothing"
    odd = {read.runs[0]["run_id"]: {"drift.json": {"devices": {"device-001": "drift"}}}}
    assert said(replace(read, results={**read.results, **odd}))[0] == ("watch", "The data of devices have drifted")


def test_only_the_newest_comparison_of_data_counts() -> None:
    read = worlds.healthy()
    older = run(60, 26, workflow="drift_report")
    found = {**read.results, older["run_id"]: {"drift.json": worlds.drift(**{"device-001": "drift"})}}
    assert said(replace(read, runs=(*read.runs, older), results=found))[0][0] == "ok"


WORLDS: list[Callable[[], Read]] = [
    worlds.healthy, worlds.troubled, worlds.empty, worlds.partial, worlds.hostile,
]  # fmt: skip


@pytest.mark.parametrize("world", WORLDS, ids=[world.__name__ for world in WORLDS])
def test_documents_fit_the_published_schema(world: Callable[[], Read]) -> None:
    jsonschema.validate(worlds.as_document(world()), SCHEMA)


def test_the_schema_refuses_what_the_page_does_not_know() -> None:
    made = worlds.as_document(worlds.healthy())
    made["devices"][0]["health"] = "splendid"
    with pytest.raises(jsonschema.ValidationError, match="splendid"):
        jsonschema.validate(made, SCHEMA)
