"""From an event on the bus to the exit code in the ledger: real rules, functions, Jupyter terminals, scripts and mails.

The workflows of these tests live in a clone of this work tree that has one folder more; the sandbox is their own.
"""

from __future__ import annotations

import gzip
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from twinops import release
from twinops.aws.registry import Registry, Version
from twinops.aws.registry import after as state_after
from twinops.runs import FINISHED, Run, timestamp

from dispatch.claims import claim_of
from sandbox.settings import CLONE
from tests.sandbox.dispatching import NAMES, RUN_WITHIN_S, Dispatching, deploy, make_repository
from tests.sandbox.support import OwnSandbox, eventually

pytestmark = pytest.mark.sandbox

SPEC = """\
description: Does what its parameters say.
owner: mlops@example.com
entrypoint: run.py
event: {source: [twinops.tests], detail-type: [Probe requested]}
parameters:
  exit_code: {type: integer, default: 0}
  sleep_s: {type: integer, default: 0}
  mark: {type: string, default: none}
timeout_s: 6
"""

SCRIPT = """\
import json, os, pathlib, subprocess, sys, time
run = json.loads(pathlib.Path(os.environ["TWINOPS_RUN"]).read_text())
output = pathlib.Path(os.environ["TWINOPS_OUTPUT"])
mark = run["parameters"]["mark"]
with open(pathlib.Path.home() / f"effect-{mark}", "a") as effect:
    effect.write("x")
print("hello from", mark, flush=True)
sys.stdout.buffer.write(b"not UTF-8: \\xff\\n")
sys.stdout.flush()
(output / "report.html").write_text(f"<h1>{mark}</h1>")
(output / "summary.txt").write_text(f"{mark} is done\\n\\nMore about {mark}.\\n")
(output / "metrics.json").write_text('{"Effects": 1}')
child = subprocess.Popen(["sleep", str(run["parameters"]["sleep_s"] * 10)])
(pathlib.Path.home() / f"child-{mark}").write_text(str(child.pid))
hold = pathlib.Path.home() / f"hold-{mark}"
while hold.exists():
    time.sleep(0.05)
time.sleep(run["parameters"]["sleep_s"])
sys.exit(run["parameters"]["exit_code"])
"""


NOTEBOOK_SPEC = """\
description: Does it in a notebook.
owner: mlops@example.com
entrypoint: notebook.ipynb
event: {source: [twinops.tests], detail-type: [Notebook requested]}
parameters:
  answer: {type: integer, default: 42}
timeout_s: 120
"""

NOTEBOOK = {
    "cells": [
        {"source": "answer = 0", "metadata": {"tags": ["parameters"]}},
        {"source": "print('the answer is', answer)\nassert answer == 42", "metadata": {}},
    ],
    "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}
for number, cell in enumerate(NOTEBOOK["cells"]):
    cell.update({"cell_type": "code", "id": str(number), "execution_count": None, "outputs": []})

OWN_SPEC = """\
description: Has packages of its own, and a report that is linked.
owner: mlops@example.com
entrypoint: run.py
event: {source: [twinops.tests], detail-type: [Own requested]}
environment: {lock: packages.txt}
report: {attach: link}
timeout_s: 60
"""

OWN_SCRIPT = """\
import importlib.util, os, pathlib
has = [name for name in ("boto3", "pandas") if importlib.util.find_spec(name)]
pathlib.Path(os.environ["TWINOPS_OUTPUT"], "report.html").write_text(f"I have {has}")
"""

OWN_LOCK = "# other than that of the runner\n" + (CLONE / "workflows/runner.txt").read_text()

WORKFLOWS = {
    "probe": {"workflow.yml": SPEC, "run.py": SCRIPT},
    "own_probe": {"workflow.yml": OWN_SPEC, "run.py": OWN_SCRIPT, "packages.txt": OWN_LOCK},
    "notebook_probe": {"workflow.yml": NOTEBOOK_SPEC, "notebook.ipynb": json.dumps(NOTEBOOK)},
}

GROUP = NAMES.schedule_group
ZONED = "zoned_probe"
ZONE = "Asia/Kathmandu"
"""No hour of which is one of UTC: its offset is 5:45."""
ZONED_SPEC = f"""\
description: Counts, at a time in Nepal.
owner: mlops@example.com
entrypoint: run.py
schedule: cron(0 5 1 1 ? *)
timezone: {ZONE}
timeout_s: 60
"""


@pytest.fixture(scope="module")
def dispatching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dispatching]:
    repository = tmp_path_factory.mktemp("repository") / "twinops"
    own = OwnSandbox()
    try:
        zoned = {"workflow.yml": ZONED_SPEC, "run.py": "print('it is time')\n"}
        make_repository(repository, {**WORKFLOWS, ZONED: zoned})
        yield deploy(own, repository)
    finally:
        own.remove()


