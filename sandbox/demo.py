"""`make demo`: the main job on one machine, end to end, with a summary a person understands.

Each step first looks at the ledger and at the devices: what is done already is not done again, so a second run reports
that nothing was to change, and a run after Ctrl-C goes on where the first one stopped.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from twinops.aws.invoke import Hand
from twinops.aws.ledger import Rollout
from twinops.spec_files import load_workflows

from sandbox import playbook, summary
from sandbox.estate import NAMES, Estate, EstateError
from sandbox.settings import CLONE, SettingsError, load

FIRST_RELEASE, GOOD_RELEASE, BAD_RELEASE, HANGING_RELEASE = "v1", "v2", "v3", "v4-hangs"
WORKFLOW = "model_evaluation"
RUN_TIMEOUT_S = 300
PULL_TIMEOUT_S = 180
ENOUGH_DEVICES = 5
"""One of them is a fifth, which is the share that the gate allows to be unreachable."""

NOTHING_TO_DO = "nothing to change"


@dataclass(frozen=True)
class Step:
    """One line of the demo. ``run`` returns what happened, in a few words."""

    title: str
    run: Callable[[Estate], str]


def start_sandbox(estate: Estate) -> str:
    started = estate.up()
    return f"started {', '.join(started)}" if started else NOTHING_TO_DO


def deploy(estate: Estate) -> str:
    """The whole site. The very first time with the older release, so that there is something to update."""
    release = FIRST_RELEASE if not estate.completed_rollout(FIRST_RELEASE, GOOD_RELEASE) else GOOD_RELEASE
    result = playbook.run(estate, "site.yml", f"edge_release_version={release}", log="site")
    return changes(result) + (f", {release} on all devices" if result.changed else "")


def update(estate: Estate) -> str:
    """The release that git names, in waves: canary, gate, early, gate, fleet. One device is off meanwhile."""
    if estate.completed_rollout(GOOD_RELEASE):
        return NOTHING_TO_DO
    device = absent(estate)
    if device is not None:
        estate.switch(device, "off")
    outcome = changes(playbook.run(estate, "playbooks/edge.yml", log="edge-v2"))
    return f"{outcome}; {device} was off" if device else outcome


def absent(estate: Estate) -> str | None:
    """The device that misses the update; none where so few take part that the gate does not do without one."""
    devices = estate.devices()
    return devices[-1] if len(devices) >= ENOUGH_DEVICES else None


def catch_up(estate: Estate) -> str:
    """Switched on again, the device finds by itself that the environment has moved on, and pulls."""
    device = absent(estate)
    if device is None:
        return f"{NOTHING_TO_DO}: with fewer than {ENOUGH_DEVICES} devices none was off"
    if estate.is_on(device) and estate.version(device) == GOOD_RELEASE:
        return NOTHING_TO_DO
    estate.switch(device, "on")
    began = time.monotonic()
    while (version := estate.version(device)) != GOOD_RELEASE:
        if time.monotonic() - began > PULL_TIMEOUT_S:
            raise EstateError(
                f"{device}: expected {GOOD_RELEASE} within {PULL_TIMEOUT_S} s of being switched on, it runs {version}; "
                f"its log: {estate.settings.edge_root(device)}/log/pull.log"
            )
        time.sleep(1)
    return f"{device} pulled {version} within {time.monotonic() - began:.0f} s"


def evaluate(estate: Estate) -> str:
    """The end of a rollout is an event on the bus, which has started this by now."""
    rollout = estate.completed_rollout(GOOD_RELEASE)
    if rollout is None:
        raise EstateError(f"{GOOD_RELEASE}: expected a rollout that reached all devices, the ledger has none")
    return evaluation_of(estate, rollout)


def evaluation_of(estate: Estate, rollout: Rollout) -> str:
    """Wait for the run that the end of a rollout has started; it is found in the ledger by the event's id."""
    if "event_id" not in rollout:
        raise EstateError(f"rollout {rollout['rollout_id']}: expected an event of its end; run the demo again")
    done = estate.run_of(rollout["event_id"])
    if done and done["state"] == "SUCCEEDED":
        return f"{NOTHING_TO_DO}: run {done['run_id']} of {WORKFLOW} has succeeded"
    run = estate.wait_for_run(rollout["event_id"], timeout_s=RUN_TIMEOUT_S)
    if run["state"] != "SUCCEEDED":
        raise EstateError(
            f"run {run['run_id']} of {WORKFLOW}: expected SUCCEEDED, got {run['state']} "
            f"(exit code {run.get('exit_code')}): {run.get('reason', '')}. Its log: {run.get('log_stream')}"
        )
    return f"run {run['run_id']}: exit code {run['exit_code']} after {run['duration_s']:.1f} s"


