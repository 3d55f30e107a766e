"""What may happen to a rollout while it runs: its controller dies, a device goes away for good, another one starts.

The tests go on from each other, as the life of a fleet does.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox import processes
from sandbox.estate import Estate
from sandbox.settings import CLONE
from tests.sandbox.support import OwnSandbox, eventually, run_program

DEVICES = 5
"""One of them is a fifth, which is the share that the gate allows to be unreachable."""
PLAYBOOK = str(Path(sys.executable).with_name("ansible-playbook"))
PLAYBOOK_TIMEOUT_S = 900


class Fleet:
    """Devices that run v1, and controllers that update them."""

    def __init__(self, own: OwnSandbox) -> None:
        self.own, self.estate = own, Estate(own.settings)
        self.own.json("up")
        self.run("playbooks/cloud.yml")
        self.run("playbooks/edge.yml", "v1")

    def _command(self, name: str, release: str) -> list[str]:
        """``sandbox`` tells this controller from all others on this machine."""
        variables = ["-e", f"sandbox={self.own.home}", *(["-e", f"edge_release_version={release}"] if release else [])]
        return [PLAYBOOK, name, "-l", "sandbox", *variables]

    def run(self, name: str, release: str = "") -> str:
        done = run_program(
            *self._command(name, release), environment=self.own.environment, timeout_s=PLAYBOOK_TIMEOUT_S
        )
        assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout

    def start(self, release: str) -> subprocess.Popen[bytes]:
        """A controller that rolls ``release`` out."""
        log = (self.own.home / "controller.log").open("ab")
        with log:
            return subprocess.Popen(
                self._command("playbooks/edge.yml", release),
                cwd=CLONE, env=self.own.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def kill_controllers(self) -> None:
        """As a power cut does: Ansible's workers, each in a session of its own, end with it."""
        for process in processes.with_command("ansible-playbook", f"sandbox={self.own.home}"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)

    def end_of(self, controller: subprocess.Popen[bytes]) -> int:
        return controller.wait(PLAYBOOK_TIMEOUT_S)

    @property
    def log(self) -> str:
        return (self.own.home / "controller.log").read_text(errors="replace")[-6000:]

    def state(self, device: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.own.settings.edge_root(device) / "state.json").read_bytes())
        return found

    def runs(self) -> dict[str, str]:
        """Device -> the release that is committed there."""
        return {device: str(self.state(device)["release"]) for device in self.estate.devices()}

    def installs(self, release: str) -> dict[str, int]:
        """Device -> how often it has come to ``release``."""
        came = ("committed", release)
        return {
            device: [(entry["outcome"], entry["release"]) for entry in self.state(device)["history"]].count(came)
            for device in self.estate.devices()
        }

    def rollouts(self, release: str) -> list[str]:
        """States of the rollouts of ``release``, newest first."""
        return [rollout["state"] for rollout in self.estate.rollouts() if rollout["release"] == release]

    def is_under_way(self, device: str, release: str) -> bool:
        state = self.state(device)
        return (state["target"] or state)["release"] == release


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    own = OwnSandbox(devices=DEVICES)
    try:
        yield Fleet(own)
    finally:
        own.remove()


@pytest.mark.fault(
    "controller killed mid-wave", "the next run goes on under the same rollout; each device installs once"
)
def test_a_controller_that_is_killed_in_a_wave_is_gone_on_from(fleet: Fleet) -> None:
    controller = fleet.start("v2")
    eventually(lambda: fleet.is_under_way("device-002", "v2") or controller.poll() is not None, PLAYBOOK_TIMEOUT_S)
    assert controller.poll() is None, fleet.log
    fleet.kill_controllers()
    controller.wait(30)
    assert fleet.rollouts("v2") == ["running"]
    assert fleet.runs()["device-005"] == "v1", "the fleet was not reached yet"
    fleet.run("playbooks/edge.yml", "v2")
    assert fleet.runs() == dict.fromkeys(fleet.estate.devices(), "v2")
    assert fleet.installs("v2") == dict.fromkeys(fleet.estate.devices(), 1)
    assert fleet.rollouts("v2") == ["completed"]


@pytest.mark.fault("device that never returns", "counted; within the budget the others go on; it pulls later")
def test_a_device_that_goes_away_in_a_rollout_and_does_not_return(fleet: Fleet) -> None:
    controller = fleet.start("v1")
    eventually(lambda: fleet.is_under_way("device-001", "v1") or controller.poll() is not None, PLAYBOOK_TIMEOUT_S)
    fleet.estate.switch("device-005", "off")
    assert fleet.end_of(controller) == 0, fleet.log
    rollout = fleet.estate.completed_rollout("v1")
    assert rollout
    assert json.loads(rollout["devices"])["device-005"] == "unreachable"
    others = dict.fromkeys(fleet.estate.devices(), "v1")
    assert fleet.runs() == {**others, "device-005": "v2"}
    fleet.run("playbooks/edge.yml", "v1")
    assert fleet.runs() == {**others, "device-005": "v2"}, "and the next run does without it as well"
    fleet.estate.switch("device-005", "on")
    eventually(lambda: fleet.runs() == others, 180)
    assert fleet.state("device-005")["history"][-1]["rollout_id"] == f"pull of {rollout['rollout_id']}"


@pytest.mark.fault("two controllers at once", "every device installs once; one rollout, completed")
def test_two_controllers_at_once(fleet: Fleet) -> None:
    before = fleet.installs("v2")
    controllers = [fleet.start("v2") for _ in range(2)]
    codes = [fleet.end_of(controller) for controller in controllers]
    assert 0 in codes, fleet.log
    assert fleet.runs() == dict.fromkeys(fleet.estate.devices(), "v2")
    assert fleet.installs("v2") == {device: count + 1 for device, count in before.items()}
    fleet.run("playbooks/edge.yml", "v2")
    assert "running" not in fleet.rollouts("v2")
    assert fleet.rollouts("v2")[0] in ("completed", "superseded")
