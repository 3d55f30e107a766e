"""The playbooks a person runs: create, no-op, check, teardown, and what teardown refuses."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twinops.aws.kinds import role
from twinops.aws.owned import owned
from twinops.aws.reconcile import observe
from twinops.aws.session import Aws
from twinops.plan import Key

from sandbox.settings import CLONE
from tests.sandbox.support import OwnSandbox

pytestmark = pytest.mark.sandbox

PLAYBOOK_TIMEOUT_S = 300
# Twins start a real Jupyter, which takes longer than all the rest; tests/sandbox/test_estate.py has them.
QUICK = json.dumps({"twins_instances": []})
KILLS = int(os.environ.get("TWINOPS_KILLS", "1"))
"""At how many points a creation is killed; `make test-faults` tries 20."""


class Playbooks:
    """``ansible-playbook`` on the sandbox environment of one endpoint."""

    def __init__(self, sandbox: OwnSandbox) -> None:
        self.sandbox = sandbox
        # Three in the inventory, one for each wave, without which no playbook runs; none is touched here.
        self.environment = {**sandbox.environment, "SANDBOX_DEVICES": "3", "ANSIBLE_NOCOLOR": "1"}

    def start(self, playbook: str, *arguments: str) -> subprocess.Popen[str]:
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        argv = [program, playbook, "-l", "sandbox", "-e", QUICK, *arguments]
        return subprocess.Popen(
            argv, cwd=CLONE, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, playbook: str, *arguments: str) -> str:
        """The output of a run that must succeed."""
        started = self.start(playbook, *arguments)
        output, _ = started.communicate(timeout=PLAYBOOK_TIMEOUT_S)
        assert started.returncode == 0, output[-4000:]
        return output

    def writes(self) -> list[str]:
        return [f"{call['service']}:{call['action']}" for call in self.sandbox.calls() if call["write"]]


def changed(output: str) -> int:
    return sum(map(int, re.findall(r"\bchanged=(\d+)", output)))


@pytest.fixture
def playbooks(own_sandbox: OwnSandbox, credentials: None) -> Iterator[Playbooks]:
    made = Playbooks(own_sandbox)
    yield made
    made.run("playbooks/teardown.yml", "-e", "with_data=true")


def inventory() -> dict[Key, Any]:
    """Everything that carries our tags in the sandbox environment, as AWS reports it."""
    aws = Aws("sandbox")
    for service in ("resourcegroupstaggingapi", "iam"):
        aws.client(service)
    keys = {each.key for each in (*owned(aws), *role.list_owned(aws))}
    return {key: found.resource for key, found in observe(aws, keys).items()}


def test_create_again_check_teardown(playbooks: Playbooks) -> None:
    before = len(playbooks.writes())
    predicted = playbooks.run("site.yml", "--tags", "cloud", "--check", "--diff")
    assert len(playbooks.writes()) == before, "check mode wrote"
    assert changed(predicted) == 1
    for title in ("role twinops-sandbox-mlops:", "bucket twinops-sandbox-reports-", "rule twinops-sandbox-model_eval"):
        assert title in predicted
    assert changed(playbooks.run("site.yml", "--tags", "cloud")) == 1
    made = len(playbooks.writes())
    assert changed(playbooks.run("site.yml", "--tags", "cloud")) == 0
    assert changed(playbooks.run("site.yml", "--tags", "cloud", "--check", "--diff")) == 0
    assert len(playbooks.writes()) == made, "a run with nothing to change wrote"
    kept = playbooks.run("playbooks/teardown.yml")
    assert "kept, as it holds data" in kept
    assert {kind for kind, _ in inventory()} == {"bucket", "key", "table"}
    playbooks.run("playbooks/teardown.yml", "-e", "with_data=true")
    assert inventory() == {}


def test_one_part_alone(playbooks: Playbooks) -> None:
    assert changed(playbooks.run("site.yml", "--tags", "notifications")) == 1  # has the key of the buckets
    assert {kind for kind, _ in inventory()} == {"key", "topic"}
    assert changed(playbooks.run("site.yml", "--tags", "storage")) == 1
    assert {kind for kind, _ in inventory()} == {"bucket", "key", "table", "topic"}
    assert changed(playbooks.run("site.yml", "--tags", "storage")) == 0


@pytest.mark.parametrize("said", ["", "confirm=staging", "confirm=true"], ids=["nothing", "another", "yes"])
def test_production_goes_only_when_it_is_named(own_sandbox: OwnSandbox, said: str) -> None:
    before = len(own_sandbox.calls())
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    argv = [program, "playbooks/teardown.yml", "-l", "production", *(["-e", said] if said else [])]
    done = subprocess.run(
        argv, cwd=CLONE, env=own_sandbox.environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode != 0
    assert "say so with -e confirm=production" in done.stdout
    assert len(own_sandbox.calls()) == before


def test_killed_at_any_point_a_rerun_converges(playbooks: Playbooks, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL of ansible-playbook after a random number of its writes; then the same, once, and nothing twice."""
    before = len(playbooks.writes())
    playbooks.run("playbooks/cloud.yml")
    expected, total = inventory(), len(playbooks.writes()) - before
    points = random.sample(range(1, total), KILLS)
    for point in points:
        playbooks.run("playbooks/teardown.yml", "-e", "with_data=true")
        assert inventory() == {}
        kill_after(playbooks, point)
        playbooks.run("playbooks/cloud.yml")
        assert inventory() == expected, f"killed after {point} of {total} writes"
        assert changed(playbooks.run("playbooks/cloud.yml")) == 0


def kill_after(playbooks: Playbooks, writes: int) -> None:
    """Start a creation and kill it, workers included, as soon as it has made ``writes`` writes."""
    start = len(playbooks.writes())
    creation = playbooks.start("playbooks/cloud.yml")
    while len(playbooks.writes()) < start + writes:
        assert creation.poll() is None, creation.communicate()[0][-2000:]
        time.sleep(0.005)
    creation.send_signal(signal.SIGKILL)
    creation.communicate(timeout=PLAYBOOK_TIMEOUT_S)
    settled = until_quiet(lambda: len(playbooks.sandbox.calls()))
    assert settled, "somebody went on after ansible-playbook was killed"


def until_quiet(count: Callable[[], int], quiet_s: float = 1.0, timeout_s: float = 15.0) -> bool:
    """Whether ``count`` stays the same for ``quiet_s`` within ``timeout_s``."""
    deadline, last, since = time.monotonic() + timeout_s, count(), time.monotonic()
    while time.monotonic() < deadline:
        time.sleep(0.05)
        now = count()
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > quiet_s:
            return True
    return False