def test_an_event_becomes_a_run_with_report_log_metrics_and_one_mail(dispatching: Dispatching) -> None:
    run = dispatching.end_of(dispatching.put_event(mark="fine"))
    assert (run["state"], run["exit_code"], run["epoch"]) == ("SUCCEEDED", 0, 1)
    assert dispatching.effects("fine") == 1

    report = dispatching.own.client("s3").get_object(Bucket=run["report_bucket"], Key=run["report_key"])
    assert report["Body"].read() == b"<h1>fine</h1>"
    assert run["report_key"] == f"probe/{run['run_id']}/report.html"

    stream = {"logGroupName": run["log_group"], "logStreamName": run["log_stream"]}
    events = dispatching.own.client("logs").get_log_events(**stream, startFromHead=True)["events"]
    lines = [event["message"] for event in events]
    assert "hello from fine" in lines
    assert "not UTF-8: \ufffd" in lines

    (mail,) = dispatching.mails_about(run)
    assert "Subject: [twinops sandbox] probe: fine is done" in mail
    for told in ("More about fine.", run["log_stream"], run["report_key"], "exit code 0"):
        assert told in mail
    eventually(lambda: metric(dispatching, "Effects") == 1)
    eventually(lambda: metric(dispatching, "RunFailed") is not None)


def metric(dispatching: Dispatching, name: str) -> float | None:
    """The greatest value of a metric of the probe in the last hour."""
    now = time.time()
    points = dispatching.own.client("cloudwatch").get_metric_statistics(
        Namespace="twinops/sandbox", MetricName=name, Dimensions=[{"Name": "Workflow", "Value": "probe"}],
        StartTime=now - 3600, EndTime=now + 60, Period=3600, Statistics=["Maximum"],
    )["Datapoints"]  # fmt: skip
    return max((float(point["Maximum"]) for point in points), default=None)


def test_a_failing_script_has_its_exit_code_everywhere(dispatching: Dispatching) -> None:
    run = dispatching.end_of(dispatching.put_event(mark="broken", exit_code=3))
    assert (run["state"], run["exit_code"], run["epoch"]) == ("FAILED", 3, 1)
    assert dispatching.effects("broken") == 1
    (mail,) = dispatching.mails_about(run)
    assert "Subject: [twinops sandbox] probe: FAILED" in mail
    for told in ("exit code 3", "What to do", run["log_stream"], "playbooks/invoke.yml"):
        assert told in mail
    assert eventually(lambda: metric(dispatching, "RunFailed")) == 1
    eventually(lambda: alarm_state(dispatching, "probe") == "ALARM")
    status = json.loads((dispatching.home / f"SageMaker/twinops/runs/{run['run_id']}/status.json").read_text())
    assert (status["state"], status["exit_code"]) == ("FAILED", 3)


def alarm_state(dispatching: Dispatching, workflow: str) -> str:
    """Of the alarm on failed runs of a workflow."""
    name = NAMES.workflow_alarm("failed", workflow)
    (alarm,) = dispatching.own.client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"]
    return str(alarm["StateValue"])


def test_a_failing_notebook_has_its_exit_code_everywhere(dispatching: Dispatching) -> None:
    run = dispatching.end_of(dispatching.put_event("Notebook", answer=1))
    assert (run["state"], run["exit_code"], run["reason"]) == ("FAILED", 1, "the script ended with exit code 1")
    (mail,) = dispatching.mails_about(run)
    assert "Subject: [twinops sandbox] notebook_probe: FAILED" in mail
    assert "exit code 1" in mail
    eventually(lambda: alarm_state(dispatching, "notebook_probe") == "ALARM")


@pytest.mark.parametrize("via", ["event", "backup"])
@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_a_script_and_a_notebook_are_started_by_hand(dispatching: Dispatching, workflow: str, via: str) -> None:
    options = (f"workflow={workflow}", f"via={via}", f"repository={dispatching.repository}", "wait_s=90")
    shown = dispatching.playbook("invoke", *options, acting_as="mlops").stdout
    assert "state: SUCCEEDED" in shown
    assert f"workflow: {workflow}" in shown
    assert "exit_code: 0" in shown


