"""Processes of the sandbox: started with a record, found again by pid and start time, ended by id.

A pid alone names nobody: the kernel gives it to another program later. A record therefore also holds the kernel's start
time of the process, and whatever lost its record is found by the marker in its environment.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

PROC = Path("/proc")
TCP_LISTEN = "0A"


@dataclass(frozen=True)
class Process:
    """One process, for as long as it lives. ``start_ticks`` is the kernel's start time (field 22 of /proc/PID/stat)."""

    pid: int
    start_ticks: int

    @property
    def alive(self) -> bool:
        return start_ticks(self.pid) == self.start_ticks


def start_ticks(pid: int) -> int | None:
    """Start time of a living process in clock ticks since boot; None when it is gone or a zombie."""
    try:
        # The command's name is in brackets and may itself hold brackets and spaces: fields count from the last one.
        fields = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def find(pid: int) -> Process | None:
    ticks = start_ticks(pid)
    return None if ticks is None else Process(pid, ticks)


def start(
    argv: list[str], *, environment: dict[str, str], log: Path, directory: Path, keep_open: Iterable[int] = ()
) -> tuple[subprocess.Popen[bytes], Process]:
    """Start a program in a session of its own (a Ctrl-C in our terminal is not for it), its output in ``log``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        popen = subprocess.Popen(
            argv,
            env=environment,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=tuple(keep_open),
        )
    # An unreaped child keeps its stat file, so this reads the right start time even if it has ended already.
    fields = (PROC / str(popen.pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    return popen, Process(popen.pid, int(fields[19]))


def write_record(path: Path, process: Process, **details: object) -> None:
    """Write ``run/<name>.json`` in one step: it is there completely or not at all."""
    write_atomically(path, json.dumps({**asdict(process), **details}, indent=1) + "\n")


def read_record(path: Path) -> tuple[Process, dict[str, object]] | None:
    """The process and the details of a record; None when there is none (or it is torn by a full disk)."""
    try:
        details = json.loads(path.read_text())
        return Process(int(details.pop("pid")), int(details.pop("start_ticks"))), details
    except (FileNotFoundError, ValueError, KeyError):
        return None


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)


def with_environment(*assignments: str) -> list[Process]:
    """Every living process (not this one, nor its ancestors) whose environment holds all of ``NAME=value``."""
    wanted = {os.fsencode(assignment) for assignment in assignments}
    family = ancestors(os.getpid())
    return [
        process
        for pid in _pids()
        if pid not in family
        and wanted <= set(_read(pid, "environ").split(b"\0"))
        and (process := find(pid)) is not None
    ]


def ancestors(pid: int) -> set[int]:
    """The process and those it descends from: who looks for strays must not end itself."""
    family: set[int] = set()
    while pid > 0 and pid not in family:
        family.add(pid)
        stat = _read(pid, "stat").rpartition(b")")[2].split()
        pid = int(stat[1]) if stat else 0
    return family


def with_command(*parts: str) -> list[Process]:
    """Every living process whose command line holds all ``parts``."""
    wanted = [os.fsencode(part) for part in parts]
    return [
        process
        for pid in _pids()
        if (command := _read(pid, "cmdline"))
        and all(part in command for part in wanted)
        and (process := find(pid)) is not None
    ]


def command_line(pid: int) -> str:
    """What ``ps`` would show, for messages."""
    return _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()


def end(processes: Iterable[Process], *, grace_s: float = 10.0) -> list[Process]:
    """End processes: SIGTERM to all, a bounded wait, SIGKILL to the rest. Returns those that outlived even that."""
    remaining = [process for process in processes if process.alive]
    for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
        remaining = _signal_and_wait(remaining, number, wait_s)
    return remaining


def _signal_and_wait(targets: list[Process], number: signal.Signals, wait_s: float) -> list[Process]:
    for process in targets:
        if process.alive:
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)
    wait_until(lambda: not any(process.alive for process in targets), timeout_s=wait_s)
    return [process for process in targets if process.alive]


def wait_until(condition: Callable[[], bool], *, timeout_s: float, interval_s: float = 0.02) -> bool:
    """Poll until ``condition`` holds; False when the time is up."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval_s)
    return True


def socket_owners(sockets: Collection[tuple[str, int]], *, listening: bool) -> dict[int, tuple[str, int]]:
    """Which process (pid, as far as this user may look) has which of these local TCP addresses and ports.

    A program listening on 0.0.0.0 has every address of its port.
    """
    by_inode: dict[str, tuple[str, int]] = {}
    for line in (PROC / "net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        host, _, port = fields[1].partition(":")
        local = (".".join(str(byte) for byte in reversed(bytes.fromhex(host))), int(port, 16))
        any_address = local[0] == "0.0.0.0"  # noqa: S104 (compared, not bound)
        taken = [one for one in sockets if one == local or (any_address and one[1] == local[1])]
        if taken and (fields[3] == TCP_LISTEN) >= listening:
            by_inode[f"socket:[{fields[9]}]"] = taken[0]
    if not by_inode:
        return {}
    return {pid: by_inode[inode] for pid in _pids() for inode in _open_files(pid) & by_inode.keys()}


def _open_files(pid: int) -> set[str]:
    found = set()
    with suppress(OSError):
        for descriptor in (PROC / str(pid) / "fd").iterdir():
            with suppress(OSError):
                found.add(str(descriptor.readlink()))
    return found


def _pids() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]


def _read(pid: int, name: str) -> bytes:
    try:
        return (PROC / str(pid) / name).read_bytes()
    except OSError:  # gone meanwhile, or another user's
        return b""


def environment_of(pid: int) -> bytes:
    """The environment a process was started with, entries separated by zero bytes; empty when it may not be read."""
    return _read(pid, "environ")