def report(estate: Estate) -> str:
    """What runs each night and each month, started by hand for once: all of them beside each other."""
    month = datetime.now(timezone.utc).strftime("%Y-%m")
    parameters = {"drift_report": {}, "staging_triage": {}, "monthly_report": {"month": month}}
    missing = [name for name in parameters if estate.succeeded_run(name) is None]
    if not missing:
        return f"{NOTHING_TO_DO}: {', '.join(parameters)} have succeeded"
    hand, workflows = Hand(NAMES.env, estate.client), {one.name: one for one in load_workflows(CLONE)}
    commit = estate.commit()
    started = {name: hand.call_backup(workflows[name], parameters[name], commit) for name in missing}
    for name, event_id in started.items():
        run = estate.wait_for_run(event_id, timeout_s=RUN_TIMEOUT_S)
        if run["state"] != "SUCCEEDED":
            raise EstateError(
                f"run {run['run_id']} of {name}: expected SUCCEEDED, got {run['state']} "
                f"(exit code {run.get('exit_code')}): {run.get('reason', '')}. Its log: {run.get('log_stream')}"
            )
    return f"{', '.join(missing)}: done"


def refuse(estate: Estate) -> str:
    """A model with accuracy 0.93 that raises no alarm: the gate on model metrics stops it at the canary."""
    return stopped(estate, BAD_RELEASE, "the gate", log="edge-v3")


def refuse_hanging(estate: Estate) -> str:
    """A model that answers the golden records and hangs on the first of the field: the canary's probe ends it."""
    return stopped(estate, HANGING_RELEASE, "the probe", log="edge-v4")


def stopped(estate: Estate, release: str, who: str, *, log: str) -> str:
    """Try a release that must not get past the canary. The end of its rollout is evaluated too."""
    if estate.blocked_rollout(release):
        return f"{NOTHING_TO_DO}: {release} has been blocked"
    result = playbook.run(estate, "playbooks/edge.yml", f"edge_release_version={release}", log=log, expect_failure=True)
    blocked = estate.blocked_rollout(release)
    if blocked is None:
        raise EstateError(
            f"{release}: expected {who} to stop it, but the ledger has no blocked rollout; the output: {result.log}"
        )
    evaluation_of(estate, blocked)
    return f"stopped by {who} at {blocked['wave']} and rolled back"


def verify(estate: Estate) -> str:
    """Ask every device itself."""
    versions = estate.device_versions()
    wrong = {device: version for device, version in versions.items() if version != GOOD_RELEASE}
    if wrong:
        raise EstateError(f"devices: expected {GOOD_RELEASE} on every device, got {wrong}")
    return f"{len(versions)} devices answer {GOOD_RELEASE}"


STEPS = (
    Step("Start the sandbox: AWS endpoint, mail, devices", start_sandbox),
    Step("Deploy the site: cloud, workflows, first release", deploy),
    Step("Update the devices to v2 in waves, one of them switched off", update),
    Step("Switch it on: it pulls what it missed", catch_up),
    Step("Evaluate the models, which the end of the rollout has started", evaluate),
    Step("Try a bad v3", refuse),
    Step("Try a model that hangs", refuse_hanging),
    Step("Ask for the reports of the night and of the month", report),
    Step("Ask the devices over SSH", verify),
)


def changes(result: playbook.Result) -> str:
    return f"{result.changed} changes" if result.changed else NOTHING_TO_DO


def perform(estate: Estate) -> list[dict[str, Any]]:
    """Run all steps; returns title, outcome, duration and AWS calls of each."""
    results = []
    for number, step in enumerate(STEPS, start=1):
        print(f"[{number}/{len(STEPS)}] {step.title}", flush=True)
        started, calls = time.monotonic(), estate.call_count()
        outcome = step.run(estate)
        seconds = time.monotonic() - started
        print(f"      {outcome} ({seconds:.1f} s)", flush=True)
        made = {name: count - calls.get(name, 0) for name, count in estate.call_count().items()}
        results.append({"step": step.title, "outcome": outcome, "seconds": round(seconds, 2), "aws_calls": made})
    return results


def main() -> int:
    try:
        estate = Estate(load())
        started = time.monotonic()
        results = perform(estate)
        estate.write_json("demo.json", results)
        print(summary.text(estate, seconds=time.monotonic() - started))
    except (EstateError, SettingsError, playbook.PlaybookError) as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted; `make demo` goes on from here, `make down` stops the sandbox", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