@pytest.mark.usefixtures("misled")
def test_a_script_and_a_notebook_are_started_by_their_schedule(dispatching: Dispatching) -> None:
    """Their deployed rules, which get a schedule for a minute, and the one in a time zone another time."""
    events = dispatching.own.client("events")
    rules = [events.describe_rule(Name=NAMES.rule(workflow)) for workflow in WORKFLOWS]
    deployed = [{key: rule[key] for key in ("Name", "EventPattern", "State")} for rule in rules]
    began = timestamp(datetime.now(timezone.utc))
    try:
        for rule in deployed:
            events.put_rule(**rule, ScheduleExpression="cron(* * * * ? *)")
        with on_the_next_minutes(dispatching, ZONED):
            started = (*WORKFLOWS, ZONED)
            found = [eventually(lambda name=name: run_since(dispatching, name, began), 150) for name in started]
    finally:
        for rule in deployed:
            events.put_rule(**rule)
    for run in found:
        assert (run["state"], run["exit_code"], run["epoch"]) == ("SUCCEEDED", 0, 1)
        assert len(dispatching.mails_about(run)) == 1
    zoned = found[-1]
    assert re.fullmatch(rf"{ZONED}@\d{{4}}-\d\d-\d\dT\d\d:\d\d:00Z", zoned["event_id"])
    assert abs(datetime.fromisoformat(zoned["event_id"].partition("@")[2]) - datetime.now(timezone.utc)).seconds < 300


@contextmanager
def on_the_next_minutes(dispatching: Dispatching, workflow: str) -> Iterator[None]:
    """The deployed schedule of a workflow has the hour that it is now in its zone."""
    scheduler, named = dispatching.own.client("scheduler"), {"Name": NAMES.schedule(workflow), "GroupName": GROUP}
    found = scheduler.get_schedule(**named)
    kept = ("ScheduleExpressionTimezone", "FlexibleTimeWindow", "Target", "State", "Description")
    deployed = {**named, **{field: found[field] for field in kept}}
    hour = datetime.now(ZoneInfo(ZONE)).hour
    scheduler.update_schedule(**deployed, ScheduleExpression=f"cron(* {hour},{(hour + 1) % 24} * * ? *)")
    try:
        yield
    finally:
        scheduler.update_schedule(**deployed, ScheduleExpression=found["ScheduleExpression"])


@pytest.fixture(scope="module")
def misled(dispatching: Dispatching) -> str:
    """A schedule whose target its role may not call: the backup. Made before the tests that wait for a minute."""
    scheduler = dispatching.own.client("scheduler")
    deployed = scheduler.get_schedule(Name=NAMES.schedule(ZONED), GroupName=GROUP)
    backup = deployed["Target"]["Arn"].replace(NAMES.function("dispatch"), NAMES.function("backup"))
    scheduler.create_schedule(
        Name="misled",
        GroupName=GROUP,
        ScheduleExpression="cron(* * * * ? *)",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={**deployed["Target"], "Arn": backup},
    )
    return str(backup)


def test_a_time_that_cannot_be_delivered_is_in_the_dead_letters(dispatching: Dispatching, misled: str) -> None:
    """The role of schedules may call the dispatcher, no other function."""
    scheduler, queues = dispatching.own.client("scheduler"), dispatching.own.client("sqs")
    queue = queues.get_queue_url(QueueName=NAMES.dead_letters)["QueueUrl"]
    read = {"QueueUrl": queue, "MessageAttributeNames": ["All"]}
    try:
        (letter,) = eventually(lambda: queues.receive_message(**read).get("Messages"), 90)
    finally:
        scheduler.delete_schedule(Name="misled", GroupName=GROUP)
    queues.delete_message(QueueUrl=queue, ReceiptHandle=letter["ReceiptHandle"])
    assert json.loads(letter["Body"])["workflow"] == ZONED
    told = {name: value["StringValue"] for name, value in letter["MessageAttributes"].items()}
    assert (told["ERROR_CODE"], told["TARGET_ARN"]) == ("AccessDeniedException", misled)


def run_since(dispatching: Dispatching, workflow: str, began: str) -> Run | None:
    """The first run of a workflow that was claimed since then, when it has ended."""
    runs = [run for run in dispatching.ledger.runs(workflow=workflow) if run["claimed_at"] >= began]
    return runs[-1] if runs and runs[-1]["state"] in FINISHED else None


