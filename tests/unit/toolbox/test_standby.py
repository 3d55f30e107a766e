"""Runners that stand by: the real bin/run-once, keeper and runners, a real ledger; who takes a run, and when nobody."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest
from toolbox.runner import handover
from toolbox.runner.handover import HandoverError, Pipe, Request
from toolbox.runner.housekeeping import environment_of
from twinops.aws.ledger import Ledger

from tests.unit.dispatch.conftest import ledger  # noqa: F401
from tests.unit.endpoint import CLONE
from tests.unit.toolbox import test_run_once
from tests.unit.toolbox.test_run_once import SHA, SPEC

OTHER_SHA = "b" * 40
SCRIPT = """\
import json, os, pathlib, time
output = pathlib.Path(os.environ["TWINOPS_OUTPUT"])
parent = pathlib.Path(f"/proc/{os.getppid()}/cmdline").read_bytes().decode().split("\\0")
with open(output.parents[2] / "effects", "a") as effects:
    effects.write("x")
seen = {"parent": parent[2], "mark": os.environ.get("MARK"), "path": os.environ["PYTHONPATH"]}
(output / "seen.json").write_text(json.dumps(seen))
time.sleep(json.loads(pathlib.Path(os.environ["TWINOPS_RUN"]).read_text())["parameters"]["sleep_s"])
"""
STANDBY, NEW_PYTHON = "toolbox.standby", "toolbox.run_once"

Found = TypeVar("Found")


def eventually(find: Callable[[], Found], within_s: float = 30) -> Found:
    deadline = time.monotonic() + within_s
    while not (found := find()):
        assert time.monotonic() < deadline, f"not within {within_s:g} s"
        time.sleep(0.02)
    return found


class Twin(test_run_once.Twin):
    """A twin's folder with everything that ``bin/run-once`` needs."""

    def install(self, commit: str) -> None:
        """The code of a commit, and the environments that it needs."""
        code = self.home / "code" / commit
        for name in ("workflows/toolbox", "module_utils"):
            shutil.copytree(CLONE / name, code / name, ignore=shutil.ignore_patterns("__pycache__"))
        probe = code / "workflows/probe"
        probe.mkdir()
        (probe / "workflow.yml").write_text(SPEC)
        (probe / "run.py").write_text(SCRIPT)
        for name in ("runner.txt", "requirements.txt"):
            lock = code / "workflows" / name
            lock.write_text(f"# {name}\n")
            if not environment_of(self.home, lock).exists():
                environment = self.make_environment(lock)
                for part in ("pyvenv.cfg", "lib"):
                    (environment / part).symlink_to(Path(sys.prefix, part))

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        return {**kept, "PATH": os.environ["PATH"], "HOME": str(self.home)}

    def stand_by(self, commit: str = SHA, **variables: str) -> None:
        """Have runners stand by."""
        code = self.home / "code" / commit
        python = environment_of(self.home, code / "workflows/runner.txt") / "bin/python"
        subprocess.run(
            ["setsid", "--fork", python, "-m", STANDBY],
            env={**self.environment, "TWINOPS_HOME": str(self.home),
                 "PYTHONPATH": f"{code}/workflows:{code}/module_utils", **variables},
            check=True, timeout=30,
        )  # fmt: skip
        eventually(lambda: handover.is_read(self.home, commit))

    def ring(self, run_id: str, commit: str = SHA, *, epoch: int = 1, **variables: str) -> None:
        subprocess.run(
            [self.home / "bin/run-once", run_id, str(epoch), commit],
            env={**self.environment, **variables}, check=True, timeout=60,
        )  # fmt: skip

    def end_of(self, run_id: str) -> str:
        """Wait for its end; what the script's parent was, a runner that stood by or a new one."""
        run = eventually(lambda: found if "ended_at" in (found := self.run(run_id)) else None)
        assert run["state"] == "SUCCEEDED", run
        return str(self.seen(run_id)["parent"])

    def seen(self, run_id: str) -> dict[str, str]:
        """What the script saw."""
        found: dict[str, str] = json.loads((self.home / "runs" / run_id / "output/seen.json").read_text())
        return found

    def processes(self) -> list[int]:
        """The keeper and all runners that it has forked."""
        mark, found = f"TWINOPS_HOME={self.home}".encode(), []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                is_ours = mark in (folder / "environ").read_bytes().split(b"\0")
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if is_ours and STANDBY.encode() in words:
                found.append(int(folder.name))
        return found

    def keeper(self) -> int:
        """The one whose parent is none of them."""
        ours = self.processes()
        parents = {pid: int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in ours}
        (keeper,) = (pid for pid, parent in parents.items() if parent not in ours)
        return keeper


