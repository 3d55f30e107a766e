"""The main job, end to end, on what the sandbox and the devices really hold afterwards."""

from __future__ import annotations

import email
import email.policy
import json
import re
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from twinops.aws import verdicts
from twinops.aws.registry import Registry, after

from sandbox import demo
from sandbox.estate import NAMES
from sandbox.settings import CLONE
from tests.sandbox.support import eventually
from tests.sandbox.test_redshift_data import Database

if TYPE_CHECKING:
    from tests.conftest import Demonstration, Sandbox

pytestmark = pytest.mark.sandbox


def test_check_on_an_empty_sandbox_writes_nothing(estate: Demonstration) -> None:
    assert estate.writes_of_empty_check == 0
    assert estate.empty_check.changed > 0, "an empty sandbox has everything to change"


def test_demo_ends_with_a_summary(estate: Demonstration) -> None:
    for word in ("Cloud", "Workflow runs", "Rollouts", "Devices", "Mails", "make jupyter", NAMES.ledger):
        assert word in estate.first.output


def test_run_is_in_the_ledger_with_the_exit_code_of_the_script(estate: Demonstration, sandbox: Sandbox) -> None:
    run = sandbox.succeeded_run("model_evaluation")
    assert run is not None
    status = (
        sandbox.settings.home
        / f"notebooks/{NAMES.twin('deployment')}/SageMaker/twinops/runs/{run['run_id']}/status.json"
    )
    assert run["exit_code"] == json.loads(status.read_text())["exit_code"] == 0
    assert run["git_sha"] == sandbox.run("git", "rev-parse", "HEAD").output.strip()


def test_report_is_in_the_versioned_bucket(estate: Demonstration, sandbox: Sandbox) -> None:
    run = sandbox.succeeded_run("model_evaluation")
    assert run is not None
    s3 = sandbox.client("s3")
    assert s3.get_bucket_versioning(Bucket=run["report_bucket"])["Status"] == "Enabled"
    body = s3.get_object(Bucket=run["report_bucket"], Key=run["report_key"])["Body"].read().decode()
    assert body.startswith("<!doctype html>") or body.startswith("<!DOCTYPE html>")
    assert "<svg" in body
    assert not re.search(r'(src|href)="https?://', body), "a report makes no external request"
    assert "v1" in body
    assert "v2" in body


def test_mail_names_the_run(estate: Demonstration, sandbox: Sandbox) -> None:
    run = sandbox.succeeded_run("model_evaluation")
    assert run is not None
    messages = [
        email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
        for file in (sandbox.settings.home / "mail").glob("*.eml")
    ]
    bodies = [message.get_content() for message in messages if "model_evaluation" in message["Subject"]]
    assert [run["run_id"] in body for body in bodies].count(True) == 1


def test_every_device_answers_v2_over_ssh(estate: Demonstration, sandbox: Sandbox) -> None:
    assert sandbox.device_versions() == dict.fromkeys(sandbox.devices(), "v2")
    assert len(sandbox.devices()) == 6


def test_the_registry_knows_which_model_was_champion_when_and_v3_never_was(
    estate: Demonstration, sandbox: Sandbox
) -> None:
    registry = Registry(sandbox.client("s3"), NAMES.bucket("models"), "shuttle-anomaly")
    history = registry.history()
    assert [event.version for event in history if event.action == "promote"] == ["v1", "v2"]
    assert {"v1", "v2", "v3"} <= set(after(history).versions)
    updated = sandbox.completed_rollout("v2")
    assert updated is not None
    for moment, champion in ((updated["started_at"], "v1"), (updated["ended_at"], "v2")):
        then = registry.champion(datetime.fromisoformat(moment.replace("Z", "+00:00")))
        assert then is not None
        assert (then.name, bool(then.git_sha), bool(then.data_version)) == (champion, True, True)


