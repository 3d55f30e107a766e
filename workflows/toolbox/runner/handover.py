"""How ``bin/run-once`` hands a run to a runner that stands by: over a pipe.

``standby/<commit>`` is a named pipe (a FIFO) to who has loaded the code of a commit. Who keeps runners standing by
(:mod:`toolbox.standby`) holds a lock on it as long as it lives, so that a pipe that a killed one has left is told from
one that is read. ``run-once`` writes ``RUN_ID EPOCH PID`` into it, and waits for the file ``standby/RUN_ID.EPOCH.PID``:
the run was taken. If nobody takes it within two seconds, or nobody reads, it starts a runner itself. Should both take
it, the ledger lets only one of them have the run.

There is at most one such pipe on a twin: a new one replaces all others, whose keepers find that out and end.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from twinops.errors import TwinopsError

_LINE = re.compile(rb"([0-9a-f]{1,64}) ([0-9]{1,9}) ([0-9]{1,9})")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_READ_BYTES = 65536
"""What a pipe holds."""

_ANY_VARIABLE = ("AWS_", "BOTO")
_ONE_VARIABLE = {"HOME", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"}


class HandoverError(TwinopsError):
    """A run cannot be taken over by a runner that stands by."""


@dataclass(frozen=True)
class Request:
    """What ``bin/run-once`` wants to have started."""

    run_id: str
    epoch: int
    caller: int
    """Id of the process that waits, and whose environment the run gets."""

    def accept(self, home: Path) -> None:
        """Tell the caller that the run is taken."""
        (folder(home) / f"{self.run_id}.{self.epoch}.{self.caller}").touch()


class Pipe:
    """The reading end of the twin's pipe. The lock on it is that of all processes that have inherited it."""

    def __init__(self, home: Path, commit: str) -> None:
        self.path = folder(home) / commit
        self.path.parent.mkdir(exist_ok=True)
        part = self.path.with_name(f"{commit}.{secrets.token_hex(4)}.part")
        os.mkfifo(part, 0o600)
        self.descriptor = os.open(part, os.O_RDWR | os.O_NONBLOCK)  # it is a writer as well: the pipe never ends
        fcntl.flock(self.descriptor, fcntl.LOCK_SH)
        part.replace(self.path)
        self._remove_others()
        self._rest = b""

    def read(self) -> list[Request]:
        """What was asked for since it was last read; lines that say something else are left out."""
        try:
            data = os.read(self.descriptor, _READ_BYTES)
        except BlockingIOError:
            return []
        *lines, self._rest = (self._rest + data).split(b"\n")
        found = (_LINE.fullmatch(line) for line in lines)
        return [Request(line[1].decode(), int(line[2]), int(line[3])) for line in found if line]

    def is_in_place(self) -> bool:
        """Whether callers still find this one."""
        try:
            return os.path.samestat(self.path.stat(), os.fstat(self.descriptor))
        except OSError:
            return False

    def withdraw(self) -> None:
        """Have nobody find it any more."""
        if self.is_in_place():
            self.path.unlink()

    def remove_unseen(self) -> None:
        """Remove what was put there for callers that have ended before they saw it."""
        for file in self.path.parent.glob("*.*.*"):
            if file.stat().st_mtime < time.time() - 60:
                file.unlink(missing_ok=True)

    def _remove_others(self) -> None:
        for file in self.path.parent.iterdir():
            if file != self.path and (_COMMIT.fullmatch(file.name) or file.suffix == ".part"):
                file.unlink(missing_ok=True)


def folder(home: Path) -> Path:
    return home / "standby"


def is_read(home: Path, commit: str) -> bool:
    """Whether a runner with the code of a commit stands by."""
    try:
        descriptor = os.open(folder(home) / commit, os.O_RDWR | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)
    return False


def environment_of_process(process_id: int) -> dict[str, str]:
    """The variables that a process was started with.

    :raises HandoverError: it has ended
    """
    try:
        content = Path(f"/proc/{process_id}/environ").read_bytes()
    except OSError as error:
        raise HandoverError(f"process {process_id}: expected the one that asks for a run, it is gone") from error
    pairs = (pair.partition(b"=") for pair in content.split(b"\0") if pair)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def for_aws(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables by which clients of AWS are made: those of a run and of who stands by have to be the same."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(_ANY_VARIABLE) or name.upper() in _ONE_VARIABLE
    }
