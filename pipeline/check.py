"""`make lint-pipeline`: what GitLab's schema of ``.gitlab-ci.yml`` cannot say.

GitLab's schema knows nothing of jobs that are needed and not there. gitlab-ci-local does, for one kind of pipeline at a
time; that each job has ``needs`` and calls nothing but make is our own rule (docs/pipeline.md).
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline.tools import CLONE, PipelineError, git, gitlab_ci_local, run

TIMEOUT_S = 60
DEPLOYING = {"TWINOPS_DEPLOY": "true"}
KINDS: Mapping[str, Mapping[str, str]] = {
    "a push to main": {**DEPLOYING, "CI_PIPELINE_SOURCE": "push"},
    "a push to main before anything is deployed": {"CI_PIPELINE_SOURCE": "push"},
    "a push to main with some of the tests": {**DEPLOYING, "CI_PIPELINE_SOURCE": "push", "TWINOPS_TESTS": "tests/unit"},
    "a merge request": {**DEPLOYING, "CI_PIPELINE_SOURCE": "merge_request_event", "CI_COMMIT_BRANCH": ""},
    "a schedule": {**DEPLOYING, "CI_PIPELINE_SOURCE": "schedule"},
}
CALLS_MAKE = re.compile(r"make [a-z-]+( [A-Z]+=(\S+|\"[^\"]*\"))*")
TOP_LEVEL = {"stages", "include", "workflow", "variables", "default"}


def repository_of(source: Path, folder: Path) -> None:
    """A clone whose branch is main, with the pipeline of ``source`` as it lies there, committed or not."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "-q", "-b", "main")
    shutil.copyfile(source / ".gitlab-ci.yml", folder / ".gitlab-ci.yml")
    shutil.copytree(source / "ci", folder / "ci")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "The pipeline")
    git(folder, "remote", "add", "origin", "https://gitlab.example.com/plant/twinops.git")
    git(folder, "update-ref", "refs/remotes/origin/main", "HEAD")
    git(folder, "symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")


def listing(variables: Mapping[str, str]) -> list[str]:
    """The command that lists, as JSON, the jobs of a pipeline with these variables, whatever was changed."""
    return gitlab_ci_local("--list-json", "--no-evaluate-rule-changes", variables=variables)


def mistakes(folder: Path, *, kinds: Iterable[str] = tuple(KINDS)) -> list[str]:
    """What is wrong with the pipeline of the git repository ``folder``: it would not run as meant."""
    found = []
    for kind in kinds:
        done = run(listing(KINDS[kind]), cwd=folder, timeout_s=TIMEOUT_S)
        if done.returncode:
            found.append(f".gitlab-ci.yml: {kind}: {_last_line(done.stderr or done.stdout)}")
    preview = run(gitlab_ci_local("--preview", variables=DEPLOYING), cwd=folder, timeout_s=TIMEOUT_S)
    if preview.returncode:
        return [*found, f".gitlab-ci.yml: {_last_line(preview.stderr)}"]
    jobs = {name: job for name, job in yaml.safe_load(preview.stdout).items() if name not in TOP_LEVEL}
    return [*found, *(mistake for name, job in jobs.items() for mistake in _mistakes_of_job(name, job))]


def _mistakes_of_job(name: str, job: Mapping[str, Any]) -> list[str]:
    found = []
    if "needs" not in job:
        found.append(f"{name}: needs: expected a list of jobs, which may be empty: without, it waits for whole stages")
    script = job.get("script", [])
    for line in [script] if isinstance(script, str) else script:
        if not CALLS_MAKE.fullmatch(str(line)):
            found.append(f"{name}: script: expected make with a target, which a person can call as well, got: {line}")
    return found


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "gitlab-ci-local failed and said nothing"


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="twinops-pipeline-") as folder:
        try:
            repository_of(CLONE, Path(folder))
            found = mistakes(Path(folder))
        except PipelineError as error:
            found = [str(error)]
    sys.stderr.write("".join(f"{mistake}\n" for mistake in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
