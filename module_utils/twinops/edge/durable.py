"""Writes that survive a power cut, and the lock of a device. Each function is one step: it happened, or it did not."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import TwinopsError


class LockedError(TwinopsError):
    """Somebody else holds the lock."""


def sync_folder(folder: Path) -> None:
    """Make names in ``folder`` (created, renamed, removed) survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Everything below ``folder``, deepest first, then ``folder`` itself."""
    for parent, _, files in os.walk(folder, topdown=False):
        for name in files:
            sync_file(Path(parent, name))
        sync_folder(Path(parent))


def write_file(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``: a reader, now or after a power cut, sees the old bytes or the new ones."""
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def point_link(link: Path, target: str) -> None:
    """Make ``link`` point to ``target`` by one rename."""
    temporary = link.with_name(f".{link.name}.new")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    temporary.symlink_to(target)
    temporary.replace(link)
    sync_folder(link.parent)


@contextlib.contextmanager
def device_lock(path: Path, wait_s: float) -> Iterator[None]:
    """Hold the device's only install lock; the kernel releases it when the process ends, however it ends.

    :raises LockedError: another install held it for all of ``wait_s``
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    give_up = time.monotonic() + wait_s
    with path.open("a+", encoding="ascii") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
                if time.monotonic() >= give_up:
                    file.seek(0)
                    holder = file.read().strip() or "unknown"
                    raise LockedError(
                        f"{path}: another install (process {holder}) has been running on this device for more than "
                        f"{wait_s:g} s; expected none. Two controllers at once? Try again when it is done"
                    ) from error
                time.sleep(0.2)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
