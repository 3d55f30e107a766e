"""Processes are known by pid and start time, found by their environment, and ended by id."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import processes
from sandbox.processes import Process
from tests.sandbox.support import eventually


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Programs a test started; ended and reaped at its end."""
    popens: list[subprocess.Popen[bytes]] = []
    yield popens
    for popen in popens:
        popen.kill()
        popen.wait()


def start(started: list[subprocess.Popen[bytes]], folder: Path, code: str, **environment: str) -> Process:
    popen, process = processes.start(
        [sys.executable, "-c", code], environment=environment, log=folder / "log", directory=folder
    )
    started.append(popen)
    return process


SLEEP = "import time; time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


def test_a_process_is_known_by_its_start_time(started: list[subprocess.Popen[bytes]], tmp_path: Path) -> None:
    process = start(started, tmp_path, SLEEP)
    assert process.alive
    assert not Process(process.pid, process.start_ticks + 1).alive, "the pid of another program"
    assert processes.end([process]) == []
    assert not process.alive, "a zombie is not alive"


def test_a_record_names_its_process(started: list[subprocess.Popen[bytes]], tmp_path: Path) -> None:
    process = start(started, tmp_path, SLEEP)
    processes.write_record(tmp_path / "run/p.json", process, port=1)
    assert processes.read_record(tmp_path / "run/p.json") == (process, {"port": 1})
    (tmp_path / "run/p.json").write_text("{")
    assert processes.read_record(tmp_path / "run/p.json") is None
    assert processes.read_record(tmp_path / "run/none.json") is None


def test_who_ignores_sigterm_is_killed(started: list[subprocess.Popen[bytes]], tmp_path: Path) -> None:
    process = start(started, tmp_path, STUBBORN)
    assert processes.wait_until(lambda: "up" in (tmp_path / "log").read_text(), timeout_s=10)
    assert processes.end([process], grace_s=0.2) == []
    assert not process.alive


def test_strays_are_found_by_the_whole_assignment(started: list[subprocess.Popen[bytes]], tmp_path: Path) -> None:
    value = uuid.uuid4().hex
    process = start(started, tmp_path, SLEEP, TEST_MARKER=value, OTHER="1")
    # The kernel shows a new program's environment a moment after it was started.
    eventually(lambda: processes.with_environment(f"TEST_MARKER={value}") == [process])
    assert processes.with_environment(f"TEST_MARKER={value}", "OTHER=1") == [process]
    assert processes.with_environment(f"TEST_MARKER={value}", "OTHER=2") == []
    assert processes.with_environment(f"TEST_MARKER={value[:-1]}") == []


def test_who_looks_for_strays_is_not_one() -> None:
    code = (
        "import os; from sandbox import processes; "
        "print(len(processes.with_environment(f\"TEST_MARKER={os.environ['TEST_MARKER']}\")))"
    )
    environment = {**os.environ, "TEST_MARKER": uuid.uuid4().hex}
    shell = [
        "sh",
        "-c",
        f"'{sys.executable}' -c '{code.replace(chr(39), chr(39) + chr(92) + chr(39) + chr(39))}'; true",
    ]
    folder = Path(__file__).parents[2]
    done = subprocess.run(shell, env=environment, cwd=folder, check=True, capture_output=True, text=True)
    assert done.stdout == "0\n", "neither itself nor its parent shell"


def test_the_owner_of_a_port_is_found() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        local = server.getsockname()
        assert processes.socket_owners({local}, listening=True) == {os.getpid(): local}
        assert processes.socket_owners({("127.0.0.2", local[1])}, listening=True) == {}


def test_a_file_is_written_in_one_step(tmp_path: Path) -> None:
    target = tmp_path / "folder/file"
    processes.write_atomically(target, "secret", mode=0o600)
    assert target.read_text() == "secret"
    assert target.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in target.parent.iterdir()] == ["file"]