def test_a_script_that_takes_too_long_is_ended_with_its_children(dispatching: Dispatching) -> None:
    run = dispatching.end_of(dispatching.put_event(mark="slow", sleep_s=60))
    assert run["state"] == "TIMED_OUT"
    assert "exit_code" not in run
    assert 6 <= run["duration_s"] < 30
    child = int((dispatching.home / "child-slow").read_text())
    eventually(lambda: not Path(f"/proc/{child}").exists())
    (mail,) = dispatching.mails_about(run)
    assert "it was ended after 6 s (timeout_s of its spec)" in mail


@pytest.mark.parametrize(("answer", "state", "exit_code"), [(42, "SUCCEEDED", 0), (1, "FAILED", 1)])
def test_a_notebook_is_executed_and_kept(dispatching: Dispatching, answer: int, state: str, exit_code: int) -> None:
    run = dispatching.end_of(dispatching.put_event("Notebook", answer=answer))
    assert (run["state"], run["exit_code"]) == (state, exit_code)
    key = f"notebook_probe/{run['run_id']}/notebook.ipynb"
    kept = dispatching.own.client("s3").get_object(Bucket=NAMES.bucket("reports"), Key=key)["Body"].read().decode()
    assert f"the answer is {answer}" in kept


def test_a_workflow_has_packages_of_its_own_and_a_link_to_its_report(dispatching: Dispatching) -> None:
    run = dispatching.end_of(dispatching.put_event("Own"))
    assert (run["state"], run["exit_code"]) == ("SUCCEEDED", 0)
    (mail,) = dispatching.mails_about(run)
    (link,) = [word for word in mail.split() if "X-Amz-Signature=" in word]
    with urllib.request.urlopen(link, timeout=20) as answer:  # noqa: S310 (loopback)
        assert answer.read() == b"I have ['boto3']"
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(link[:-4] + "0000", timeout=20)  # noqa: S310 (loopback)


def test_a_wrong_parameter_is_a_named_failure(dispatching: Dispatching) -> None:
    run = dispatching.end_of(dispatching.put_event(mark="wrong", exit_code="3"))
    assert (run["state"], "exit_code" in run) == ("FAILED", False)
    assert run["reason"] == "probe: parameters.exit_code: expected an integer, got '3'"
    assert dispatching.effects("wrong") == 0


def test_an_event_delivered_ten_times_runs_once(dispatching: Dispatching) -> None:
    payload = dispatching.payload(mark="duplicate")
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: dispatching.invoke("dispatch", payload), range(10)))
    assert not [answer for answer in answers if answer["failed"]]
    assert sorted(answer["outcome"] for answer in answers) == ["duplicate"] * 9 + ["started"]
    run = dispatching.end_of(payload["event_id"])
    assert (run["state"], run["epoch"]) == ("SUCCEEDED", 1)
    assert dispatching.invoke("dispatch", payload)["outcome"] == "duplicate", "also after its end"
    assert dispatching.invoke("backup", payload)["outcome"] == "moved on"
    assert dispatching.effects("duplicate") == 1
    assert len(dispatching.mails_about(run)) == 1


def test_a_commit_that_is_nowhere_ends_the_run_with_the_reason(dispatching: Dispatching) -> None:
    payload = {**dispatching.payload(mark="nowhere"), "git_sha": "0" * 40}
    assert dispatching.invoke("dispatch", payload)["outcome"] == "started"
    run = dispatching.end_of(payload["event_id"])
    assert (run["state"], "exit_code" in run) == ("FAILED", False)
    assert run["reason"].startswith(f"commit {'0' * 40} could not be fetched from {dispatching.repository}")
    assert dispatching.effects("nowhere") == 0


def test_terminals_are_cleared_away_and_no_url_is_logged(dispatching: Dispatching) -> None:
    dispatching.end_of(dispatching.put_event(mark="tidy"))
    logs = dispatching.own.client("logs")
    groups = [group["logGroupName"] for group in logs.describe_log_groups()["logGroups"]]
    assert "/aws/lambda/twinops-sandbox-dispatch" in groups
    for group in groups:
        for event in logs.filter_log_events(logGroupName=group)["events"]:
            assert "authToken" not in event["message"], group
            assert "_xsrf" not in event["message"], group

    def shells() -> list[Path]:
        return [
            process
            for process in Path("/proc").glob("[0-9]*")
            if environment_of(process).get("HOME") == str(dispatching.home) and command_of(process) == "/bin/bash"
        ]

    eventually(lambda: not shells())  # the function may see the acknowledgement only after a quick run has ended


