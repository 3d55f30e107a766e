"""Runs a program in a process group of its own, with a hard time limit, and streams what it prints."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

GRACE_S = 10
"""Between the polite and the final signal."""

_READ_BYTES = 65536


@dataclass(frozen=True)
class Ended:
    """How a program ended. ``exit_code`` is ``None`` if we ended it; 128 + n if signal n did, as shells say it."""

    exit_code: int | None
    timed_out: bool
    stopped: bool
    duration_s: float


def supervise(
    command: Sequence[str | Path],
    *,
    folder: Path,
    environment: Mapping[str, str],
    timeout_s: float,
    sink: Callable[[bytes], None],
    stop: threading.Event,
    mark: str = "",
    is_first: bool = False,
) -> Ended:
    """Run ``command`` to its end, or to the time limit, or until ``stop`` is set; then nothing of its group is left.

    It is not started at all where ``stop`` is set already.

    ``sink`` gets standard output and standard error, mixed as they come, from another thread. ``mark`` is a variable of
    ``environment`` that only this run's processes have: all that have it are ended as well, those in sessions of their
    own, and those that an earlier attempt, which was killed itself, has left. ``is_first``: there was none, so nobody
    looks for those, through all processes of the machine, before the program is started.
    """
    started = time.monotonic()
    marked = f"{mark}={environment[mark]}".encode() if mark else b""
    if not is_first:
        end_marked(marked)
    if stop.is_set():
        return Ended(exit_code=None, timed_out=False, stopped=True, duration_s=0)
    program = subprocess.Popen(
        [str(word) for word in command],
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    reader = threading.Thread(target=_read, args=(program, sink), daemon=True)
    reader.start()
    timed_out = not _wait(program, started + timeout_s, stop)
    stopped = program.poll() is None and not timed_out
    if timed_out or stopped:
        _end(program)
    _signal(program, signal.SIGKILL)  # what the program left running in its group, which also holds the pipe open
    end_marked(marked)
    reader.join(GRACE_S)
    code = None if timed_out or stopped else program.returncode
    return Ended(
        exit_code=128 - code if code is not None and code < 0 else code,
        timed_out=timed_out,
        stopped=stopped,
        duration_s=round(time.monotonic() - started, 3),
    )


def end_marked(assignment: bytes) -> None:
    """Kill every process whose environment, as it was started with, has the assignment ``NAME=value``."""
    found = {0}
    while assignment and found:  # again: one may have started another one meanwhile
        found = {pid for pid in _process_ids() if assignment in _environment(pid)}
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def start_detached(command: Sequence[str | Path]) -> None:
    """Start a program that outlives this one and is not waited for: in a session of its own, without our files."""
    words = [str(word) for word in command]
    null = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
    os.posix_spawn(words[0], words, os.environ, file_actions=null, setsid=True)


def _wait(program: subprocess.Popen[bytes], deadline: float, stop: threading.Event) -> bool:
    """False when the deadline passed; true when the program ended or ``stop`` was set."""
    while not stop.is_set():
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return False
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(min(left_s, 0.5))
            return True
    return True


def _end(program: subprocess.Popen[bytes]) -> None:
    _signal(program, signal.SIGTERM)
    try:
        program.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        _signal(program, signal.SIGKILL)
        program.wait()


def _signal(program: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(program.pid, number)


def _read(program: subprocess.Popen[bytes], sink: Callable[[bytes], None]) -> None:
    if program.stdout is None:
        return
    with program.stdout as pipe:
        while data := os.read(pipe.fileno(), _READ_BYTES):
            sink(data)


def _process_ids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _environment(pid: int) -> list[bytes]:
    """Empty for a process that has ended, that is not ours, or that the kernel is taking away."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
