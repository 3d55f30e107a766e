"""``.gitlab-ci.yml``: valid for GitLab, for gitlab-ci-local, and by our own rules; what is wrong is named."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import check
from pipeline.tools import CLONE, git, gitlab_ci_local, run

Pipelines = dict[str, dict[str, dict[str, Any]]]

FILES = [".gitlab-ci.yml", *sorted(str(path.relative_to(CLONE)) for path in (CLONE / "ci").glob("*.yml"))]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository") / "twinops"
    check.repository_of(CLONE, folder)
    return folder


@pytest.fixture(scope="module")
def pipelines(repository: Path) -> Pipelines:
    """Kind of pipeline -> name -> job that it has."""
    listed = {}
    for kind, variables in check.KINDS.items():
        done = run(check.listing(variables), cwd=repository, timeout_s=60)
        assert done.returncode == 0, f"{kind}: {done.stderr}"
        listed[kind] = {job["name"]: job for job in json.loads(done.stdout) if job["when"] != "never"}
    return listed


def test_gitlabs_schema_takes_it() -> None:
    program = str(Path(sys.executable).with_name("check-jsonschema"))
    options = ["--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci"]
    done = subprocess.run(
        [program, *options, *FILES], cwd=CLONE, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout


def test_production_waits_for_staging_and_for_a_person(pipelines: Pipelines) -> None:
    push = pipelines["a push to main"]
    assert push["deploy-production"]["when"] == "manual"
    assert push["deploy-production"]["allow_failure"] is False
    order, waiting_for = {"deploy-production"}, ["deploy-production"]
    while waiting_for:
        needed = {need["job"] for need in push[waiting_for.pop()].get("needs", [])} & push.keys()
        waiting_for += needed - order
        order |= needed
    assert {"deploy-staging", "plan-production", "test", "secrets", "lint-python"} <= order


def test_a_merge_request_plans_and_deploys_nothing(pipelines: Pipelines) -> None:
    names = pipelines["a merge request"]
    assert {"plan-staging", "plan-production", "test"} <= names.keys()
    assert not [name for name in names if name.startswith(("deploy", "propose", "tag", "repair", "pages"))]


def test_a_schedule_reports_and_repairs_only_by_hand(pipelines: Pipelines) -> None:
    assert {name: job["when"] for name, job in pipelines["a schedule"].items()} == {
        "drift-staging": "on_success",
        "drift-production": "on_success",
        "repair-staging": "manual",
        "repair-production": "manual",
        "pages": "always",
    }


def test_the_page_is_drawn_after_staging_and_after_production_however_they_ended(pipelines: Pipelines) -> None:
    push = pipelines["a push to main"]
    drawn_after = {name: [need["job"] for need in push[name]["needs"]] for name in ("pages", "pages-production")}
    assert [push[name]["when"] for name in drawn_after] == ["always", "always"]
    assert (drawn_after["pages"][0], drawn_after["pages-production"]) == (
        "deploy-staging",
        ["deploy-staging", "deploy-production"],
    )


def test_nothing_is_deployed_before_somebody_says_so(pipelines: Pipelines) -> None:
    before = pipelines["a push to main before anything is deployed"]
    assert "test" in before
    assert not [name for name in before if name.startswith(("plan", "deploy", "pages"))]


def test_all_pythons_run_all_tests_and_one_runs_some(pipelines: Pipelines) -> None:
    on_all = {"test", "test-pythons: [3.11]", "test-pythons: [3.12]"}
    assert on_all <= pipelines["a push to main"].keys()
    assert on_all & pipelines["a push to main with some of the tests"].keys() == {"test"}


def test_there_is_no_mistake_in_it(repository: Path) -> None:
    assert check.mistakes(repository, kinds=["a push to main"]) == []


def test_what_deploys_is_locked_and_never_cancelled(repository: Path) -> None:
    preview = run(gitlab_ci_local("--preview"), cwd=repository, timeout_s=60)
    described = yaml.safe_load(preview.stdout)
    deploying = {name: job for name, job in described.items() if "resource_group" in job}
    assert deploying.keys() >= {"deploy-staging", "deploy-production", "repair-staging", "repair-production"}
    for name, job in deploying.items():
        environment = job["environment"]["name"]
        assert (job["resource_group"], job["interruptible"]) == (environment, False), name
        assert environment in name


def test_what_jobs_call_is_in_the_makefile_once(repository: Path) -> None:
    preview = run(gitlab_ci_local("--preview"), cwd=repository, timeout_s=60)
    described = {name: job for name, job in yaml.safe_load(preview.stdout).items() if name not in check.TOP_LEVEL}
    lines = [line for job in described.values() for line in job.get("script", []) + job.get("after_script", [])]
    called = {line.split()[1] for line in lines}
    assert {"lint-pipeline", "test", "plan", "deploy", "drift", "page"} <= called
    targets = re.findall(r"^([a-z-]+):(?!=)", (CLONE / "Makefile").read_text(), re.MULTILINE)
    assert {target: targets.count(target) for target in called} == dict.fromkeys(called, 1)


BROKEN = {
    "needs a job that is not there": ("ci/deploy.yml", "    - secrets\n", "    - secret\n", "secret"),
    "no needs": ("ci/plan.yml", "  needs: []\n", "", "plan-staging: needs: expected a list"),
    "a script of its own": ("ci/validate.yml", "make secrets", "make secrets && rm -r /", "secrets: script: expected"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_mistake_is_named(what: str, tmp_path: Path) -> None:
    file, before, after, expected = BROKEN[what]
    check.repository_of(CLONE, tmp_path / "twinops")
    broken = tmp_path / "twinops" / file
    assert before in broken.read_text()
    broken.write_text(broken.read_text().replace(before, after))
    git(tmp_path / "twinops", "commit", "-qam", "A mistake")
    assert expected in "\n".join(check.mistakes(tmp_path / "twinops", kinds=["a push to main"]))
