"""Set-up: what it refuses before it writes anything, and that an environment counts only once it is complete."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import setup
from sandbox.settings import CLONE


def test_a_wrong_setting_is_refused_before_anything_is_installed() -> None:
    environment = {**os.environ, "SANDBOX_PORT": "http", "SANDBOX_DEVICES": "1000"}
    done = subprocess.run(
        [sys.executable, "-m", "sandbox.setup"],
        cwd=CLONE,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "SANDBOX_PORT: expected a number from 1024 to 65535, got 'http'" in done.stderr
    assert "SANDBOX_DEVICES: expected a number from 1 to 100, got '1000'" in done.stderr
    assert done.stdout == ""


def test_an_unsupported_python_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "SUPPORTED", ((3, 90), (3, 99)))
    with pytest.raises(setup.SetupError, match=r"Python: expected 3\.11–3\.13, got 3\..* make demo PYTHON="):
        setup.check_machine()


def test_missing_programs_that_the_user_may_not_install_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup.shutil, "which", lambda program, path=None: None)
    missing = setup.missing_packages()
    assert missing == ["openssh-server", "openssh-client", "git"]
    with pytest.raises(setup.SetupError, match=r"sudo apt-get install .*openssh-server openssh-client git$"):
        setup.install_packages(missing)


def test_an_environment_counts_only_once_it_is_complete(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("six==1.17.0\n")
    environment = setup.Environment("test", tmp_path / "environment", lock)
    environment.path.mkdir()
    assert not setup.is_complete(environment), "it was interrupted"
    setup.mark_complete(environment)
    assert setup.is_complete(environment)
    lock.write_text("six==1.16.0\n")
    assert not setup.is_complete(environment), "the lock has changed"


def test_an_environment_stays_complete_for_its_own_python() -> None:
    """The second `make` runs set-up with the Python of .venv, which the first one made."""
    program = "from sandbox import setup; print(setup.key(setup.PEER), end='')"
    pythons = [setup.PYTHON, sys.executable]
    assert pythons[0] != pythons[1], "the tests run in an environment"
    first, second = (subprocess.check_output([python, "-c", program], cwd=CLONE, text=True) for python in pythons)
    assert first == second


def test_a_failing_installer_is_named_with_the_end_of_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "LOGS", tmp_path)
    command = [sys.executable, "-c", "print('no such package'); raise SystemExit(3)"]
    with pytest.raises(setup.SetupError, match=r"exited with 3(.|\n)*no such package"):
        setup.run(command, "test.log")