def test_the_evaluation_of_v3_is_where_the_gate_of_its_next_rollout_looks(
    estate: Demonstration, sandbox: Sandbox
) -> None:
    blocked = sandbox.blocked_rollout("v3")
    assert blocked is not None
    said = verdicts.read(sandbox.client("s3"), NAMES.bucket("data"), blocked["model_digest"])
    assert said is not None
    assert (said["verdict"], said["release"], said["champion"]) == ("block", "v3", "v2")


def test_the_reports_of_night_and_month_are_linked_and_have_an_answer(estate: Demonstration, sandbox: Sandbox) -> None:
    for name in ("drift_report", "model_evaluation", "monthly_report", "staging_triage"):
        run = sandbox.succeeded_run(name)
        assert run is not None, name
        assert re.search(
            rf"^  report {name} +\S+/{name}/{run['run_id']}/report.html$", estate.first.output, re.MULTILINE
        )


def test_the_drift_report_finds_nothing_and_keeps_its_rows(estate: Demonstration, sandbox: Sandbox) -> None:
    """The devices read what the model was trained on; device, group of features, and the verdict are in the table."""
    rows = Database(sandbox.client("redshift-data")).rows("select device, feature_group, verdict from drift_summary")
    devices = ["*", *sandbox.devices()]
    assert sorted(rows) == sorted([device, group, "none"] for device in devices for group in ("differences", "levels"))


def test_v3_is_recorded_as_rolled_back_and_nobody_runs_it(estate: Demonstration, sandbox: Sandbox) -> None:
    blocked = sandbox.blocked_rollout("v3")
    assert blocked is not None
    assert blocked["wave"] == "canary"
    others = dict.fromkeys(sandbox.devices()[1:], "pending")
    assert json.loads(blocked["devices"]) == {"device-001": "rolled_back", **others}
    canary = json.loads(sandbox.on_device("device-001", "twinops-edge", "status"))
    assert [entry["outcome"] for entry in canary["history"] if entry["release"] == "v3"][-1] == "rolled_back"
    statuses = [json.loads(sandbox.on_device(name, "twinops-edge", "status")) for name in sandbox.devices()[1:]]
    assert not [entry for status in statuses for entry in status["history"] if entry["release"] == "v3"]


def test_a_model_that_hangs_is_ended_by_the_probe_and_the_release_before_serves(
    estate: Demonstration, sandbox: Sandbox
) -> None:
    blocked = sandbox.blocked_rollout("v4-hangs")
    assert blocked is not None
    assert blocked["wave"] == "canary"
    assert "device-001: rolled_back: " in blocked["reason"]
    assert blocked["reason"] in estate.first.output, "the summary says why"
    canary = json.loads(sandbox.on_device("device-001", "twinops-edge", "status"))
    last = canary["history"][-1]
    assert (last["release"], last["outcome"]) == ("v4-hangs", "rolled_back"), "past the smoke test, not past the probe"
    assert (canary["release"], canary["health"]["status"]) == ("v2", "ok")


def test_what_is_current_is_signed_again_for_each_release_that_was_blocked(
    estate: Demonstration, sandbox: Sandbox
) -> None:
    """Devices that were out of reach when v3 or v4-hangs was taken back come back by it."""
    s3, bucket = sandbox.client("s3"), NAMES.bucket("models")
    listed = s3.list_objects_v2(Bucket=bucket, Prefix="tuf/targets/sandbox/")["Contents"]
    named = [json.load(s3.get_object(Bucket=bucket, Key=item["Key"])["Body"]) for item in listed if is_pointer(item)]
    assert [current["release"] for current in sorted(named, key=lambda current: current["serial"])] == [
        "v1",
        "v2",
        "v2",
        "v2",
    ]


def is_pointer(item: dict[str, str]) -> bool:
    return item["Key"].endswith(".current.json")


