"""Locks between processes: real ones, that are killed and that remove the file."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from toolbox.runner.locks import alone, shared

from tests.unit.endpoint import CLONE

HOLDER = """
import sys, time
from pathlib import Path
from toolbox.runner import locks
with getattr(locks, sys.argv[1])(Path(sys.argv[2])) as answer:
    print(answer, flush=True)
    time.sleep(60)
"""


class Holder:
    """Another process that holds a lock, or was refused, from when this is made."""

    def __init__(self, how: str, file: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, how, file],
            env={"PYTHONPATH": str(CLONE / "workflows")}, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout
        self.answer = self.process.stdout.readline().strip()

    def __enter__(self) -> Holder:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate(timeout=20)


@pytest.mark.parametrize("how", ["alone", "shared"])
def test_nobody_is_alone_beside_another_process_until_that_one_is_killed(tmp_path: Path, how: str) -> None:
    with Holder(how, tmp_path / "lock"), alone(tmp_path / "lock") as is_alone:
        assert not is_alone
    with alone(tmp_path / "lock") as is_alone:
        assert is_alone


def test_many_share_one(tmp_path: Path) -> None:
    with Holder("shared", tmp_path / "lock"), shared(tmp_path / "lock"), Holder("alone", tmp_path / "lock") as third:
        assert third.answer == "False"


def test_who_waited_has_the_lock_of_the_file_that_is_there_now(tmp_path: Path) -> None:
    """Otherwise he would have that of a file which the one before him has removed, and so would the next."""
    file = tmp_path / "lock"
    with alone(file):
        waiting = subprocess.Popen(
            [sys.executable, "-c", HOLDER, "shared", file],
            env={"PYTHONPATH": str(CLONE / "workflows")}, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        wait_until_it_waits(waiting)
        file.unlink()
    assert waiting.stdout
    waiting.stdout.readline()
    try:
        with alone(file) as is_alone:
            assert not is_alone
    finally:
        waiting.kill()
        waiting.communicate(timeout=20)


def wait_until_it_waits(process: subprocess.Popen[str]) -> None:
    """Until a process is blocked by a lock, as the kernel lists it (proc(5))."""
    deadline = time.monotonic() + 20
    while not any({"->", "FLOCK", str(process.pid)} <= set(line.split()) for line in kernel_locks()):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)


def kernel_locks() -> list[str]:
    return Path("/proc/locks").read_text().splitlines()
