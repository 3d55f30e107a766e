"""Runs that start, work and are killed while collectors remove whatever they may: no run ever misses what it uses.

Everything is real but the run itself: the programs of the lifecycle script, git, uv, the collector, and SIGKILL. What
a run does with its folders is what toolbox.run_once does: ``in_use`` around looking, building and working.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.unit.endpoint import CLONE
from tests.unit.toolbox.test_on_start import GIT, VALUES, Twin, git

COMMITS = 4
LAST_S = 12

RUN = '''\
"""Uses its code, its runner and an environment for half a second, and says what it missed of them."""
import os, subprocess, sys, time
from contextlib import ExitStack
from pathlib import Path
from toolbox.runner.housekeeping import environment_of, in_use

run_id, _, sha = sys.argv[1:4]
home = Path(os.environ["TWINOPS_HOME"])
code, runner = home / "code" / sha, home / "envs" / Path(sys.prefix).name
lock = code / "workflows/requirements.txt"

def check():
    for file in (code / "workflows/toolbox/run_once.py", runner / "bin/python", runner / "pyvenv.cfg"):
        if not file.exists():
            return str(file)

def say(what):
    with open(home / "results", "a") as results:
        print(run_id, what, file=results)

with ExitStack() as held:
    for folder in (code, runner):
        held.enter_context(in_use(folder))
    environment = environment_of(home, lock)
    held.enter_context(in_use(environment))
    if not environment.is_dir():
        subprocess.run([home / "bin/environment", lock], check=True, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 0.5
    missed = None
    while time.monotonic() < until and not missed:
        missed = check() or (None if (environment / "bin/python").exists() else str(environment))
        time.sleep(0.01)
    if not missed and subprocess.run([environment / "bin/python", "-c", "import json"]).returncode:
        missed = f"python of {environment}"
    say(f"missed {missed}" if missed else "well")
'''

COUNTING_UV = """\
#!/bin/sh
case $1 in venv) echo built >> "$COUNT"; sleep 0.3;; esac
exec {uv} "$@"
"""


@pytest.fixture
def twin(tmp_path: Path) -> Twin:
    """A twin with commits that each have a runner and an environment of their own."""
    remote = tmp_path / "remote"
    toolbox = remote / "workflows/toolbox"
    (toolbox / "runner").mkdir(parents=True)
    subprocess.run([*GIT, "init", "-q", remote], check=True)
    (toolbox / "run_once.py").write_text(RUN)
    for name in ("__init__", "runner/__init__", "runner/housekeeping", "runner/locks"):
        shutil.copy(CLONE / f"workflows/toolbox/{name}.py", toolbox / f"{name}.py")
    for number in range(COMMITS):
        for name in ("runner", "requirements"):
            (remote / f"workflows/{name}.txt").write_text(f"# {name} {number}\n")
        git(remote, "add", ".")
        git(remote, "commit", "-q", "-m", str(number), date=f"2026-11-2{number}T00:00:00Z")
    made = Twin(tmp_path / "home", {**VALUES, "REPOSITORY": str(remote), "GIT_REF": git(remote, "rev-parse", "HEAD")})
    assert made.start().returncode == 0
    made.call("prepare", made.values["GIT_REF"])
    return made


def commits(twin: Twin) -> list[str]:
    return git(Path(twin.values["REPOSITORY"]), "rev-list", "HEAD").splitlines()


def collector(twin: Twin) -> subprocess.Popen[str]:
    """Removes everything that nobody uses, as if the volume were always full."""
    return subprocess.Popen(
        [sys.executable, "-m", "toolbox.runner.housekeeping", "--full-percent", "0", "--fresh-minutes", "0"],
        env={"PYTHONPATH": str(CLONE / "workflows"), "TWINOPS_HOME": str(twin.twinops), "PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def collect_until(twin: Twin, deadline: float) -> list[str]:
    """What was removed by one collector after the other; some are killed."""
    removed = []
    chance = random.Random(3)  # noqa: S311  (to be repeated, not secret)
    while time.monotonic() < deadline:
        process = collector(twin)
        if chance.random() < 0.2:
            time.sleep(chance.random() * 0.3)
            process.kill()
        output, _ = process.communicate(timeout=60)
        assert process.returncode in (0, -signal.SIGKILL), output
        removed += output.split("removed ")[-1].split(";")[0].split(", ") if "/" in output else []
    return removed


def start_runs_until(twin: Twin, worker: int, deadline: float) -> set[str]:
    """Start one run after the other, of any commit; the ids of those that were not killed."""
    chance = random.Random(worker)  # noqa: S311  (to be repeated, not secret)
    shas, ids, number = commits(twin), set(), 0
    while time.monotonic() < deadline:
        run_id = f"{worker:x}{number:03x}"
        number += 1
        process = subprocess.Popen(
            [twin.twinops / "bin/run-once", run_id, "1", chance.choice(shas)],
            env=twin.environment, start_new_session=True,
        )  # fmt: skip
        if chance.random() < 0.2:
            time.sleep(chance.random() * 0.8)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)
        else:
            process.wait(60)
            ids.add(run_id)
        time.sleep(chance.random() * 0.2)
    return ids


def test_no_run_ever_misses_what_it_uses(twin: Twin) -> None:
    deadline = time.monotonic() + LAST_S
    with ThreadPoolExecutor(4) as pool:
        collecting = pool.submit(collect_until, twin, deadline)
        starting = [pool.submit(start_runs_until, twin, worker, deadline) for worker in (1, 2, 3)]
        expected = set().union(*(each.result() for each in starting))
        removed = collecting.result()
    results = dict(line.split(" ", 1) for line in (twin.twinops / "results").read_text().splitlines())
    log = (twin.twinops / "log/run-once.log").read_text()[-3000:]
    assert {run_id: results.get(run_id) for run_id in expected} == dict.fromkeys(expected, "well"), log
    assert len(expected) > 5
    assert {each.split("/")[0] for each in removed} >= {"envs", "code"}, "nothing was at stake"

    last = collector(twin)
    last.communicate(timeout=60)
    newest = commits(twin)[0]
    assert {path.name for path in (twin.twinops / "code").iterdir()} - {"latest"} >= {newest}
    left = [path.name for path in twin.twinops.glob("*/*") if path.suffix in (".part", ".gone")]
    assert not left


def test_runs_that_need_the_same_new_environment_build_it_once(twin: Twin, tmp_path: Path) -> None:
    """Counted by what is called to build it, from eight real processes at once."""
    counting = tmp_path / "bin/uv"
    counting.parent.mkdir()
    counting.write_text(COUNTING_UV.format(uv=shutil.which("uv", path=twin.environment["PATH"])))
    counting.chmod(0o755)
    lock = tmp_path / "new.txt"
    lock.write_text("# of its own\n")
    environment = {**twin.environment, "COUNT": str(tmp_path / "built")}
    environment["PATH"] = f"{counting.parent}:{environment['PATH']}"
    builders = [
        subprocess.Popen([twin.twinops / "bin/environment", lock], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    answers = {builder.communicate(timeout=60)[0].strip() for builder in builders}
    assert [builder.returncode for builder in builders] == [0] * 8
    assert (tmp_path / "built").read_text() == "built\n"
    (answer,) = answers
    assert (Path(answer) / "bin/python").exists()
