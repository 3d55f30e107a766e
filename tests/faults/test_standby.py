"""Runners that stand by are killed, hang, are of another commit, or have no room: the run is started anyway, once."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from toolbox.runner import handover

from sandbox import processes
from tests.faults.support import Faults
from tests.sandbox.support import eventually

Outcome = Callable[[str, str], None]

BY_STANDBY, BY_NEW_PYTHON = "toolbox.standby", "toolbox.run_once"


def carried_out_by(faults: Faults, run_id: str) -> str:
    """Which program carries out a run that is at work."""
    words = processes.command_line(faults.runner(run_id)).split()
    return next(word for word in words if word.startswith("toolbox."))


def run(faults: Faults, mark: str, expected: str) -> None:
    """A run that is carried out as expected, and has its effect once."""
    run_id = faults.send(faults.payload(mark, "sleep", 1))
    eventually(lambda: faults.count(mark) == 1)
    assert carried_out_by(faults, run_id) == expected
    assert faults.end(run_id)["state"] == "SUCCEEDED"
    assert (faults.count(mark), faults.count(mark, "executions")) == (1, 1)


@pytest.fixture
def standby(faults: Faults) -> list[int]:
    """Somebody stands by; the keeper and its runner."""
    if not handover.is_read(faults.twinops, faults.commit):
        faults.end(faults.send(faults.payload("warm up")))
    eventually(lambda: handover.is_read(faults.twinops, faults.commit) and len(faults.standby()) == 2)
    return faults.standby()


def test_two_runs_at_once(faults: Faults, outcome: Outcome, standby: list[int]) -> None:
    sent = {mark: faults.send(faults.payload(mark, "sleep", 3)) for mark in ("one of two", "two of two")}
    for mark, run_id in sent.items():
        eventually(lambda mark=mark: faults.count(mark) == 1)  # type: ignore[misc]
        assert carried_out_by(faults, run_id) == BY_STANDBY
    assert len({faults.runner(run_id) for run_id in sent.values()}) == 2
    for mark, run_id in sent.items():
        assert faults.end(run_id)["state"] == "SUCCEEDED"
        assert faults.count(mark, "executions") == 1
    outcome("two runs at once, one runner standing by", "SUCCEEDED, each by a runner of its own; 1 effect, 1 mail each")


def test_killed(faults: Faults, outcome: Outcome, standby: list[int]) -> None:
    faults.end_standby()
    assert (handover.folder(faults.twinops) / faults.commit).is_fifo()
    run(faults, "all killed", BY_NEW_PYTHON)
    eventually(lambda: handover.is_read(faults.twinops, faults.commit))
    run(faults, "there again", BY_STANDBY)
    outcome(
        "who stands by killed, pipe left behind", "SUCCEEDED by a new Python, then by who stands by; 1 effect, 1 mail"
    )


def test_hanging(faults: Faults, outcome: Outcome, standby: list[int]) -> None:
    for pid in standby:
        os.kill(pid, signal.SIGSTOP)
    try:
        run(faults, "hanging", BY_NEW_PYTHON)
    finally:
        for pid in standby:
            os.kill(pid, signal.SIGCONT)
    run(faults, "hangs no more", BY_STANDBY)
    assert faults.count("hanging", "executions") == 1
    outcome("who stands by hangs", "SUCCEEDED by a new Python after 2 s; 1 effect, 1 mail")


def test_another_commit(faults: Faults, outcome: Outcome, standby: list[int]) -> None:
    git = ["git", "-C", str(faults.dispatching.repository), "-c", "user.name=test", "-c", "user.email=test@example.com"]
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "Another commit"], check=True)
    another = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    run_id = faults.send({**faults.payload("other code", "sleep", 1), "git_sha": another})
    eventually(lambda: faults.count("other code") == 1)
    assert carried_out_by(faults, run_id) == BY_NEW_PYTHON
    assert faults.end(run_id)["state"] == "SUCCEEDED"
    eventually(lambda: handover.is_read(faults.twinops, another))
    subprocess.run([*git, "reset", "-q", "--hard", faults.commit], check=True)
    run(faults, "former code", BY_NEW_PYTHON)
    eventually(lambda: handover.is_read(faults.twinops, faults.commit) and len(faults.standby()) == 2)
    outcome("who stands by has another commit", "SUCCEEDED with the run's own code; 1 effect, 1 mail")


def test_cancelled(faults: Faults, outcome: Outcome, standby: list[int]) -> None:
    run_id = faults.send(faults.payload("cancelled", "sleep", 60))
    eventually(lambda: faults.count("cancelled") == 1)
    assert carried_out_by(faults, run_id) == BY_STANDBY
    faults.ledger.cancel(run_id, by="test")
    assert faults.end(run_id)["state"] == "CANCELLED"
    assert not faults.scripts(run_id)
    ring = [faults.twinops / "bin/run-once", run_id, "1", faults.commit]
    subprocess.run(ring, env=handover.environment_of_process(faults.jupyter()), check=True, timeout=60)
    assert faults.count("cancelled", "executions") == 1
    outcome("cancelled, then rung for once more", "CANCELLED, its processes are gone; 1 effect, 1 mail")


@pytest.fixture
def no_room(faults: Faults, standby: list[int]) -> Iterator[Path]:
    """Nothing more can be written where pipe and answers are."""
    folder = handover.folder(faults.twinops)
    faults.end_standby()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=3", "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("a small volume cannot be mounted here: this test wants to run as root")
    yield folder
    faults.end_standby()
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk(faults: Faults, outcome: Outcome, no_room: Path) -> None:
    run(faults, "room for a pipe", BY_NEW_PYTHON)
    eventually(lambda: handover.is_read(faults.twinops, faults.commit))
    (no_room / "ballast").touch()
    with pytest.raises(OSError, match="No space left"):
        (no_room / "more").touch()
    run(faults, "no room for an answer", BY_NEW_PYTHON)
    faults.end_standby()
    (no_room / faults.commit).unlink()
    (no_room / "instead of a pipe").touch()
    run(faults, "no room for a pipe", BY_NEW_PYTHON)
    eventually(lambda: not faults.standby())
    outcome("no room for who stands by", "SUCCEEDED by a new Python; 1 effect, 1 mail")
