"""A twin that is away, loses its Jupyter or its run-once, has a full disk or a wrong clock."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.support import END_WITHIN_S, Faults, fault
from tests.sandbox.dispatching import NAMES
from tests.sandbox.support import eventually

Outcome = Callable[[str, str], None]

# ---- run-once

KILLED_AT: dict[str, tuple[list[Any], str, int, int]] = {
    # when: (AWS call, number, before or after), the ledger then, executions in the end if idempotent, if not
    "before it takes the run": (["UpdateItem", 1, "before"], "CLAIMED", 1, 1),
    "when it has taken the run": (["UpdateItem", 1, "after"], "RUNNING", 1, 0),
    "when it has stored outputs": (["PutObject", 1, "after"], "RUNNING", 2, 1),
    "before it writes the end": (["UpdateItem", 2, "before"], "RUNNING", 2, 1),
    "when it has written the end": (["UpdateItem", 2, "after"], "SUCCEEDED", 1, 1),
    "when it has noted the mail": (["UpdateItem", 3, "after"], "SUCCEEDED", 1, 1),
}
AGED = {"RUNNING": "heartbeat_at", "SUCCEEDED": "ended_at"}


@pytest.fixture(scope="module", params=[True, False], ids=["idempotent", "once"])
def killed(request: pytest.FixtureRequest, faults: Faults) -> tuple[bool, dict[str, str]]:
    """Each case in a run of its own, all at once; what is left of them half an hour later is the watchdog's.

    Idempotent ones by runners that stand by, as far as there are, the others by a new Python each.
    """
    idempotent = bool(request.param)
    if not idempotent:
        faults.end_standby()
    sent = {
        case: faults.send(faults.payload(f"{case} {idempotent}", idempotent=idempotent, runner={"stop": stop}))
        for case, (stop, *_) in KILLED_AT.items()
    }
    for case, (_, state, *_) in KILLED_AT.items():
        if state in AGED:
            faults.await_kill(sent[case])
            assert faults.run(sent[case])["state"] == state
            faults.age(sent[case], **{AGED[state]: 30})
    faults.watch()
    return idempotent, sent


@pytest.mark.parametrize("case", KILLED_AT)
def test_run_once_killed(faults: Faults, killed: tuple[bool, dict[str, str]], outcome: Outcome, case: str) -> None:
    idempotent, sent = killed
    _, state, repeated, once = KILLED_AT[case]
    run = faults.end_of_repeated(sent[case]) if idempotent else faults.end(sent[case])
    mark = f"{case} {idempotent}"
    is_lost = state == "RUNNING" and not idempotent
    assert run["state"] == ("LOST" if is_lost else "SUCCEEDED")
    assert run["epoch"] in ((2, 3) if state == "CLAIMED" or (state == "RUNNING" and idempotent) else (1,))
    assert faults.count(mark, "executions") == (repeated if idempotent else once)
    assert faults.count(mark) == min(1, once if not idempotent else 1)
    if is_lost:
        assert "exit_code" not in run
        assert "its twin has not been heard of since" in faults.mails(sent[case])[0]
    kind = "idempotent" if idempotent else "not idempotent"
    outcome(
        f"run-once killed {case}, {kind}",
        f"{run['state']}, epoch {run['epoch']}; {faults.count(mark)} effect(s), 1 mail",
    )


@pytest.mark.parametrize("idempotent", [True, False])
def test_run_once_killed_while_the_script_is_at_work(faults: Faults, outcome: Outcome, idempotent: bool) -> None:
    mark = f"at work {idempotent}"
    run_id = faults.send(faults.payload(mark, "sleep", 8, idempotent=idempotent))
    eventually(lambda: faults.count(mark) == 1)
    os.kill(faults.runner(run_id), signal.SIGKILL)
    (orphan,) = faults.scripts(run_id)
    faults.age(run_id, heartbeat_at=30)
    faults.watch()
    run = faults.end_of_repeated(run_id) if idempotent else faults.end(run_id)
    assert run["state"] == ("SUCCEEDED" if idempotent else "LOST")
    assert faults.count(mark) == 1
    assert faults.count(mark, "executions") == (2 if idempotent else 1)
    if idempotent:
        assert faults.count(mark, "ends") == 1, "the script that was left was ended before the next one began"
    eventually(lambda: orphan not in faults.scripts(run_id))
    kind = "idempotent" if idempotent else "not idempotent"
    outcome(f"run-once killed while the script is at work, {kind}", f"{run['state']}; 1 effect, 1 mail")


def test_run_once_killed_between_the_mail_and_its_note(faults: Faults, outcome: Outcome) -> None:
    """The one case with two mails (ADR 0007): better than none."""
    run_id = faults.send(faults.payload("unnoted", runner={"stop": ["Publish", 1, "after"]}))
    faults.await_kill(run_id)
    faults.age(run_id, ended_at=30)
    faults.watch()
    eventually(lambda: len(faults.mails(run_id)) == 2)
    faults.mailed_twice.add(run_id)
    assert faults.count("unnoted") == 1
    outcome("run-once killed between the mail and its note", "SUCCEEDED; 1 effect, 2 mails (ADR 0007)")


TURN_LOST_AT = {
    "before it passes the turn on": ["UpdateItem", 3, "after"],
    "when it has passed the turn on": ["UpdateItem", 5, "after"],
    "when it has called the next one up": ["UpdateItem", 6, "after"],
}


@pytest.mark.parametrize("case", TURN_LOST_AT)
def test_the_next_in_the_queue_comes_though_the_one_before_died(faults: Faults, outcome: Outcome, case: str) -> None:
    runner = {"stop": TURN_LOST_AT[case]}
    first = faults.send(faults.payload(f"first {case}", "sleep", 3, workflow="queued", runner=runner))
    faults.reach(first, "RUNNING")
    second = faults.send(faults.payload(f"second {case}", workflow="queued"))
    faults.reach(second, "QUEUED")
    faults.await_kill(first)
    if faults.run(second)["state"] == "CLAIMED":
        faults.age(second, called_at=30)
    faults.watch()
    for run_id in (first, second):
        assert faults.end(run_id)["state"] == "SUCCEEDED"
    assert [faults.count(f"{which} {case}") for which in ("first", "second")] == [1, 1]
    outcome(f"run-once killed {case}", "the next in the queue is started by the watchdog; 1 effect, 1 mail each")


# ---- Jupyter


def test_jupyter_killed_before_the_job(faults: Faults, outcome: Outcome) -> None:
    wrong = [
        {**fault("Post", "after", "kill"), "pid": faults.jupyter()},
        fault("claim", "before", "pause", attempts=(2,)),  # Lambda waits a minute, and Jupyter is there again
    ]
    with faults.jupyter_restarted():
        run_id = faults.send(faults.payload("no jupyter", faults=wrong))
        run = faults.end(run_id)
    assert (run["state"], run["epoch"], faults.count("no jupyter")) == ("SUCCEEDED", 1, 1)
    assert faults.attempts(run_id, "dispatch") == 2
    outcome("Jupyter killed before the line", "SUCCEEDED (retry, epoch 1); 1 effect, 1 mail")


def test_jupyter_killed_when_the_line_is_sent(faults: Faults, outcome: Outcome) -> None:
    wrong = [{**fault("Send", "after", "kill"), "pid": faults.jupyter()}]
    with faults.jupyter_restarted():
        run_id = faults.send(faults.payload("line sent", faults=wrong))
        run = faults.end(run_id)
    assert (run["state"], run["epoch"], faults.count("line sent")) == ("SUCCEEDED", 1, 1)
    outcome("Jupyter killed when the line is sent", "SUCCEEDED, epoch 1; 1 effect, 1 mail")


def test_jupyter_killed_after_the_job_has_started(faults: Faults, outcome: Outcome) -> None:
    with faults.jupyter_restarted():
        run_id = faults.send(faults.payload("jupyter dies", "sleep", 3))
        eventually(lambda: faults.count("jupyter dies") == 1)
        os.kill(faults.jupyter(), signal.SIGKILL)
        run = faults.end(run_id)
    assert (run["state"], run["exit_code"], run["epoch"]) == ("SUCCEEDED", 0, 1)
    assert faults.count("jupyter dies") == 1
    outcome("Jupyter killed after the job has started", "SUCCEEDED, the run goes on; 1 effect, 1 mail")


def test_jupyter_away_for_good(faults: Faults, outcome: Outcome) -> None:
    with faults.jupyter_killed():
        run_id = faults.send(faults.payload("never"))
        run = faults.end(run_id)
    assert (run["state"], "exit_code" in run, faults.count("never")) == ("FAILED", False, 0)
    assert "twin: login: expected HTTP 200, got nothing" in run["reason"]
    outcome("Jupyter away for good", "FAILED, could not be started; 0 effects, 1 mail")


# ---- the twin


def test_a_stopped_twin(faults: Faults, outcome: Outcome) -> None:
    faults.twin("stop", "Stopped")
    run = faults.end(faults.send(faults.payload("stopped")))
    assert (run["state"], run["epoch"], faults.count("stopped")) == ("SUCCEEDED", 2, 1)
    outcome("twin stopped", "started; SUCCEEDED (backup, epoch 2); 1 effect, 1 mail")


def test_a_starting_twin(faults: Faults, outcome: Outcome) -> None:
    faults.twin("stop", "Stopped")
    faults.twin("start", "Pending")
    run = faults.end(faults.send(faults.payload("starting")))
    assert (run["state"], faults.count("starting")) == ("SUCCEEDED", 1)
    assert run["epoch"] in (1, 2)
    outcome("twin starting", f"SUCCEEDED, epoch {run['epoch']}; 1 effect, 1 mail")


@pytest.fixture
def broken_lifecycle(faults: Faults) -> Iterator[None]:
    """The twin's lifecycle script ends with an error, so that every start fails; it is stopped."""
    sagemaker = faults.own.client("sagemaker")
    name = {"NotebookInstanceLifecycleConfigName": NAMES.twin("deployment")}
    scripts = sagemaker.describe_notebook_instance_lifecycle_config(**name)["OnStart"]
    faults.twin("stop", "Stopped")
    broken = base64.b64encode(b"#!/bin/sh\nexit 1\n").decode()
    sagemaker.update_notebook_instance_lifecycle_config(**name, OnStart=[{"Content": broken}])
    faults.configure("backup", Timeout=26)
    yield
    faults.configure("backup", Timeout=60)
    sagemaker.update_notebook_instance_lifecycle_config(**name, OnStart=scripts)
    eventually(lambda: faults.twin_status() in ("Failed", "Stopped"))
    faults.twin("start", "InService")


