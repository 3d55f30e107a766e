"""Looks for secrets in this repository with all of its history, and in what a job has written.

    python -m pipeline.secrets                    the repository
    python -m pipeline.secrets build/plans/ log   files and folders

kingfisher (Apache-2.0) does the looking, with its rules and those in ``ci/secrets/rules``. It asks nobody whether what
it found is valid. What it found is never printed, only where it is. A line that is no secret has the comment
``kingfisher:ignore``; in a commit that cannot be changed any more, ``ci/secrets/no-secrets.yml`` names it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.tools import CLONE, PipelineError, git, kingfisher, run

NO_SECRETS = CLONE / "ci/secrets/no-secrets.yml"
TIMEOUT_S = 300
COMPLETE = (0, 200, 205)
"""Exit codes of kingfisher after a complete look: it found nothing, something, something that it can prove valid."""


@dataclass(frozen=True)
class Finding:
    """A secret: where it lies, not what it is. ``commit`` is empty for a file that is not looked up in git."""

    rule: str
    path: str
    line: int
    commit: str = ""

    def __str__(self) -> str:
        where = f" (commit {self.commit[:12]})" if self.commit else ""
        return f"{self.path}:{self.line}: {self.rule}{where}"


def in_files(*paths: Path) -> list[Finding]:
    """What was found in files and folders. Raises PipelineError where it could not be looked at."""
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise PipelineError(f"secrets: expected these files or folders, found none: {', '.join(missing)}")
    return _look(*map(str, paths), "--git-history", "none")


def in_history(repository: Path) -> list[Finding]:
    """What was found in the commit that is checked out, and in all before it, but for what ``NO_SECRETS`` names.

    Raises PipelineError as above.
    """
    folder = git(repository, "rev-parse", "--path-format=absolute", "--git-common-dir")
    known = {(each["path"], each["rule"]) for each in yaml.safe_load(NO_SECRETS.read_text())}
    found = _look(folder, "--branch", git(repository, "rev-parse", "HEAD"))
    return [finding for finding in found if (finding.path, finding.rule) not in known]


def _look(*arguments: str) -> list[Finding]:
    options = ["--no-validate", "--no-update-check", "--confidence", "low", "--redact", "--format", "json"]
    rules = ["--rules-path", str(CLONE / "ci/secrets/rules")]
    argv = [kingfisher(), "scan", *arguments, *rules, *options]
    cache = {"KF_RULE_CACHE_DIR": str(CLONE / ".cache/kingfisher")}
    done = run(argv, cwd=Path.cwd(), timeout_s=TIMEOUT_S, variables=cache)
    if done.returncode not in COMPLETE or not done.stdout:
        raise PipelineError(f"secrets: kingfisher exited with {done.returncode}: {done.stderr[-2000:]}")
    report = json.loads(done.stdout.splitlines()[0])
    return sorted(map(_finding, report["findings"]), key=str)


def _finding(found: Mapping[str, Any]) -> Finding:
    place = found["finding"]
    commit = place.get("git_metadata", {}).get("commit", {}).get("id", "")
    return Finding(found["rule"]["name"], place["path"].removeprefix("./"), place["line"], commit)


def main(arguments: Sequence[str]) -> int:
    try:
        found = in_files(*map(Path, arguments)) if arguments else in_history(CLONE)
    except PipelineError as error:
        print(error, file=sys.stderr)
        return 1
    for finding in found:
        print(f"{finding}: expected no secret. Revoke it, and remove it from the history.", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
