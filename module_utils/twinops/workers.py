"""What an action plugin does that calls AWS in Ansible's own worker, instead of in a module's process."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Mapping

PR_SET_PDEATHSIG = 1  # prctl(2)


def take_environment(variables: Mapping[str, object]) -> None:
    """Make the play's ``environment`` that of this worker, which ends with its task."""
    os.environ.update({name: str(value) for name, value in variables.items()})


def end_with_ansible() -> None:
    """Let the kernel end this worker when ansible-playbook is killed: nobody would see what it does after that."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
