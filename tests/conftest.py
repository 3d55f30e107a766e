"""One sandbox for all tests of a session, in ``.sandbox-test``: the user's own sandbox is left alone.

``sandbox``     it runs; nothing is deployed
``estate``      the demo has run in it, from empty
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandbox.estate import Estate
from sandbox.ports import free_port
from sandbox.settings import CLONE, HOME_LENGTH_MAX, load
from tests.outcomes import outcome, pytest_runtest_setup, pytest_terminal_summary
from tests.sandbox.support import run_program

__all__ = ["outcome", "pytest_runtest_setup", "pytest_terminal_summary"]  # pytest finds fixtures and hooks here

# Each worker of pytest-xdist has a sandbox of its own.
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
IN_CLONE = CLONE / f".sandbox-test/{WORKER}"
HOME = IN_CLONE if len(os.fsencode(IN_CLONE)) <= HOME_LENGTH_MAX else Path(f"/tmp/tw-{os.getpid()}")  # noqa: S108
NETWORK = f"127.{30 + WORKER}.0.0"
DEMO_TIMEOUT_S = 900


@dataclass(frozen=True)
class Done:
    """A finished program: exit code and everything it printed."""

    exit_code: int
    output: str

    @property
    def changed(self) -> int:
        """Changed tasks over all hosts of an ansible-playbook run."""
        return sum(map(int, re.findall(r"\bchanged=(\d+)", self.output)))


class Sandbox(Estate):
    """The sandbox of this test session, and the programs a person would run in it."""

    def run(self, *argv: str, timeout_s: float = 600, check: bool = True) -> Done:
        """Run a program in the clone with the sandbox's environment."""
        done = run_program(*argv, environment=self.environment, timeout_s=timeout_s)
        assert not (check and done.returncode), f"{' '.join(argv)} exited with {done.returncode}\n{done.stdout[-6000:]}"
        return Done(done.returncode, done.stdout)

    def playbook(self, name: str, *arguments: str, check: bool = True) -> Done:
        """Run ansible-playbook on this sandbox."""
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        return self.run(program, name, "-l", "sandbox", *arguments, check=check)

    def command(self, *arguments: str, check: bool = True) -> Done:
        """Run ``python -m sandbox`` with arguments."""
        return self.run(sys.executable, "-m", "sandbox", *arguments, check=check)


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """A running sandbox with six devices and nothing deployed; stopped at the end of the session."""
    os.environ.update(
        SANDBOX_HOME=str(HOME), SANDBOX_PORT=str(free_port()), SANDBOX_NETWORK=NETWORK, SANDBOX_DEVICES="6"
    )
    running = Sandbox(load())
    running.command("clean")
    running.command("up")
    yield running
    running.command("down" if HOME == IN_CLONE else "clean")  # logs are worth keeping, but not outside the clone


@dataclass(frozen=True)
class Demonstration:
    """What the demo did, from an empty sandbox on."""

    empty_check: Done
    writes_of_empty_check: int
    first: Done
    second: Done


@pytest.fixture(scope="session")
def estate(sandbox: Sandbox) -> Demonstration:
    """The demo has run twice; before it, the plan was asked for on the empty sandbox."""
    writes_before = sandbox.call_count()["write"]
    empty_check = sandbox.playbook("site.yml", "--check", "--diff")
    writes = sandbox.call_count()["write"] - writes_before
    demo = (sys.executable, "-m", "sandbox.demo")
    first = sandbox.run(*demo, timeout_s=DEMO_TIMEOUT_S)
    return Demonstration(empty_check, writes, first, sandbox.run(*demo, timeout_s=DEMO_TIMEOUT_S))
