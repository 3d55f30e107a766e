"""What an action plugin does that calls AWS in Ansible's own worker, instead of in a module's process."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

PR_SET_PDEATHSIG = 1  # prctl(2)
STOPPING = (signal.SIGINT, signal.SIGTERM)


def take_environment(variables: Mapping[str, object]) -> None:
    """Make the play's ``environment`` that of this worker, which ends with its task."""
    os.environ.update({name: str(value) for name, value in variables.items()})


def end_with_ansible() -> None:
    """Let the kernel end this worker when ansible-playbook is killed: nobody would see what it does after that."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Keep back what ends this worker (Ctrl-C) while it prints.

    A worker prints through a queue. Were it ended while it holds the queue's lock, nobody could give the lock back, and
    ansible-playbook would wait for it for ever.
    """
    came: list[int] = []
    before = {each: signal.signal(each, lambda number, frame: came.append(number)) for each in STOPPING}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        for number in came[:1]:
            signal.raise_signal(number)
