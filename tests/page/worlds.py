"""Environments for the tests of the status page, made through the code that judges real ones. No clock, no chance."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from twinops import runs
from twinops.overview import document
from twinops.overview.model import Read, Source
from twinops.spec import Alarms, Workflow

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=timezone.utc)
COMMIT = "4f0c2a9d" * 5
SOURCES = tuple(
    Source(name, holds, "ok")
    for name, holds in (
        ("ledger: runs", "workflows"),
        ("ledger: rollouts", "rollouts, release"),
        ("ledger: deployments", "releases of devices"),
        ("facts", "health of devices"),
        ("reports", "model quality, drift of data"),
        ("alarms", "alarms"),
        ("signatures", "who signed"),
        ("registry", "who approved"),
        ("pipeline: deployment", "who deployed"),
        ("pipeline: drift", "drift of the cloud"),
    )
)
SPECS = (
    Workflow(
        "model_evaluation",
        "Evaluates every deployed model version on labelled records and compares the newest with its champion.",
        "mlops@example.com",
        "run.py",
        900,
        schedule="cron(0 5 * * ? *)",
        alarms=Alarms(missing_after_h=26),
    ),
    Workflow(
        "drift_report",
        "Compares what devices read with the training.",
        "mlops@example.com",
        "run.py",
        900,
        schedule="cron(30 5 * * ? *)",
    ),
    Workflow("monthly_report", "Reports to a customer.", "mlops@example.com", "run.py", 900, schedule="rate(30 days)"),
)


def at(hours_ago: float) -> str:
    return runs.timestamp(NOW - timedelta(hours=hours_ago))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def release(name: str) -> dict[str, str]:
    """What the ledger says of a release."""
    return {
        "release": name,
        "release_digest": digest(f"release {name}"),
        "model_digest": digest(f"model {name}"),
        "git_sha": digest(f"commit {name}")[:40],
        "data_version": digest("data"),
    }


def waves(devices: int) -> dict[str, str]:
    """Device → wave: a twentieth is the canary, a third early."""
    canary, early = max(1, devices // 20), max(1, devices // 3)
    return {
        f"device-{n:03}": "canary" if n <= canary else "early" if n <= canary + early else "fleet"
        for n in range(1, devices + 1)
    }


def rollout(name: str, states: dict[str, str], hours_ago: float, **other: Any) -> dict[str, Any]:
    item = {
        **release(name),
        "rollout_id": f"{at(hours_ago).translate(str.maketrans('', '', '-:.'))}-{name}",
        "state": "completed",
        "wave": "fleet",
        "reason": "",
        "started_at": at(hours_ago),
        "ended_at": at(hours_ago - 0.2),
        "devices": json.dumps(states),
    }
    return {**item, **other}


def deployment(device: str, name: str, hours_ago: float, state: str = "committed", **other: Any) -> dict[str, Any]:
    event = {
        **release(name),
        "device": device,
        "state": state,
        "reason": "",
        "rollout_id": f"{at(hours_ago).translate(str.maketrans('', '', '-:.'))}-{name}",
        "valid_from": at(hours_ago - 0.1),
        "recorded_at": at(hours_ago - 0.15),
    }
    return {**event, **other}


def run(number: int, hours_ago: float, state: str = "SUCCEEDED", **other: Any) -> dict[str, Any]:
    run_id = digest(f"run {number}")[:24]
    item: dict[str, Any] = {
        "run_id": run_id,
        "workflow": "model_evaluation",
        "state": state,
        "epoch": 1,
        "git_sha": COMMIT,
        "claimed_at": at(hours_ago),
        "started_at": at(hours_ago),
    }
    if state == "SUCCEEDED":
        item |= {"ended_at": at(hours_ago - 0.01), "duration_s": 12.4 + number % 3, "exit_code": 0}
        key = f"model_evaluation/{run_id}/report.html"
        item |= {"report_bucket": "twinops-staging-reports-1", "report_key": key}
    return {**item, **other}


def results(number: int, name: str) -> dict[str, Any]:
    """What an evaluation wrote: v2 finds what v1 overlooks."""
    better = name == "v2"
    wobble = (number % 5) * 0.0004
    return {
        "metrics.json": {
            "MacroF1": (0.9978 if better else 0.9812) - wobble,
            "MissedAlarmRate": (0.003 if better else 0.031) + wobble,
            "FalseAlarmRate": 0.0004 + wobble / 3,
            "AlarmRate": 0.0702 - wobble,
            "LabelCoverage": 0.91,
            "Decisions": 180_000.0 + 1000 * number,
        },
        "evaluation.json": {"versions": [{"release": name, "running_on": ["device-001"]}], "comparison": None},
    }


def drift(**devices: str) -> dict[str, Any]:
    """What drift_report wrote: device → verdict."""

    def one(verdict: str) -> dict[str, Any]:
        drifted = ["f4", "f7"] if verdict == "drift" else []
        changes = {"drifted": drifted, "small_changes": ["f2"] if verdict == "warn" else [], "constant": []}
        return {"verdict": verdict, **changes, "missing": []}

    found = {name: {"verdict": each, "drift": one(each), "missing_reported": {}} for name, each in devices.items()}
    return {"verdict": "none", "fleet": one("none"), "devices": found}


def facts(device: str, name: str, minutes_ago: float = 4, **other: Any) -> dict[str, Any]:
    told = release(name)
    said = {
        "heard_at": at(minutes_ago / 60),
        "reported_at": at(minutes_ago / 60),
        "interval_s": 600,
        "device": device,
        "release": name,
        "release_digest": told["release_digest"],
        "model_sha256": told["model_digest"],
        "git_sha": told["git_sha"],
        "phase": "committed",
        "reason": None,
        "waiting": None,
        "health": {"status": "ok", "reason": None, "upload_error": None, "spool_dropped": 0},
        "problems": [],
    }
    return {**said, **other}


def deployed(**other: Any) -> dict[str, Any]:
    """What the job that deploys leaves behind."""
    record = {
        "environment": "staging",
        "commit": COMMIT,
        "state": "deployed",
        "message": "",
        "by": "ada",
        "pipeline": "https://gitlab.example.com/twinops/-/pipelines/7",
        "started_at": at(28.2),
        "ended_at": at(27.6),
    }
    return {**record, **other}


def healthy(devices: int = 6, env: str = "staging") -> Read:
    """v1 some days ago, v2 yesterday, on every device; an evaluation each day."""
    fleet = waves(devices)
    days = range(14)
    runs_of = [run(14 - day, 24 * day + 3) for day in days]
    compared = run(50, 2.5, workflow="drift_report")
    return Read(
        env=env,
        created_at=runs.timestamp(NOW),
        commit=COMMIT,
        sources=SOURCES,
        waves=fleet,
        specs=SPECS,
        runs=(compared, *runs_of),
        rollouts=(
            rollout("v2", dict.fromkeys(fleet, "committed"), 28),
            rollout("v1", dict.fromkeys(fleet, "committed"), 400),
        ),
        deployments=tuple(
            deployment(device, name, hours) for device in fleet for name, hours in (("v2", 28), ("v1", 400))
        ),
        facts={device: facts(device, "v2", 1 + n % 9) for n, device in enumerate(fleet)},
        results={
            compared["run_id"]: {"drift.json": drift(**dict.fromkeys(fleet, "none"))},
            **{each["run_id"]: results(n, "v2" if n < 2 else "v1") for n, each in enumerate(runs_of)},
        },
        signed_by=("staging-1",),
        promotions={digest("model v2"): "ada@example.com"},
        deployment=deployed(),
        plan={"at": at(6), "cloud": []},
    )


def troubled(devices: int = 6) -> Read:
    """A release stopped at the canary, a workflow that failed, one device that failed and some that are silent."""
    read = healthy(devices)
    names = list(read.waves)
    canary = [name for name, wave in read.waves.items() if wave == "canary"]
    stopped = {name: "rolled_back" if name in canary else "pending" for name in names}
    reason = (
        "v3 stopped at wave canary: alarm rate 0.00% (0 of 612 records, on device-001) against 7.01% "
        "(3122 of 44531 records, v2 on 6 devices); p = 8.4e-20, a change of 50% is allowed"
    )
    blocked = rollout("v3", stopped, 2, state="blocked", wave="canary", reason=reason)
    failed = run(
        99, 1, "FAILED", duration_s=3.2, exit_code=2, ended_at=at(0.9), reason="exit code 2: labels: no answer"
    )
    waiting = run(100, 0.1, "RUNNING", workflow="monthly_report")
    told = dict(read.facts)
    told[names[-1]] = facts(names[-1], "v1", 60 * 9)
    told[names[1]] = facts(
        names[1],
        "v2",
        health={"status": "failed", "reason": "model.onnx: probabilities are NaN", "upload_error": None},
    )
    for name in names[40::37]:
        told[name] = facts(name, "v1" if int(name[-3:]) % 2 else "v2", 200)
    alarm = {"name": "twinops-staging-dead-letters", "reason": "2 messages, 0 expected", "since": at(5)}
    changed = {"action": "update", "kind": "rule", "name": "twinops-staging-tick", "fields": ["schedule", "state"]}
    found = {**dict.fromkeys(read.waves, "none"), names[2]: "drift", names[3]: "warn"}
    return replace(
        read,
        results={**read.results, read.runs[0]["run_id"]: {"drift.json": drift(**found)}},
        rollouts=(blocked, *read.rollouts),
        runs=(waiting, failed, *read.runs),
        facts=told,
        alarms=(alarm,),
        plan={"at": at(6), "cloud": [changed]},
    )


def empty(env: str = "production") -> Read:
    """Declared, and nothing deployed yet."""
    nothing = tuple(replace(source, state="absent", problem="there is none yet") for source in SOURCES)
    return Read(env=env, created_at=runs.timestamp(NOW), commit=COMMIT, sources=nothing, waves=waves(6), specs=SPECS)


def partial() -> Read:
    """Reports and alarms may not be read."""
    denied = "GetObject: AccessDenied: not authorized to perform s3:GetObject"
    failed = tuple(
        replace(source, state="failed", problem=denied) if source.name in ("reports", "alarms") else source
        for source in SOURCES
    )
    return replace(healthy(), sources=failed, results={})


HOSTILE = """<script>document.title='owned'</script><img src=x onerror="document.title='owned'">\u202e'"`${1}"""


