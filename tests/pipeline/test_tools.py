"""How the pipeline calls other programs: bounded, and git whoever owns the checkout."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pipeline.tools import CLONE, PipelineError, git, run


def test_a_program_that_does_not_end_is_ended_and_named(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"sleep: expected it to end within 0.1 s"):
        run(["sleep", "20"], cwd=tmp_path, timeout_s=0.1)


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a folder to somebody else takes root")
def test_a_checkout_of_another_user_can_be_read(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    for path in (tmp_path, *tmp_path.rglob("*")):
        shutil.chown(path, user=65534)
    assert git(tmp_path, "symbolic-ref", "HEAD") == "refs/heads/main"


@pytest.mark.parametrize(
    ("given", "applied"),
    [
        ([], "ansible-playbook site.yml -l staging"),
        (["DIGEST=3f2a9c0d11e2"], "deploy staging --plan build/plans/staging.json --digest 3f2a9c0d11e2"),
        (["PLAN=a.json"], "deploy staging --plan a.json"),
    ],
    ids=["no plan", "a plan that was looked at", "a plan"],
)
def test_a_digest_means_the_plan_that_was_looked_at(given: list[str], applied: str) -> None:
    done = run(["make", "--no-print-directory", "--dry-run", "deploy", "ENV=staging", *given], cwd=CLONE, timeout_s=60)
    assert done.stdout.splitlines()[-1].rstrip().endswith(applied)