def environment_of(process: Path) -> dict[str, str]:
    try:
        pairs = (process / "environ").read_text(errors="replace").split("\0")
    except OSError:
        return {}
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def command_of(process: Path) -> str:
    try:
        return (process / "cmdline").read_text(errors="replace").partition("\0")[0]
    except OSError:
        return ""


def test_a_stopped_twin_is_started_and_the_backup_runs_it(dispatching: Dispatching) -> None:
    sagemaker = dispatching.own.client("sagemaker")
    twin = {"NotebookInstanceName": NAMES.twin("deployment")}

    def status() -> str:
        return str(sagemaker.describe_notebook_instance(**twin)["NotebookInstanceStatus"])

    sagemaker.stop_notebook_instance(**twin)
    eventually(lambda: status() == "Stopped")
    events = [dispatching.put_event(mark="asleep"), dispatching.put_event("Notebook")]
    for run in map(dispatching.end_of, events):
        assert (run["state"], run["exit_code"], run["epoch"]) == ("SUCCEEDED", 0, 2)
        assert len(dispatching.mails_about(run)) == 1
    assert status() == "InService"
    assert dispatching.effects("asleep") == 1


def put_into_ledger(dispatching: Dispatching, payload: dict[str, Any], *, heartbeat: bool) -> str:
    """A run whose dispatcher, or twin, has not been heard of for half an hour; its id."""
    claim, ledger = claim_of(payload, "sandbox"), dispatching.ledger
    assert ledger.claim(claim, dispatcher="one that died") == 1
    if heartbeat:
        assert ledger.start(claim["run_id"], 1, runner="one that died", log_stream=f"{claim['run_id']}/1")
    long_ago = timestamp(datetime.now(timezone.utc) - timedelta(minutes=30))
    aged = {"heartbeat_at" if heartbeat else "claimed_at": long_ago}
    assert ledger._change_run(claim["run_id"], aged, condition="attribute_exists(pk)", values={})
    return str(claim["run_id"])


def test_the_watchdog_has_the_backup_start_what_nobody_started(dispatching: Dispatching) -> None:
    payload = dispatching.payload(mark="forgotten")
    run_id = put_into_ledger(dispatching, payload, heartbeat=False)
    answer = dispatching.invoke("watchdog", {})
    assert ("handed over", run_id) in [(done["outcome"], done["run_id"]) for done in answer["done"]]
    run = dispatching.end_of(payload["event_id"])
    assert (run["state"], run["epoch"]) == ("SUCCEEDED", 2)
    assert dispatching.effects("forgotten") == 1
    assert len(dispatching.mails_about(run)) == 1


def test_a_run_whose_twin_died_is_repeated_if_it_may_be(dispatching: Dispatching) -> None:
    payload = {**dispatching.payload(mark="died"), "idempotent": True}
    run_id = put_into_ledger(dispatching, payload, heartbeat=True)
    answer = dispatching.invoke("watchdog", {})
    assert [done["outcome"] for done in answer["done"] if done["run_id"] == run_id] == ["lost", "handed over"]
    run = dispatching.end_of(payload["event_id"])
    assert (run["state"], run["epoch"], run.get("reason")) == ("SUCCEEDED", 2, None)
    assert dispatching.effects("died") == 1
    (mail,) = dispatching.mails_about(run)
    assert "attempt 2" in mail, "one mail about a run, when it has ended for good"


def test_runs_of_one_workflow_wait_for_each_other(dispatching: Dispatching) -> None:
    events = [dispatching.put_event(mark=f"turn-{number}", sleep_s=1) for number in range(3)]
    runs = sorted((dispatching.end_of(event) for event in events), key=lambda run: run["started_at"])
    assert [run["state"] for run in runs] == ["SUCCEEDED"] * 3
    for before, after in zip(runs, runs[1:]):
        assert before["ended_at"] < after["started_at"]
    assert [dispatching.effects(f"turn-{number}") for number in range(3)] == [1, 1, 1]


def test_one_that_waits_is_cancelled_by_hand(dispatching: Dispatching) -> None:
    with dispatching.at_work("at-work") as at_work:
        run = dispatching.queued(dispatching.put_event(mark="cancelled"))
        shown = dispatching.playbook("invoke", f"cancel={run['run_id']}").stdout
        assert "state: CANCELLED" in shown
    assert dispatching.end_of(at_work)["state"] == "SUCCEEDED"
    assert dispatching.effects("cancelled") == 0
    again = dispatching.playbook("invoke", f"cancel={run['run_id']}", ok=False)
    assert f"run {run['run_id']}: expected one that waits or is at work, it has ended as CANCELLED" in again.stdout