def hostile() -> Read:
    """Every text that others write tries to be more than text."""
    read = healthy()
    name = f"device-666{HOSTILE}"
    bad = facts(
        name,
        HOSTILE,
        health={"status": "failed", "reason": HOSTILE, "upload_error": HOSTILE},
        problems=[HOSTILE],
        model_sha256=HOSTILE,
        git_sha=HOSTILE,
    )
    return replace(
        read,
        waves={**read.waves, name: "fleet"},
        facts={**read.facts, name: bad},
        rollouts=(rollout(HOSTILE, {name: "failed"}, 3, state="blocked", reason=HOSTILE), *read.rollouts),
        runs=(run(7, 1, "FAILED", workflow=HOSTILE, reason=HOSTILE, run_id=HOSTILE), *read.runs),
        alarms=({"name": HOSTILE, "reason": HOSTILE, "since": at(1)},),
        promotions={digest("model v2"): HOSTILE},
        deployment=deployed(by=HOSTILE, message=HOSTILE, state="failed", pipeline="javascript:alert(1)"),
        plan={"at": at(6), "cloud": [{"action": "update", "kind": HOSTILE, "name": HOSTILE, "fields": [HOSTILE]}]},
        results={
            **read.results,
            read.runs[0]["run_id"]: {"drift.json": drift(**{HOSTILE: "drift"})},
            read.runs[1]["run_id"]: results(1, HOSTILE),
        },
    )


def as_document(read: Read) -> dict[str, Any]:
    """As it comes from the file."""
    made: dict[str, Any] = json.loads(json.dumps(document.as_json(document.assemble(read))))
    return made
