"""``edge_release`` as a playbook runs it: action plugin, module, and a device that is a real sshd."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twinops import release
from twinops.publishing import delivery

from sandbox import devices
from sandbox.settings import load
from tests.edge.release_world import ENV, Publisher, World
from tests.edge.test_enrol import POWER_ON
from tests.edge.test_install_crash import CLONE
from tests.edge.test_transport import CHANGED, SMALL

NETWORK = f"127.25.{10 + os.getpid() % 200}.0"  # of its own, so that two test runs do not meet
PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - edge_release:
        root: "{{ edge_root }}"
        env: ENV
        bundle: "{{ bundle }}"
        service_manager: supervisord
        rollout_id: r1
        start_timeout_s: 2
        probe_s: 0
        maintenance_window: "{{ window | default('') }}"
        bandwidth_kib_s: "{{ bandwidth | default(0) }}"
"""


class Fleet:
    """One device behind ssh, whose service is that of ``World``, and the playbook that updates it."""

    def __init__(self, home: Path, publisher: Publisher) -> None:
        self.home, self.publisher = home, publisher
        settings = load({"SANDBOX_HOME": str(home), "SANDBOX_NETWORK": NETWORK})
        self.device = devices.Device(settings, 1)
        # As a program of its own: sshd shall outlive who started it, and here that would be this test run.
        subprocess.run([sys.executable, "-c", POWER_ON, str(home), NETWORK], cwd=CLONE, check=True, timeout=60)
        self.world = World(home / "opt", publisher)
        (home / "push.yml").write_text(PLAYBOOK.replace("ENV", ENV))

    def command(self, wanted: dict[str, Any], *options: str, **variables: Any) -> list[str]:
        everything = {
            "ansible_host": self.device.address,
            "ansible_port": devices.SSH_PORT,
            "ansible_user": devices.login_user(),
            "ansible_ssh_private_key_file": str(self.home / "id_ed25519"),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self.home}/known_hosts -o GlobalKnownHostsFile=none",
            "ansible_control_path_dir": str(self.home / "cp"),
            "ansible_remote_tmp": str(self.device.root / "tmp/ansible"),
            "ansible_python_interpreter": sys.executable,
            "ansible_pipelining": True,
            "edge_root": str(self.world.root),
            "bundle": self.publisher.deliverable(wanted["release_digest"]),
            **variables,
        }
        (self.home / "variables.json").write_text(json.dumps(everything))
        program = str(CLONE / ".venv/bin/ansible-playbook")
        inventory = ["-i", "device-001,", "-e", f"@{self.home}/variables.json"]
        return [program, *inventory, "-v", *options, str(self.home / "push.yml")]

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{CLONE}/.venv/bin:{os.environ['PATH']}",
            "HOME": str(self.home),
            "ANSIBLE_CONFIG": str(CLONE / "ansible.cfg"),
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
            "ANSIBLE_NOCOLOR": "1",
        }

    def push(self, wanted: dict[str, Any], *options: str, **variables: Any) -> dict[str, Any]:
        """The task's result."""
        done = subprocess.run(
            self.command(wanted, *options, **variables),
            cwd=CLONE, env=self.environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        found = re.search(r"^(?:changed|ok|fatal): \[device-001\].*? => (\{.*?^\}|\{.*\})$", done.stdout, re.M | re.S)
        assert found, done.stdout + done.stderr
        return dict(json.loads(found[1]))


@pytest.fixture
def fleet(short_tmp: Path) -> Iterator[Fleet]:
    publisher = Publisher(short_tmp)
    first = publisher.publish("v1", SMALL)
    fleet = Fleet(short_tmp, publisher)
    fleet.world.install(first)
    yield fleet
    fleet.world.close()
    devices.power_off(fleet.device)


def test_a_push_by_ansible(fleet: Fleet) -> None:
    """Waits outside the window, sends a delta inside it, the whole file where the delta does not do, then nothing."""
    v2 = fleet.publisher.publish("v2", CHANGED)
    waiting = fleet.push(v2, window="Mon 00:00-00:01")
    assert (waiting["action"], waiting["bytes_sent"], waiting["changed"]) == ("wait", 0, False)
    assert fleet.world.state()["waiting"]["release"] == "v2"
    updated = fleet.push(v2)
    assert (fleet.world.linked(), updated["deltas"], updated["action"]) == ("v2", 1, "install")
    assert 0 < updated["bytes_sent"] < 20_000
    nothing = fleet.push(v2)
    assert (nothing["changed"], nothing["bytes_sent"]) == (False, 0)
    v3 = fleet.publisher.publish("v3", SMALL[:-4] + b"v3!!")
    for slot in ("a", "b"):
        model = fleet.world.root / "slots" / slot / "model.onnx"
        model.write_bytes(b"!!" + model.read_bytes()[2:])
    whole = fleet.push(v3)
    assert (fleet.world.linked(), whole["deltas"]) == ("v3", 0)
    assert whole["bytes_sent"] > release.LARGE_BYTES
    assert "edge_maintenance_window: expected hours in UTC" in fleet.push(v2, window="at night")["msg"]


NO_MODULE = {"ansible_python_interpreter": "/nowhere/python"}
"""With these variables only the program that the device keeps can have done it."""


def test_a_push_to_a_device_that_keeps_the_program(fleet: Fleet) -> None:
    """Everything that the module does: by request, by attached parts, by parts put there before, and in check mode."""
    fleet.world.keep_push_program()
    v2 = fleet.publisher.publish("v2", CHANGED)
    assert fleet.push(v2, window="Mon 00:00-00:01", **NO_MODULE)["action"] == "wait"
    would = fleet.push(v2, "--check", **NO_MODULE)
    assert (would["changed"], would["action"], fleet.world.linked()) == (True, "install", "v1")
    updated = fleet.push(v2, **NO_MODULE)
    assert (fleet.world.linked(), updated["deltas"], updated["changed"]) == ("v2", 1, True)
    assert 0 < updated["bytes_sent"] < 20_000
    nothing = fleet.push(v2, **NO_MODULE)
    assert (nothing["changed"], nothing["bytes_sent"]) == (False, 0)
    large = random.Random(6).randbytes(5 << 20)  # noqa: S311
    whole = fleet.push(fleet.publisher.publish("v3", large), **NO_MODULE)
    assert (fleet.world.linked(), whole["bytes_sent"] > len(large)) == ("v3", True)
    failed = fleet.push(fleet.publisher.publish("v4", SMALL, health="silent"), **NO_MODULE)
    assert "the service was not ok within 2 s" in failed["msg"]
    assert (fleet.world.linked(), failed["state"]["reason"][:15]) == ("v3", "the service was")
    assert not list((fleet.world.root / "incoming").iterdir())


def test_a_device_with_another_program_is_sent_the_module_and_a_broken_one_is_named(fleet: Fleet) -> None:
    program = fleet.world.keep_push_program()
    program = program.rename(program.with_name("push-0123456789abcdef"))
    v2 = fleet.publisher.publish("v2", CHANGED)
    assert fleet.push(v2, ansible_pipelining=False)["changed"]
    v3 = fleet.publisher.publish("v3", SMALL[:-4] + b"v3!!")
    assert fleet.push(v3)["changed"]
    assert fleet.world.linked() == "v3"
    (fleet.world.keep_push_program() / "twinops/errors.py").write_text("broken(")
    broken = fleet.push(v2)
    assert "the program on the device gave no answer, exit code 1" in broken["msg"]
    assert "SyntaxError" in broken["msg"]


def test_a_limited_push_whose_sshd_is_killed_goes_on_where_it_was(fleet: Fleet) -> None:
    v2 = fleet.publisher.publish("v2", random.Random(4).randbytes(1800 << 10))  # noqa: S311
    incoming, pushed = fleet.world.root / "incoming", fleet.publisher.folder / "push"
    before = set(pushed.iterdir())
    running = subprocess.Popen(
        fleet.command(v2, bandwidth=300), cwd=CLONE, env=fleet.environment, stdout=subprocess.DEVNULL
    )
    try:
        give_up = time.monotonic() + 60
        while len(sizes := [part.stat().st_size for part in incoming.glob("*.part")]) < 2:
            assert time.monotonic() < give_up
            assert running.poll() is None
            time.sleep(0.02)
        assert sum(sizes) < 1500 << 10, "not limited"
        devices.power_off(fleet.device)
    finally:
        running.wait(60)
    assert fleet.world.linked() == "v1"
    subprocess.run([sys.executable, "-c", POWER_ON, str(fleet.home), NETWORK], cwd=CLONE, check=True, timeout=60)
    whole = [part for part in incoming.glob("*.part") if release.sha256(part.read_bytes()) == part.stem]
    arrived = sum(part.stat().st_size for part in whole)
    resumed = fleet.push(v2, bandwidth=300)
    assert fleet.world.linked() == "v2"
    assert arrived >= delivery.part_bytes(300)
    total = sum(part.stat().st_size for part in pushed.glob("*.part") if part not in before)
    assert resumed["bytes_sent"] == total - arrived