def test_a_failed_twin(faults: Faults, outcome: Outcome, broken_lifecycle: None) -> None:
    run_id = faults.send(faults.payload("failed"))
    deadline = time.monotonic() + END_WITHIN_S
    while (run := faults.ledger.run(run_id)) is None or run["state"] != "FAILED":
        assert time.monotonic() < deadline, run
        if run and run["state"] == "CLAIMED" and "dispatcher" not in run and faults.attempts(run_id, "backup"):
            faults.age(run_id, claimed_at=70)  # "it is starting", said the backup: an hour later it still is
            faults.watch()
        time.sleep(0.5)
    run = faults.end(run_id)
    assert run["reason"].startswith("it could not be started: ")
    assert faults.count("failed") == 0
    outcome("twin failed, every start fails", "FAILED, could not be started; 0 effects, 1 mail")


# ---- its disk and its clock


@pytest.fixture
def small_disk(faults: Faults) -> Iterator[Path]:
    """The folder of runs is a volume of 256 KB."""
    folder = faults.twinops / "runs"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("a small volume cannot be mounted here: this test wants to run as root")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk(faults: Faults, outcome: Outcome, small_disk: Path) -> None:
    with (small_disk / "ballast").open("wb", buffering=0) as ballast, pytest.raises(OSError, match="No space left"):
        while True:
            ballast.write(bytes(4096))
    run = faults.end(faults.send(faults.payload("full")))
    assert (run["state"], "exit_code" in run, faults.count("full")) == ("FAILED", False, 0)
    assert "No space left on device" in run["reason"]
    assert any("No space left on device" in line for line in faults.log(run))
    outcome("disk of the twin full", "FAILED, no space left; 0 effects, 1 mail")


