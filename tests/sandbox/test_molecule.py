"""What runs Molecule's scenarios: they are complete, only read where they verify, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from sandbox import molecule, processes
from sandbox.settings import CLONE, MARKER
from tests.sandbox.support import eventually


def test_each_role_has_a_scenario() -> None:
    roles = {path.name for path in (CLONE / "roles").iterdir()} - {"sandbox"}  # which scenarios run in
    assert roles == {path.parent.name for path in molecule.SCENARIOS.glob("*/converge.yml")}


def test_a_misspelt_scenario_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert molecule.main(["storage", "storrage"]) == 2
    assert "storage, twins" in (said := capsys.readouterr().err)
    assert said.endswith("got storrage\n")


@pytest.mark.parametrize("operation", ["create_bucket", "delete_bucket", "close"])
def test_verifications_cannot_write(operation: str) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "ansible",
            "adhoc",
            "localhost",
            "-m",
            "aws_read",
            "-a",
            f"service=s3 operations={operation}",
        ],
        cwd=CLONE,
        env={**os.environ, "ANSIBLE_LIBRARY": str(molecule.SCENARIOS / "library"), "ANSIBLE_NOCOLOR": "1"},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert f"expected each to start with describe_, get_, head_, list_, got {operation}" in done.stdout + done.stderr


@pytest.mark.sandbox
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_a_run_that_is_stopped_leaves_nothing(number: signal.Signals) -> None:
    run = subprocess.Popen(
        [sys.executable, "-m", "sandbox.molecule", "notifications"],
        cwd=CLONE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    home = molecule.sandbox_home(run.pid)
    marks = [f"{molecule.OWNER}={home}", f"{MARKER}={home}"]
    try:
        eventually(lambda: all(map(processes.with_environment, marks)), timeout_s=120)
    finally:
        run.send_signal(number)
        run.wait(180)
    eventually(lambda: not home.exists() and not any(map(processes.with_environment, marks)), timeout_s=60)
    eventually(lambda: not molecule.STATE.exists(), timeout_s=10)
