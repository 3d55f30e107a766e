"""Real faults of real devices, and what ``staging_triage`` makes of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sandbox.estate import NAMES
from tests.conftest import Sandbox
from tests.sandbox.support import eventually

SHOWN_WITHIN_S, RUN_WITHIN_S = 120.0, 240.0
KILLS = 5
AHEAD_S = 120
OF_THE_MACHINE = {"disk", "memory", "alarm_rate"}
"""All devices have one disk and one memory here; more or fewer alarms are what a broken sensor leads to."""

CLOCK_AHEAD = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *at) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, at);
    if (!failed && clock == CLOCK_REALTIME) at->tv_sec += AHEAD_S;
    return failed;
}
"""


@pytest.fixture(scope="module")
def deployed(sandbox: Sandbox) -> Sandbox:
    """Everything is deployed; devices report when a test tells them to."""
    sandbox.playbook("site.yml", "-e", "edge_report_interval_s=86400")
    return sandbox


def facts(sandbox: Sandbox, device: str) -> dict[str, Any]:
    return dict(json.loads(sandbox.on_device(device, "twinops-edge", "facts")))


def reading(sandbox: Sandbox, device: str, feature: str, number: str) -> float:
    return float(facts(sandbox, device)["readings"]["features"][feature][number])


def kill_service(sandbox: Sandbox, device: str) -> None:
    """As the kernel does when memory is short; returns when it runs again."""
    pid = facts(sandbox, device)["health"]["pid"]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: (h := facts(sandbox, device)["health"]) and h["pid"] != pid and h["status"] == "ok", 60)


def findings(sandbox: Sandbox, device: str) -> set[str]:
    """Of the newest triage: kind and feature."""
    newest = sandbox.ledger.triages(device, limit=1)[0]
    return {f"{one['kind']} {one['subject']}".strip() for one in json.loads(newest["findings"])} - OF_THE_MACHINE


@pytest.mark.fault("sensor that reports in another unit", "raises an alarm, and is named with what to do")
def test_an_alarm_of_a_device_starts_its_triage(deployed: Sandbox) -> None:
    eventually(lambda: facts(deployed, "device-003")["readings"]["records"] == 1000, SHOWN_WITHIN_S)
    for device in deployed.devices():
        deployed.on_device(device, "twinops-edge", "report")  # all is well, which it remembers
    deployed.command("plant", "drift", "device-003", "--feature", "f1", "--factor", "1.8", "--offset", "32")
    eventually(lambda: reading(deployed, "device-003", "f1", "p05") > 90, SHOWN_WITHIN_S)
    deployed.on_device("device-003", "twinops-edge", "report")

    assert eventually(lambda: deployed.ledger.triages("device-003"), RUN_WITHIN_S)
    assert findings(deployed, "device-003") == {"unit_change f1"}
    run_id = deployed.ledger.triages("device-003")[0]["run_id"]
    mails = deployed.settings.home / "mail"
    mail = eventually(lambda: next((m for m in map(Path.read_text, mails.glob("*.eml")) if run_id in m), None))
    assert "staging_triage: device-003: f1 is reported in another unit: C to F" in mail
    assert "Set the sensor or gateway of f1 back to the unit" in mail

    deployed.on_device("device-003", "twinops-edge", "report")
    said = json.loads((deployed.settings.edge_root("device-003") / "run/report.json").read_text())
    assert said["reason"] == "committed, service ok", "an alarm is raised once"


@pytest.mark.fault(
    "stuck sensor, gaps, restarts, damaged model, wrong clock, device off",
    "each is named, and nothing of a sound device",
)
def test_every_fault_is_named_and_a_device_that_is_well_has_none(deployed: Sandbox, tmp_path: Path) -> None:
    deployed.command("plant", "drift", "device-002", "--feature", "f7", "--stuck")
    deployed.command("plant", "drift", "device-002", "--feature", "f3", "--missing", "0.2")
    for _ in range(KILLS):
        kill_service(deployed, "device-003")
    with (deployed.settings.edge_root("device-004") / "current/model.onnx").open("ab") as model:
        model.write(b"\0")
    eventually(lambda: reading(deployed, "device-002", "f7", "unchanged_records") > 300, SHOWN_WITHIN_S)
    eventually(lambda: reading(deployed, "device-002", "f3", "missing") > 50, SHOWN_WITHIN_S)
    eventually(lambda: reading(deployed, "device-003", "f1", "count") > 300, SHOWN_WITHIN_S)

    for device in ("device-001", "device-002", "device-003", "device-006"):
        deployed.on_device(device, "twinops-edge", "report")
    shim = clock_ahead(tmp_path)
    deployed.on_device("device-004", "env", f"LD_PRELOAD={shim}", "twinops-edge", "report")
    deployed.switch("device-005", "off")
    forget_facts(deployed, "device-005")

    deployed.playbook("playbooks/invoke.yml", "-e", "workflow=staging_triage")
    eventually(lambda: deployed.ledger.triages("device-005"), RUN_WITHIN_S)
    assert {device: findings(deployed, device) for device in deployed.devices()} == {
        "device-001": set(),
        "device-002": {"stuck_sensor f7", "missing_values f3"},
        "device-003": {"unit_change f1", "restarts"},
        "device-004": {"model_mismatch", "clock"},
        "device-005": {"silent"},
        "device-006": set(),
    }


def clock_ahead(folder: Path) -> Path:
    """A library that makes the clock of a process go ahead: the devices here share the machine's."""
    source, library = folder / "ahead.c", Path(f"/tmp/tw-ahead-{os.getpid()}.so")  # noqa: S108 (devices see it)
    source.write_text(CLOCK_AHEAD)
    command = ["cc", "-shared", "-fPIC", f"-DAHEAD_S={AHEAD_S}", "-o", library, source, "-ldl"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("needs a C compiler, to make a clock that is wrong")
    return library


def forget_facts(sandbox: Sandbox, device: str) -> None:
    """As the bucket's lifecycle does after a month."""
    s3, bucket = sandbox.client("s3"), NAMES.bucket("data")
    for item in s3.list_objects_v2(Bucket=bucket, Prefix=f"facts/{device}/").get("Contents", []):
        s3.delete_object(Bucket=bucket, Key=item["Key"])