def test_a_disk_that_the_script_fills(faults: Faults, outcome: Outcome, small_disk: Path) -> None:
    run = faults.end(faults.send(faults.payload("fills", "disk")))
    assert (run["state"], run["exit_code"], faults.count("fills")) == ("SUCCEEDED", 0, 1)
    lines = faults.log(run)
    assert any(line.startswith("the disk is full: ") for line in lines)
    assert any(line.startswith("[twinops] output.log is not complete: ") for line in lines)
    outcome("disk of the twin filled by the script", "SUCCEEDED, the log is in CloudWatch; 1 effect, 1 mail")


@pytest.mark.parametrize("minutes", [10, -10])
def test_clocks_that_differ(faults: Faults, outcome: Outcome, minutes: int) -> None:
    mark = f"clock {minutes:+}"
    runner = {"skew_s": minutes * 60, "heartbeat_s": 0.5}
    run_id = faults.send(faults.payload(mark, "sleep", 4, idempotent=True, runner=runner))
    eventually(lambda: faults.count(mark) == 1)
    before = faults.run(run_id)["heartbeat_at"]
    eventually(lambda: faults.run(run_id)["heartbeat_at"] > before)
    assert run_id not in [done["run_id"] for done in faults.watch()]
    run = faults.end(run_id)
    assert (run["state"], run["epoch"], faults.count(mark, "executions")) == ("SUCCEEDED", 1, 1)
    outcome(f"twin's clock {minutes:+} minutes", "SUCCEEDED, not taken for lost; 1 effect, 1 mail")