def test_a_run_is_repeated_by_hand(dispatching: Dispatching) -> None:
    past = dispatching.end_of(dispatching.put_event(mark="repeated"))
    shown = dispatching.playbook("invoke", f"rerun={past['run_id']}", "wait_s=60").stdout
    assert f"rerun_of: {past['run_id']}" in shown
    assert "state: SUCCEEDED" in shown
    assert dispatching.effects("repeated") == 2


def put_decisions(dispatching: Dispatching, release: str, *, minutes_ago: int, wrong_every: int) -> None:
    """Decisions of a release as a device uploads them: right by the plant's labels, but for every n-th."""
    redshift = dispatching.own.client("redshift-data")
    target = {"ClusterIdentifier": "twinops-sandbox", "Database": "plant", "DbUser": "twinops"}
    sql = "select record_id, label from labels order by record_id limit 1000"
    statement = redshift.execute_statement(**target, Sql=sql)["Id"]
    eventually(lambda: redshift.describe_statement(Id=statement)["Status"] == "FINISHED")
    rows = redshift.get_statement_result(Id=statement)["Records"]
    start = datetime.now(timezone.utc) - timedelta(minutes=minutes_ago)
    lines = []
    for seq, (record, label) in enumerate(rows):
        right = label["longValue"]
        lines.append(
            {
                "device": "device-001",
                "seq": seq,
                "record_id": record["stringValue"],
                "recorded_at": timestamp(start + timedelta(milliseconds=20 * seq)),
                "release": release,
                "model_sha256": release * 32,
                "label": 1 - right if seq % wrong_every == 0 else right,
                "score": 0.5,
            }
        )
    key = f"decisions/device=device-001/{start.date()}/{minutes_ago}000-{minutes_ago}999.jsonl.gz"
    body = gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode())
    dispatching.own.client("s3").put_object(Bucket=NAMES.bucket("data"), Key=key, Body=body)


def test_the_evaluation_compares_two_releases_with_the_labels(dispatching: Dispatching) -> None:
    put_decisions(dispatching, "v1", minutes_ago=9, wrong_every=20)
    put_decisions(dispatching, "v2", minutes_ago=5, wrong_every=500)
    event = {"Source": "twinops", "DetailType": "Evaluation requested", "Detail": "{}"}
    event_id = dispatching.own.client("events").put_events(Entries=[event])["Entries"][0]["EventId"]
    run = dispatching.end_of(event_id)
    assert (run["state"], run.get("reason")) == ("SUCCEEDED", None)
    (mail,) = dispatching.mails_about(run)
    assert "Subject: [twinops sandbox] model_evaluation: v2 is better than v1" in mail
    key = f"model_evaluation/{run['run_id']}/evaluation.json"
    stored = dispatching.own.client("s3").get_object(Bucket=NAMES.bucket("reports"), Key=key)
    result = json.loads(stored["Body"].read())
    assert (result["comparison"]["verdict"], result["comparison"]["n"]) == ("promote", 1000)
    assert [version["n_labelled"] for version in result["versions"]] == [1000, 1000]


def by_hand(dispatching: Dispatching, workflow: str, **parameters: Any) -> Run:
    """A run that the backup function starts, once it has ended."""
    payload = {**dispatching.payload(**parameters), "workflow": workflow, "timeout_s": 300, "idempotent": True}
    assert dispatching.invoke("backup", payload)["outcome"] == "started"
    run = dispatching.end_of(payload["event_id"])
    assert (run["state"], run.get("reason")) == ("SUCCEEDED", None)
    return run


def output_of(dispatching: Dispatching, run: Run, file: str) -> bytes:
    key = f"{run['workflow']}/{run['run_id']}/{file}"
    body = dispatching.own.client("s3").get_object(Bucket=NAMES.bucket("reports"), Key=key)["Body"].read()
    return bytes(body)