@pytest.fixture
def twin(tmp_path: Path, ledger: Ledger) -> Iterator[Twin]:  # noqa: F811
    (tmp_path / "bin").mkdir()
    text = (CLONE / "roles/twins/files/on_start.sh").read_text()
    program = tmp_path / "bin/run-once"
    program.write_text(text.partition("put bin/run-once 755 <<'SH'\n")[2].partition("\nSH\n")[0] + "\n")
    program.chmod(0o755)
    for name in ("lock", "log", "runs"):
        (tmp_path / name).mkdir()
    made = Twin(tmp_path, ledger)
    made.install(SHA)
    yield made
    for pid in made.processes():
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: not made.processes())


def test_runs_are_taken_by_who_stands_by_and_share_nothing(twin: Twin) -> None:
    twin.stand_by(MARK="keeper")
    for run_id, variables in (("a1", {"MARK": "first"}), ("a2", {})):
        twin.ring(twin.claim(run_id), **variables)
        assert twin.end_of(run_id) == STANDBY
        assert twin.seen(run_id)["mark"] == variables.get("MARK")
        assert twin.seen(run_id)["path"] == f"{twin.home}/code/{SHA}/workflows:{twin.home}/code/{SHA}/module_utils"
    eventually(lambda: len(twin.processes()) == 2)  # those that had runs have ended
    assert list(handover.folder(twin.home).iterdir()) == [handover.folder(twin.home) / SHA]


@pytest.mark.faults
def test_many_at_once_are_all_taken_once(twin: Twin) -> None:
    twin.stand_by()
    run_ids = [twin.claim(f"c{number}", sleep_s=1) for number in range(5)]
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(twin.ring, [*run_ids, *run_ids]))
    for run_id in run_ids:
        twin.end_of(run_id)
    assert twin.effects == 5


def test_without_anybody_a_new_python_takes_it_and_has_somebody_stand_by(twin: Twin) -> None:
    twin.ring(twin.claim("a1"))
    assert twin.end_of("a1") == NEW_PYTHON
    eventually(lambda: handover.is_read(twin.home, SHA))
    twin.ring(twin.claim("a2"))
    assert twin.end_of("a2") == STANDBY


def test_a_run_is_not_taken_twice_nor_at_a_stale_epoch(twin: Twin) -> None:
    twin.stand_by()
    run_id = twin.claim("a1")
    twin.ledger.reclaim(twin.run(run_id), dispatcher="backup")
    for epoch in (1, 2, 2):
        twin.ring(run_id, epoch=epoch)
    twin.end_of(run_id)
    eventually(lambda: len(twin.processes()) == 2)
    assert twin.effects == 1


def test_a_killed_keeper_leaves_a_pipe_that_delays_nobody(twin: Twin) -> None:
    twin.stand_by()
    os.kill(twin.keeper(), signal.SIGKILL)
    eventually(lambda: not twin.processes())  # the runner that stood by ends with it
    assert (handover.folder(twin.home) / SHA).is_fifo()
    twin.ring(twin.claim("a1"))
    assert twin.end_of("a1") == NEW_PYTHON
    eventually(lambda: handover.is_read(twin.home, SHA))
    twin.ring(twin.claim("a2"))
    assert twin.end_of("a2") == STANDBY


@pytest.mark.faults
def test_a_killed_runner_is_replaced(twin: Twin) -> None:
    twin.stand_by()
    eventually(lambda: len(twin.processes()) == 2)
    (runner,) = set(twin.processes()) - {twin.keeper()}
    os.kill(runner, signal.SIGKILL)
    twin.ring(twin.claim("a1"))
    assert twin.end_of("a1") == STANDBY


@pytest.mark.parametrize("who", ["keeper", pytest.param("runner", marks=pytest.mark.faults)])
def test_who_hangs_is_not_waited_for(twin: Twin, who: str) -> None:
    twin.stand_by()
    eventually(lambda: len(twin.processes()) == 2)
    keeper = twin.keeper()
    hanging = keeper if who == "keeper" else next(iter(set(twin.processes()) - {keeper}))
    os.kill(hanging, signal.SIGSTOP)
    try:
        twin.ring(twin.claim("a1"))
        assert twin.end_of("a1") == NEW_PYTHON
    finally:
        os.kill(hanging, signal.SIGCONT)
    twin.ring(twin.claim("a2"))
    twin.end_of("a2")
    assert twin.effects == 2, "the request that was waiting was not carried out as well"