def test_what_ran_on_a_device_is_answered_for_past_times_before_and_after_a_rollback(
    estate: Demonstration, sandbox: Sandbox
) -> None:
    history = json.loads(sandbox.on_device("device-001", "twinops-edge", "status"))["history"]
    began = {entry["release"]: entry["at"] for entry in history if entry["outcome"] == "committed"}
    blocked = sandbox.blocked_rollout("v3")
    assert blocked is not None
    asked = {"v1": began["v1"], "v2": began["v2"], "v3": began["v3"]}
    for release, at in asked.items():
        shown = sandbox.playbook("playbooks/status.yml", "-e", "device=device-001", "-e", f"at={at}").output
        assert f"device-001 at {at[:19].replace('T', ' ')} UTC: {release}\n" in shown
    after = sandbox.playbook("playbooks/status.yml", "-e", "device=device-001", "-e", "at=2099-01-01T00:00Z").output
    assert "UTC: v2\n" in after
    assert f"back:    {blocked['reason']}" in after

    known_at = blocked["started_at"]
    then = sandbox.playbook("playbooks/status.yml", "-e", "device=device-001", "-e", f"known_at={known_at}").output
    assert re.findall(r"^\d{4}-\S+ \S+  (?:now|\d{4}-\S+ \S+) +(v\d) ", then, re.MULTILINE) == ["v2", "v1"]


def test_the_devices_are_shown_with_what_the_ledger_knows_of_one_that_is_off(
    estate: Demonstration, sandbox: Sandbox
) -> None:
    sandbox.command("device", "off", "device-005")
    try:
        shown = sandbox.playbook("playbooks/status.yml").output
    finally:
        sandbox.command("device", "on", "device-005")
        eventually(lambda: json.loads(sandbox.on_device("device-005", "twinops-edge", "status"))["health"])
    assert "6 devices: 5 ok, 1 unreachable. Releases: 5 v2, 1 none.\n" in shown
    assert re.search(r"^device-005 .*\n    known:   v2 since .*, says the ledger$", shown, re.MULTILINE)
    assert re.search(r"^device-001  canary  v2       [ab]     ok ", shown, re.MULTILINE)


def test_the_status_page_shows_what_the_demo_left(estate: Demonstration, sandbox: Sandbox) -> None:
    sandbox.run("make", "page", "ENV=sandbox")
    document = json.loads((CLONE / "build/status/sandbox.json").read_text())
    assert [source for source in document["sources"] if source["state"] == "failed"] == []
    assert [(device["release"], device["health"]) for device in document["devices"]] == [("v2", "ok")] * 6
    assert [rollout["release"] for rollout in document["rollouts"] if rollout["state"] == "blocked"] == [
        "v4-hangs",
        "v3",
    ]
    html = (CLONE / "public/index.html").read_text()
    assert [name for name in (*sandbox.devices(), "v4-hangs", "drift_report") if name not in html] == []


def test_second_demo_changes_nothing(estate: Demonstration) -> None:
    outcomes = re.findall(r"^      (.*) \([\d.]+ s\)$", estate.second.output, re.MULTILINE)
    assert len(outcomes) == len(demo.STEPS)
    assert [outcome for outcome in outcomes[:-1] if not outcome.startswith("nothing to change")] == []


def test_second_deployment_changes_nothing(estate: Demonstration, sandbox: Sandbox) -> None:
    writes = sandbox.call_count()["write"]
    done = sandbox.playbook("site.yml")
    assert done.changed == 0
    assert sandbox.call_count()["write"] == writes


def test_no_secret_in_any_log(estate: Demonstration, sandbox: Sandbox) -> None:
    """Neither a presigned URL nor a token nor a cookie ends up in a log."""
    forbidden = re.compile(r"authToken=|X-XSRFToken:|_xsrf=|X-Amz-Security-Token=", re.IGNORECASE)
    for log in (sandbox.settings.home / "logs").rglob("*.log"):
        assert not forbidden.search(log.read_text(errors="replace")), log
    logs = sandbox.client("logs")
    for group in logs.describe_log_groups()["logGroups"]:
        for event in logs.filter_log_events(logGroupName=group["logGroupName"])["events"]:
            assert not forbidden.search(event["message"]), group["logGroupName"]