def test_the_month_of_a_customer_is_reported(dispatching: Dispatching) -> None:
    month = datetime.now(timezone.utc).replace(day=1) - timedelta(days=15)
    minutes = int((datetime.now(timezone.utc) - month).total_seconds() // 60)
    put_decisions(dispatching, "v2", minutes_ago=minutes, wrong_every=500)
    run = by_hand(dispatching, "monthly_report", customer="orbital")
    (mail,) = dispatching.mails_about(run)
    assert "Subject: [twinops sandbox] monthly_report: 1 of 1 device stopped deciding in " in mail
    found = json.loads(output_of(dispatching, run, "month.json"))
    assert (found["month"], sum(day["decisions"] for day in found["days"])) == (f"{month:%Y-%m}", 1000)
    assert output_of(dispatching, run, "report.pdf").startswith(b"%PDF-")
    frozen = f"monthly_report/frozen/anomaly-detection/orbital/{month:%Y-%m}/r1.json"
    kept = dispatching.own.client("s3").get_object(Bucket=NAMES.bucket("reports"), Key=frozen)["Body"].read()
    assert kept == output_of(dispatching, run, "month.json")


def test_an_alarm_on_performance_starts_retraining(dispatching: Dispatching) -> None:
    """It is told why it cannot: nothing was released here, so there is no champion."""
    metric = {"MetricName": "MacroF1", "Value": 0.5, "Dimensions": [{"Name": "Workflow", "Value": "model_evaluation"}]}
    cloudwatch = dispatching.own.client("cloudwatch")
    cloudwatch.put_metric_data(Namespace=NAMES.metric_namespace, MetricData=[metric])

    def ended() -> Run | None:
        found = dispatching.ledger.runs(workflow="retrain")
        return found[0] if found and found[0]["state"] in FINISHED else None

    run = eventually(ended, RUN_WITHIN_S)
    assert (run["state"], run["exit_code"]) == ("FAILED", 2)
    log = dispatching.playbook("status", f"log={run['run_id']}").stdout
    assert "retrain: model shuttle-anomaly: expected a champion in the registry, there is none" in log


def test_a_challenger_is_trained_on_the_twin_and_proposed(dispatching: Dispatching, tmp_path: Path) -> None:
    s3, bucket = dispatching.own.client("s3"), NAMES.bucket("models")
    trainer = [sys.executable, CLONE / "edge/training/train.py", "v1", tmp_path]
    subprocess.run(trainer, check=True, capture_output=True, timeout=120)
    digests = {}
    for file in ("model.onnx", "training.json"):
        content = (tmp_path / file).read_bytes()
        digests[file] = release.sha256(content)
        target = release.stored_path(release.file_target("sandbox", digests[file]), digests[file])
        s3.put_object(Bucket=bucket, Key=f"tuf/targets/{target}", Body=content)
    data_version = json.loads((tmp_path / "training.json").read_text())["data_version"]
    registry = Registry(s3, bucket, "shuttle-anomaly")
    version = Version("v1", digests["model.onnx"], data_version, "c" * 40, digests["training.json"])
    registry.register(version, approver="test", reason="released")
    registry.promote("v1", approver="test", reason="released")
    put_decisions(dispatching, "v1", minutes_ago=7, wrong_every=500)
    run = by_hand(dispatching, "retrain", candidates="deeper-trees")
    evaluation = json.loads(output_of(dispatching, run, "evaluation.json"))
    assert evaluation["comparison"]["n"] == 1000
    assert evaluation["comparison"]["verdict"] in ("promote", "hold"), "a thousand records may be too few"
    aliases = state_after(registry.history()).aliases
    assert aliases["champion"] == "v1", "nothing is promoted"
    assert aliases.get("challenger") == (
        evaluation["challenger"] if "promote" in evaluation["comparison"]["verdict"] else None
    )


def test_started_by_hand_and_shown(dispatching: Dispatching) -> None:
    wanted = ("workflow=model_evaluation", "via=backup", f"commit={dispatching.payload()['git_sha']}", "wait_s=120")
    started = dispatching.playbook("invoke", *wanted)
    assert "state: SUCCEEDED" in started.stdout
    broken = dispatching.end_of(dispatching.put_event(mark="shown", exit_code=3))
    evaluation = next(run for run in dispatching.ledger.runs() if run["workflow"] == "model_evaluation")
    shown = dispatching.playbook("status").stdout.splitlines()
    failed, succeeded = (rows_of(shown, run) for run in (broken, evaluation))
    assert failed[0].split()[2:5] == ["FAILED", "probe", "3"]
    assert failed[1].strip() == "why:     the script ended with exit code 3"
    assert succeeded[0].split()[2:5] == ["SUCCEEDED", "model_evaluation", "0"]
    assert shown.index(failed[0]) < shown.index(succeeded[0]), "newest first"
    (mail,) = dispatching.mails_about(evaluation)
    assert "Subject: [twinops sandbox] model_evaluation: " in mail


def rows_of(shown: list[str], run: Run) -> list[str]:
    """The line of a run in the table, and those that belong to it."""
    first = next(number for number, line in enumerate(shown) if line.endswith(run["run_id"]) and line[0].isdigit())
    return [shown[first], *itertools.takewhile(lambda line: line.startswith("    "), shown[first + 1 :])]


def test_only_some_runs_are_shown(dispatching: Dispatching) -> None:
    events = [dispatching.put_event(mark="some", exit_code=code) for code in (4, 0, 5)]
    runs = [dispatching.end_of(event) for event in events]
    shown = dispatching.playbook("status", "state=FAILED", "workflow=probe", "runs=2").stdout
    assert [run["run_id"] in shown for run in runs] == [True, False, True]
    wrong = dispatching.playbook("status", "state=BROKEN", ok=False).stdout
    assert "value of state must be one of: " in wrong


def test_a_run_that_waits_is_followed_to_its_end_with_the_rights_of_an_engineer(dispatching: Dispatching) -> None:
    with dispatching.at_work("ahead") as ahead:
        run = dispatching.queued(event := dispatching.put_event(mark="followed", sleep_s=2, exit_code=3))
        following = dispatching.start_playbook("status", f"follow={run['run_id']}", acting_as="mlops")
        ahead_of_it = f"[ledger] QUEUED: it waits for run {dispatching.run_of(ahead)['run_id']}"  # type: ignore[index]
        assert any(line.startswith(ahead_of_it) for line in iter(following.stdout.readline, ""))  # type: ignore[union-attr]
    with following:  # not communicate(): it would miss what readline() has read ahead
        output = following.stdout.read()  # type: ignore[union-attr]
    assert following.returncode == 0
    lines = [line for line in output.splitlines() if line.startswith(("[ledger]", "[twinops]", "hello", "not"))]
    printed = [line for line in lines if not line.startswith("[ledger]")]
    assert printed[1:3] == ["hello from followed", "not UTF-8: \ufffd"]
    assert printed[3].startswith("[twinops] FAILED, exit code 3, ")
    assert lines[-1].startswith("[ledger] FAILED, exit code 3, ")
    assert dispatching.end_of(event)["exit_code"] == 3

    shown = dispatching.playbook("status", f"log={run['run_id']}", acting_as="mlops").stdout.splitlines()
    assert [line for line in shown if line in printed] == printed, "all of it, in order, each line once"


def test_who_stops_following_leaves_the_run_alone(dispatching: Dispatching) -> None:
    with dispatching.at_work("left-alone") as event:
        run = dispatching.run_of(event)
        assert run is not None
        following = dispatching.start_playbook("status", f"follow={run['run_id']}")
        try:
            lines = iter(following.stdout.readline, "")  # type: ignore[union-attr]
            assert any(line.startswith("hello from left-alone") for line in lines), "a line comes while the run goes on"
            os.killpg(following.pid, signal.SIGINT)
            following.communicate(timeout=60)
        finally:
            following.kill()
        assert dispatching.run_of(event)["state"] == "RUNNING"  # type: ignore[index]
    assert dispatching.end_of(event)["state"] == "SUCCEEDED"


def test_an_engineer_cancels_a_run(dispatching: Dispatching) -> None:
    with dispatching.at_work("engineer") as at_work:
        run = dispatching.queued(dispatching.put_event(mark="never"))
        assert "state: CANCELLED" in dispatching.playbook("invoke", f"cancel={run['run_id']}", acting_as="mlops").stdout
    assert dispatching.end_of(at_work)["state"] == "SUCCEEDED"
    assert dispatching.effects("never") == 0


def test_a_run_at_work_that_is_cancelled_ends_within_seconds(dispatching: Dispatching) -> None:
    with dispatching.at_work("called-off") as event:
        run = dispatching.run_of(event)
        assert run is not None
        dispatching.ledger.cancel(run["run_id"], by="Ada")
        started = time.monotonic()
        ended = dispatching.end_of(event)
        took_s = time.monotonic() - started
    assert (ended["state"], ended["reason"]) == ("CANCELLED", "cancelled by Ada")
    assert took_s < 12, "a look every four seconds, on a machine that others use; a heartbeat comes every thirty"
