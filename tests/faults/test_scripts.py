"""Scripts that fail, hang, leave children, or print too much: the run ends with the truth, and run-once stays small."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from toolbox.runner.output import FILE_LIMIT_BYTES, LOG_LIMIT_BYTES

from tests.faults.support import Faults

GIGABYTE = 10**9
MEMORY_LIMIT_MB = 200

CASES: dict[str, dict[str, Any]] = {
    "exits-3": {"do": "exit", "amount": 3},
    "killed": {"do": "signal", "amount": 9},
    "crashes": {"do": "signal", "amount": 11},
    "hangs": {"do": "deaf", "timeout_s": 3},
    "invalid-utf-8": {"do": "invalid"},
    "leaves-a-child": {"do": "fork"},
    "leaves-a-daemon": {"do": "setsid"},
}


@pytest.fixture(scope="module")
def sent(faults: Faults) -> dict[str, str]:
    """All cases at once; case -> run."""
    return {mark: faults.send(faults.payload(mark, **options)) for mark, options in CASES.items()}


Outcome = Callable[[str, str], None]


@pytest.mark.parametrize(
    ("mark", "state", "exit_code"),
    [
        ("exits-3", "FAILED", 3),
        ("killed", "FAILED", 137),
        ("crashes", "FAILED", 139),
        ("invalid-utf-8", "SUCCEEDED", 0),
    ],
)
def test_the_exit_code_is_the_scripts(  # noqa: PLR0917 (three of them are the case)
    faults: Faults, sent: dict[str, str], outcome: Outcome, mark: str, state: str, exit_code: int
) -> None:
    run = faults.end(sent[mark])
    assert (run["state"], run["exit_code"], run["epoch"]) == (state, exit_code, 1)
    assert faults.count(mark) == 1
    (mail,) = faults.mails(sent[mark])
    assert f"exit code {exit_code}" in mail
    if exit_code > 128:
        assert run["reason"] == f"the script was ended by signal {exit_code - 128} (exit code {exit_code})"
    if mark == "invalid-utf-8":
        assert "before \ufffd\ufffd\ufffd after" in faults.log(run)
    outcome(f"script {mark}", f"{state}, exit code {exit_code}; 1 effect, 1 mail")


def test_a_script_that_hangs_and_is_deaf_to_signals_is_killed(
    faults: Faults, sent: dict[str, str], outcome: Outcome
) -> None:
    run = faults.end(sent["hangs"])
    assert (run["state"], "exit_code" in run) == ("TIMED_OUT", False)
    assert 13 <= run["duration_s"] < 40, "three seconds, and ten of grace"
    assert run["reason"] == "it was ended after 3 s (timeout_s of its spec)"
    assert faults.count("hangs") == 1
    outcome("script hangs, ignores SIGTERM", f"TIMED_OUT, killed after {run['duration_s']:.0f} s; 1 effect, 1 mail")


@pytest.mark.parametrize("mark", ["leaves-a-child", "leaves-a-daemon"])
def test_children_do_not_outlive_the_run(faults: Faults, sent: dict[str, str], outcome: Outcome, mark: str) -> None:
    run = faults.end(sent[mark])
    assert (run["state"], run["exit_code"]) == ("SUCCEEDED", 0)
    assert run["duration_s"] < 9, "a child that holds the pipe open does not hold the run"
    child = int((faults.folder / f"{mark}.child").read_text())
    assert is_gone(child)
    assert faults.count(mark) == 1
    how = "in a session of its own" if mark.endswith("daemon") else "in the script's group"
    outcome(f"script leaves a child {how}", "SUCCEEDED; the child is ended with the run; 1 effect, 1 mail")


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


class Peak(threading.Thread):
    """The greatest resident size of the process of a run, in MB."""

    def __init__(self, faults: Faults, run_id: str) -> None:
        super().__init__(daemon=True)
        self.mb = 0.0
        self.done = threading.Event()
        self._faults, self._run_id = faults, run_id

    def run(self) -> None:
        while not self.done.wait(0.2):
            with contextlib.suppress(FileNotFoundError):  # it has not been started yet
                self.mb = max(self.mb, high_water_mb(self._faults.runner(self._run_id)))


def high_water_mb(pid: int) -> float:
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) / 1024 if found else 0


@pytest.fixture
def peak(faults: Faults) -> Iterator[Callable[[str], Peak]]:
    watching: list[Peak] = []

    def watch(run_id: str) -> Peak:
        watching.append(Peak(faults, run_id))
        watching[-1].start()
        return watching[-1]

    yield watch
    for each in watching:
        each.done.set()
        each.join()


def test_a_gigabyte_of_output(
    faults: Faults, sent: dict[str, str], outcome: Outcome, peak: Callable[[str], Peak]
) -> None:
    for run_id in sent.values():
        faults.end(run_id)
    started = time.monotonic()
    run_id = faults.send(faults.payload("prints", "print", GIGABYTE, timeout_s=120))
    memory = peak(run_id)
    run = faults.end(run_id)
    assert (run["state"], run["exit_code"]) == ("SUCCEEDED", 0)
    assert 20 < memory.mb < MEMORY_LIMIT_MB
    kept = (faults.twinops / "runs" / run_id / "output.log").stat().st_size
    assert FILE_LIMIT_BYTES <= kept < FILE_LIMIT_BYTES + 1000
    lines = faults.log(run)
    assert sum(map(len, lines)) < LOG_LIMIT_BYTES + 200_000
    assert any("lines are not here" in line for line in lines)
    assert any(line.startswith("[twinops] SUCCEEDED, exit code 0") for line in lines)
    assert faults.count("prints") == 1
    took_s = time.monotonic() - started
    outcome("script prints 1 GB", f"SUCCEEDED in {took_s:.0f} s; run-once {memory.mb:.0f} MB; file and log 20 MiB each")
