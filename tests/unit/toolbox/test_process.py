"""Supervising real processes: exit codes, time limit, output, and that nothing is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from toolbox.runner import process
from toolbox.runner.process import Ended, supervise


def run(
    script: str, folder: Path, *, timeout_s: float = 30, stop: threading.Event | None = None
) -> tuple[Ended, bytes]:
    printed: list[bytes] = []
    ended = supervise(
        [sys.executable, "-u", "-c", script],
        folder=folder,
        environment=os.environ,
        timeout_s=timeout_s,
        sink=printed.append,
        stop=stop or threading.Event(),
    )
    return ended, b"".join(printed)


def gone(pid: int) -> bool:
    """Whether a process ends within five seconds; the kernel takes a moment after the signal."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("code", [0, 1, 3, 255])
def test_the_exit_code_is_the_programs(tmp_path: Path, code: int) -> None:
    ended, _ = run(f"raise SystemExit({code})", tmp_path)
    assert (ended.exit_code, ended.timed_out, ended.stopped) == (code, False, False)


def test_a_signal_is_told_as_shells_do(tmp_path: Path) -> None:
    ended, _ = run("import os; os.kill(os.getpid(), 9)", tmp_path)
    assert ended.exit_code == 137


def test_what_is_to_stop_before_it_begins_is_not_started(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    ended, _ = run("open('started', 'w')", tmp_path, stop=stop)
    assert (ended.exit_code, ended.stopped, list(tmp_path.iterdir())) == (None, True, [])


def test_output_and_errors_in_order_whatever_their_bytes(tmp_path: Path) -> None:
    script = "import sys; print('a'); sys.stderr.write('b\\n'); sys.stdout.buffer.write(b'\\xff\\n')"
    _, printed = run(script, tmp_path)
    assert printed == b"a\nb\n\xff\n"


def test_no_input_to_wait_for(tmp_path: Path) -> None:
    ended, printed = run("print(repr(input()))", tmp_path, timeout_s=10)
    assert ended.exit_code == 1
    assert b"EOFError" in printed


def test_the_time_limit_ends_the_whole_group(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys, time, pathlib\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "pathlib.Path('child').write_text(str(child.pid)); time.sleep(60)"
    )
    ended, _ = run(script, tmp_path, timeout_s=2)
    assert (ended.exit_code, ended.timed_out) == (None, True)
    assert 2 <= ended.duration_s < 12
    assert gone(int((tmp_path / "child").read_text()))


def test_a_program_that_ignores_the_polite_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE_S", 1)
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf'); time.sleep(60)"
    ended, printed = run(script, tmp_path, timeout_s=2)
    assert (ended.timed_out, printed) == (True, b"deaf\n")
    assert ended.duration_s < 10


def test_a_child_left_behind_is_ended_and_does_not_hold_the_run(tmp_path: Path) -> None:
    script = (
        "import subprocess, pathlib\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        "pathlib.Path('child').write_text(str(child.pid))"
    )
    started = time.monotonic()
    ended, _ = run(script, tmp_path)
    assert ended.exit_code == 0
    assert time.monotonic() - started < 8
    assert gone(int((tmp_path / "child").read_text()))


def wait_for_environment(pid: int) -> None:
    """The kernel shows it a moment after the program has begun."""
    deadline = time.monotonic() + 5
    while not Path(f"/proc/{pid}/environ").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_run_that_is_taken_away_stops(tmp_path: Path) -> None:
    stop = threading.Event()
    threading.Timer(1, stop.set).start()
    ended, _ = run("import time; time.sleep(60)", tmp_path, stop=stop)
    assert (ended.exit_code, ended.timed_out, ended.stopped) == (None, False, True)
    assert ended.duration_s < 10


@pytest.mark.parametrize("is_first", [False, True])
def test_what_has_the_mark_is_ended_in_whatever_session(tmp_path: Path, is_first: bool) -> None:
    """A daemon that the program leaves, and one that an earlier attempt at the same run has left.

    Who says that there was no earlier attempt does not have the latter looked for before the program begins.
    """
    environment = {**os.environ, "TWINOPS_RUN": str(tmp_path)}
    earlier = subprocess.Popen(["sleep", "60"], env=environment, start_new_session=True)
    another = subprocess.Popen(["sleep", "60"], env={**environment, "TWINOPS_RUN": f"{tmp_path}2"})
    wait_for_environment(earlier.pid)
    script = (
        "import subprocess, pathlib\n"
        f"state = pathlib.Path('/proc/{earlier.pid}/stat').read_text().rpartition(')')[2].split()[0]\n"
        "pathlib.Path('earlier').write_text(state)\n"
        "child = subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
        "pathlib.Path('child').write_text(str(child.pid))"
    )
    try:
        ended = supervise(
            [sys.executable, "-c", script], folder=tmp_path, environment=environment, timeout_s=30,
            sink=bytes, stop=threading.Event(), mark="TWINOPS_RUN", is_first=is_first,
        )  # fmt: skip
        assert ended.exit_code == 0
        assert ended.duration_s < 8, "it holds the pipe open, but not the run"
        assert gone(int((tmp_path / "child").read_text()))
        assert (tmp_path / "earlier").read_text() == ("S" if is_first else "Z"), "ended before the program began?"
        assert earlier.wait(5) == -9
        assert another.poll() is None
    finally:
        for process in (earlier, another):
            process.kill()
            process.wait()