def test_other_settings_for_aws_are_not_those_of_who_stands_by(twin: Twin) -> None:
    twin.stand_by()
    before = twin.keeper()
    twin.ring(twin.claim("a1"), AWS_RETRY_MODE="adaptive")
    assert twin.end_of("a1") == NEW_PYTHON
    eventually(lambda: handover.is_read(twin.home, SHA) and before not in twin.processes())
    twin.ring(twin.claim("a2"), AWS_RETRY_MODE="adaptive")
    assert twin.end_of("a2") == STANDBY


def test_a_run_of_another_commit_has_its_own_code(twin: Twin) -> None:
    twin.stand_by()
    before = twin.keeper()
    twin.install(OTHER_SHA)
    twin.ring(twin.claim("a1"), OTHER_SHA)
    assert twin.end_of("a1") == NEW_PYTHON
    eventually(lambda: handover.is_read(twin.home, OTHER_SHA))
    assert not handover.is_read(twin.home, SHA)
    eventually(lambda: before not in twin.processes())  # it has lost its place
    twin.ring(twin.claim("a2"), OTHER_SHA)
    assert twin.end_of("a2") == STANDBY


@pytest.mark.faults
def test_only_one_stands_by(twin: Twin) -> None:
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: twin.stand_by(), range(3)))
    twin.stand_by()
    eventually(lambda: len(twin.processes()) == 2)


# ---- the pipe


def test_lines_come_whole_and_others_are_left_out(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path, SHA)
    descriptor = os.open(pipe.path, os.O_WRONLY)
    os.write(descriptor, b"ab12 1 77\nrm -rf /\n../x 1 77\nab12 -1 77\ncd")
    assert pipe.read() == [Request("ab12", 1, 77)]
    assert pipe.read() == []
    os.write(descriptor, b"34 12 78\n")
    assert pipe.read() == [Request("cd34", 12, 78)]
    os.close(descriptor)
    os.close(pipe.descriptor)


def test_a_new_pipe_takes_the_place_of_all_others(tmp_path: Path) -> None:
    first = Pipe(tmp_path, SHA)
    assert first.is_in_place()
    assert handover.is_read(tmp_path, SHA)
    (handover.folder(tmp_path) / f"{SHA}.1234.part").touch()  # of one that was killed before its pipe was in place
    second = Pipe(tmp_path, OTHER_SHA)
    assert (first.is_in_place(), second.is_in_place()) == (False, True)
    assert [file.name for file in handover.folder(tmp_path).iterdir()] == [OTHER_SHA]
    first.withdraw()
    assert second.is_in_place()
    second.withdraw()
    assert list(handover.folder(tmp_path).iterdir()) == []
    for pipe in (first, second):
        os.close(pipe.descriptor)
    assert not handover.is_read(tmp_path, OTHER_SHA)


def test_a_file_in_place_of_the_pipe_is_not_read(tmp_path: Path) -> None:
    handover.folder(tmp_path).mkdir()
    (handover.folder(tmp_path) / SHA).touch()
    assert not handover.is_read(tmp_path, SHA)


def test_answers_that_nobody_saw_are_removed_after_a_while(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path, SHA)
    old, new = Request("ab12", 1, 77), Request("cd34", 1, 78)
    for request in (old, new):
        request.accept(tmp_path)
    os.utime(handover.folder(tmp_path) / "ab12.1.77", (0, 0))
    pipe.remove_unseen()
    assert sorted(file.name for file in handover.folder(tmp_path).iterdir()) == sorted([SHA, "cd34.1.78"])
    os.close(pipe.descriptor)


def test_a_caller_that_is_gone_is_named() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    with pytest.raises(HandoverError, match=f"process {ended.pid}: expected the one that asks for a run, it is gone"):
        handover.environment_of_process(ended.pid)


def test_what_clients_are_made_by() -> None:
    variables = {"AWS_REGION": "r", "https_proxy": "p", "HOME": "h", "TERM": "xterm", "TWINOPS_HOME": "t"}
    assert handover.for_aws(variables) == {"AWS_REGION": "r", "https_proxy": "p", "HOME": "h"}
