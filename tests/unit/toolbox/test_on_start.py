"""The twin's lifecycle script: what it writes, and how run-once fetches code and environments. Real git, real uv."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.unit.endpoint import CLONE

SCRIPT = CLONE / "roles/twins/files/on_start.sh"
LARGEST_BASE64 = 16384
"""Of a lifecycle script in AWS, in base64; 2,000 are left for the role's lines."""

VALUES = {
    "TWINOPS_ENV": "sandbox",
    "TWINOPS_REGION": "eu-central-1",
    "LEDGER_TABLE": "twinops-sandbox-ledger",
    "TOPIC_ARN": "arn:aws:sns:eu-central-1:123456789012:twinops-sandbox-workflows",
    "REPORTS_BUCKET": "reports",
    "DATA_BUCKET": "data",
    "MODELS_BUCKET": "models",
    "DATA_SOURCES": '{"plant": {"type": "s3", "bucket": "a \\"quoted\\" bucket"}}',
}
RUN_ONCE = """\
import os, sys
with open(os.environ["TWINOPS_HOME"] + "/started", "a") as started:
    started.write(f"{number} {{sys.argv[1:]}}\\n")
"""
GIT = ["git", "-c", "user.name=test", "-c", "user.email=test@example.com"]


def git(repository: Path, *arguments: str, date: str = "2026-11-23T00:00:00Z") -> str:
    environment = {**os.environ, "GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
    done = subprocess.run(
        [*GIT, "-C", repository, *arguments], check=True, capture_output=True, text=True, env=environment
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with two commits; environments without packages are quick to build."""
    folder = tmp_path / 'remote "quoted"'
    (folder / "workflows/toolbox").mkdir(parents=True)
    subprocess.run([*GIT, "init", "-q", folder], check=True)
    for name in ("runner.txt", "requirements.txt"):
        (folder / "workflows" / name).write_text(f"# {name}\n")
    (folder / "workflows/toolbox/__init__.py").touch()
    for number in (1, 2):
        (folder / "workflows/toolbox/run_once.py").write_text(RUN_ONCE.format(number=number))
        git(folder, "add", ".")
        git(folder, "commit", "-q", "-m", str(number))
    return folder


class Twin:
    """A home folder in which the script has run."""

    def __init__(self, home: Path, values: Mapping[str, str]) -> None:
        self.home = home
        self.values = values
        self.twinops = home / "SageMaker/twinops"

    @property
    def environment(self) -> dict[str, str]:
        path = f"{CLONE}/.venv/bin:{os.environ['PATH']}"
        return {"PATH": path, "HOME": str(self.home), "UV_CACHE_DIR": str(CLONE / ".cache/uv")}

    def start(self) -> subprocess.CompletedProcess[str]:
        self.home.mkdir(exist_ok=True)
        lines = "".join(f"{name}='{value}'\n" for name, value in self.values.items())
        script = f"#!/bin/bash\n{lines}{SCRIPT.read_text()}"
        return subprocess.run(
            ["bash", "-c", script], env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )

    def call(self, program: str, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.twinops / "bin" / program, *map(str, arguments)],
            env=self.environment, capture_output=True, text=True, timeout=120, check=check,
        )  # fmt: skip

    @property
    def started(self) -> str:
        return (self.twinops / "started").read_text()


@pytest.fixture
def twin(tmp_path: Path, repository: Path) -> Twin:
    made = Twin(
        tmp_path / "home", {**VALUES, "REPOSITORY": str(repository), "GIT_REF": git(repository, "rev-parse", "HEAD")}
    )
    done = made.start()
    assert done.returncode == 0, done.stderr
    made.call("prepare", made.values["GIT_REF"])  # the one in the background may still be at it: they take turns
    return made


def test_it_fits_into_a_lifecycle_configuration() -> None:
    assert len(base64.b64encode(SCRIPT.read_bytes())) < LARGEST_BASE64 - 2000


def test_what_it_writes(twin: Twin) -> None:
    written = json.loads((twin.twinops / "twin.json").read_text())
    assert written == {
        "env": "sandbox",
        "region": "eu-central-1",
        "ledger_table": "twinops-sandbox-ledger",
        "topic_arn": "arn:aws:sns:eu-central-1:123456789012:twinops-sandbox-workflows",
        "reports_bucket": "reports",
        "data_bucket": "data",
        "models_bucket": "models",
        "repository": twin.values["REPOSITORY"],
        "push_repository": "",
        "data_sources": {"plant": {"type": "s3", "bucket": 'a "quoted" bucket'}},
    }
    assert len([folder for folder in (twin.twinops / "envs").iterdir() if folder.is_dir()]) == 2


@pytest.mark.parametrize("name", [*VALUES, "REPOSITORY", "GIT_REF"])
def test_a_missing_value_is_named_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    values = {**VALUES, "REPOSITORY": "/r", "GIT_REF": "HEAD", name: ""}
    done = Twin(tmp_path / "home", values).start()
    assert done.returncode == 1
    assert f"on_start.sh: {name}: expected a value" in done.stderr
    assert not (tmp_path / "home/SageMaker").exists()


def test_a_second_start_changes_values_and_keeps_code(twin: Twin) -> None:
    code = list((twin.twinops / "code").iterdir())
    again = Twin(twin.home, {**twin.values, "DATA_BUCKET": "other"})
    assert again.start().returncode == 0
    assert json.loads((twin.twinops / "twin.json").read_text())["data_bucket"] == "other"
    assert set(code) <= set((twin.twinops / "code").iterdir())


def test_run_once_runs_exactly_the_commit(twin: Twin, repository: Path) -> None:
    older, newer = git(repository, "rev-parse", "HEAD~1"), git(repository, "rev-parse", "HEAD")
    twin.call("run-once", "ab12", 1, older)
    twin.call("run-once", "cd34", 2, newer)
    assert twin.started == f"1 ['ab12', '1', '{older}']\n2 ['cd34', '2', '{newer}']\n"


def test_a_log_that_cannot_be_written_keeps_nothing_from_running(twin: Twin, repository: Path) -> None:
    newer = git(repository, "rev-parse", "HEAD")
    log = twin.twinops / "log/run-once.log"
    log.symlink_to("/dev/full")  # takes nothing, as a disk without room
    twin.call("run-once", "ab12", 1, newer)
    log.unlink()
    log.mkdir()
    twin.call("run-once", "cd34", 1, newer)
    assert twin.started == f"2 ['ab12', '1', '{newer}']\n2 ['cd34', '1', '{newer}']\n"


def test_many_runs_at_once_share_one_checkout(twin: Twin, repository: Path) -> None:
    older = git(repository, "rev-parse", "HEAD~1")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: twin.call("run-once", f"{number:x}", 1, older), range(8)))
    assert sorted(line.split("'")[1] for line in twin.started.splitlines()) == [f"{number:x}" for number in range(8)]
    assert not (twin.twinops / "code/.part").exists()


def test_half_a_checkout_is_never_used(twin: Twin, repository: Path) -> None:
    """As a kill while git writes leaves it."""
    older = git(repository, "rev-parse", "HEAD~1")
    (twin.twinops / "code/.part/workflows/toolbox").mkdir(parents=True)
    (twin.twinops / "code/.part/workflows/toolbox/run_once.py").write_text("raise SystemExit('half')")
    twin.call("run-once", "ab12", 1, older)
    assert twin.started.startswith("1 ")


def test_half_an_environment_is_never_used(twin: Twin) -> None:
    environments = [folder for folder in (twin.twinops / "envs").iterdir() if folder.is_dir()]
    for folder in environments:
        shutil.rmtree(folder)
        (folder.with_name(folder.name + ".part") / "bin").mkdir(parents=True)
    twin.call("run-once", "ab12", 1, twin.values["GIT_REF"])
    assert twin.started.startswith("2 ")


def test_a_commit_that_is_nowhere_is_refused_with_the_reason(twin: Twin) -> None:
    twin.call("run-once", "ab12", 1, "0" * 40)
    assert f"'--refuse', 'commit {'0' * 40} could not be fetched from" in twin.started


@pytest.mark.parametrize("words", [("ab12", "1", "main"), ("../x", "1", "a" * 40), ("ab12", "", "a" * 40)])
def test_bad_words_are_refused(twin: Twin, words: tuple[str, ...]) -> None:
    assert twin.call("run-once", *words, check=False).returncode == 2
    assert not (twin.twinops / "started").exists()
    assert "expected RUN_ID EPOCH GIT_SHA" in (twin.twinops / "log/run-once.log").read_text()
