"""Locks between the processes of one twin: on a file, freed by the kernel however a process ends.

Whoever holds one alone may remove the file, and :mod:`.housekeeping` does. So after waiting everybody looks whether
what he has locked is still the file of that name: otherwise two could hold "the same" lock.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone(file: Path) -> Iterator[bool]:
    """Hold a lock that nobody else has, without waiting for it; false if somebody has."""
    try:
        descriptor = _locked(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
        return
    try:
        yield True
    finally:
        os.close(descriptor)


@contextmanager
def shared(file: Path) -> Iterator[None]:
    """Hold a lock together with others; waits for whoever has it alone."""
    descriptor = _locked(file, fcntl.LOCK_SH)
    try:
        yield
    finally:
        os.close(descriptor)


def _locked(file: Path, operation: int) -> int:
    """A descriptor with the lock. Programs that this one starts do not inherit it (PEP 446)."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, operation)
            if _is_at(descriptor, file):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_at(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False
