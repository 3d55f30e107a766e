"""Runs a program and says what it used, with everything it started: also what outlived its parent.

mitogen's interpreters are no children of ansible-playbook when it ends, so waiting for ansible-playbook alone would not
count them. This process therefore adopts orphans (prctl) and waits for each.
"""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sandbox import processes

MARKER = "TWINOPS_BENCH_RUN"
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
ORPHANS_GRACE_S = 15.0


class MeasureError(Exception):
    """A program that could not be measured: it did not end, or left processes behind."""


@dataclass(frozen=True)
class Usage:
    """What one program used: seconds on the clock, and CPU-seconds (user and system) of it and all it started."""

    exit_code: int
    wall_s: float
    cpu_s: float


def adopt_orphans() -> None:
    """Make this process the parent of what its descendants leave behind."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise MeasureError(f"prctl: {os.strerror(ctypes.get_errno())}")


def run(argv: Sequence[str], *, environment: Mapping[str, str], directory: Path, log: Path, timeout_s: float) -> Usage:
    """Run a program with its output in ``log``. Ends everything it started, also when it is interrupted.

    Raises MeasureError when it takes longer than ``timeout_s``.
    """
    run_id = uuid.uuid4().hex
    before_s = _cpu_of_children_s()
    started = time.perf_counter()
    with log.open("wb") as output:
        popen = subprocess.Popen(
            argv,
            cwd=directory,
            env={**environment, MARKER: run_id},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        exit_code = popen.wait(timeout_s)
        wall_s = time.perf_counter() - started
        processes.wait_until(lambda: not _running(run_id), timeout_s=ORPHANS_GRACE_S, interval_s=0.05)
    except subprocess.TimeoutExpired:
        raise MeasureError(f"{' '.join(argv)}: expected to end within {timeout_s:g} s; its output: {log}") from None
    finally:
        processes.end(_running(run_id))
        popen.wait()
        _reap_orphans()
    return Usage(exit_code, wall_s, _cpu_of_children_s() - before_s)


def _running(run_id: str) -> list[processes.Process]:
    return processes.with_environment(f"{MARKER}={run_id}")


def _reap_orphans() -> None:
    """Wait for those that have ended: only then does the kernel add their CPU time to ours."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _cpu_of_children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
