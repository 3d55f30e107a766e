"""What an action plugin does that calls AWS in Ansible's own worker, instead of in a module's process."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PR_SET_PDEATHSIG = 1  # prctl(2)
STOPPING = (signal.SIGINT, signal.SIGTERM)


def work_as_a_module(action: Any) -> None:
    """Let an action plugin call AWS as a module's process would: in the task's ``environment``, no longer than Ansible.

    The kernel ends this worker when ansible-playbook is killed: it would go on changing the cloud while a person runs
    the playbook again.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    variables: dict[str, object] = {}
    action._compute_environment_string(variables)
    os.environ.update({name: str(value) for name, value in variables.items()})  # 5 is a number, as a person writes it


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
