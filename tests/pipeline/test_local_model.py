"""What happens next in a pipeline: order, people, retries, a matrix, a lost runner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.local import model
from pipeline.local.model import CREATED, FAILED, MANUAL, RUNNING, SKIPPED, SUCCESS, WARNING, Job, Pipeline


def job(name: str, *needs: str, when: str = "on_success", may_block: bool = True, **fields: Any) -> Job:
    return Job(name, "stage", when, list(needs), may_block, **fields)


def pipeline(*jobs: Job) -> Pipeline:
    return Pipeline(1, "push", "main", "c" * 40, "", "erin", list(jobs))


def started(of: Pipeline) -> list[str]:
    return [each.name for each in model.advance(of)]


def end(of: Pipeline, name: str, status: str) -> None:
    of.job(name).status = status


def test_a_job_starts_once_all_that_it_needs_has_ended_well() -> None:
    it = pipeline(job("lint"), job("test"), job("deploy", "lint", "test"))
    assert started(it) == ["lint", "test"]
    end(it, "lint", SUCCESS)
    assert started(it) == []
    end(it, "test", WARNING)
    assert started(it) == ["deploy"]
    assert it.status == RUNNING


def test_what_needs_a_failed_job_is_skipped_and_so_is_the_rest() -> None:
    it = pipeline(job("test"), job("deploy", "test"), job("tag", "deploy"), job("page"))
    assert started(it) == ["test", "page"]
    end(it, "test", FAILED)
    end(it, "page", SUCCESS)
    assert started(it) == []
    assert [each.status for each in it.jobs] == [FAILED, SKIPPED, SKIPPED, SUCCESS]
    assert it.job("deploy").message == "needs test"
    assert it.status == FAILED


def test_what_always_runs_waits_for_what_it_needs_and_runs_however_that_ended() -> None:
    it = pipeline(job("test"), job("deploy", "test"), job("page", "deploy", when="always"), job("tag", "page"))
    assert started(it) == ["test"]
    end(it, "test", FAILED)
    assert started(it) == ["page"]
    end(it, "page", SUCCESS)
    assert started(it) == ["tag"]
    assert it.job("deploy").status == SKIPPED


def test_a_manual_job_blocks_until_a_person_plays_it() -> None:
    it = pipeline(job("plan"), job("production", "plan", when="manual"), job("page", "production"))
    started(it)
    end(it, "plan", SUCCESS)
    assert started(it) == []
    assert (it.job("production").status, it.job("page").status, it.status) == (MANUAL, CREATED, MANUAL)
    model.play(it, "production", "ada")
    assert started(it) == ["production"]
    assert it.job("production").approved_by == "ada"


def test_a_manual_job_that_may_be_left_does_not_block() -> None:
    it = pipeline(job("drift"), job("repair", "drift", when="manual", may_block=False))
    started(it)
    end(it, "drift", WARNING)
    assert started(it) == []
    assert (it.job("repair").status, it.status) == (MANUAL, SUCCESS)


def test_a_matrix_is_needed_as_a_whole_and_a_missing_job_not_at_all() -> None:
    it = pipeline(job("test: [3.11]"), job("test: [3.12]"), job("deploy", "test", "molecule"))
    started(it)
    end(it, "test: [3.11]", SUCCESS)
    assert started(it) == []
    end(it, "test: [3.12]", SUCCESS)
    assert started(it) == ["deploy"]


def test_a_failed_job_is_played_again_with_what_depends_on_it() -> None:
    it = pipeline(job("deploy"), job("tag", "deploy"))
    started(it)
    end(it, "deploy", FAILED)
    started(it)
    model.play(it, "deploy", "erin")
    assert started(it) == ["deploy"]
    assert it.job("tag").status == CREATED


def test_what_went_well_is_not_played_again() -> None:
    it = pipeline(job("deploy"))
    end(it, "deploy", SUCCESS)
    with pytest.raises(ValueError, match="deploy: expected a job that waits for a person or has failed, it is success"):
        model.play(it, "deploy", "erin")


def test_what_a_lost_runner_had_at_work_has_failed(tmp_path: Path) -> None:
    it = pipeline(job("deploy"), job("tag", "deploy"))
    it.runner = 4711
    started(it)
    it.save(tmp_path)
    again = model.load(tmp_path, 1)
    assert model.take_over(again) == ["deploy"]
    assert (again.job("deploy").status, again.runner) == (FAILED, 0)
    assert "its runner was lost" in again.job("deploy").message


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    it = pipeline(job("deploy", resource_group="staging", id_tokens={"T": "a"}), job("page"))
    it.save(tmp_path)
    assert model.load(tmp_path, 1) == it


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30 minutes", 1800), ("1 hour 30 minutes", 5400), ("6 hours", 21600), (None, 3600), ("2d", 3600)],
)
def test_durations_as_gitlab_writes_them(text: str | None, expected: int) -> None:
    assert model.seconds(text) == expected


def test_what_the_file_says_of_a_job() -> None:
    listed = [{"name": "deploy: [a]", "stage": "s", "when": "manual", "allow_failure": False, "needs": [{"job": "x"}]}]
    described = {
        "deploy": {
            "environment": {"name": "staging", "action": "start"},
            "resource_group": "staging",
            "id_tokens": {"TOKEN": {"aud": "https://gitlab.example.com"}},
            "retry": {"max": 1, "when": ["runner_system_failure"]},
            "timeout": "2 hours",
            "artifacts": {"paths": ["build/"], "when": "always"},
        }
    }
    (found,) = model.parse(listed, described)
    assert (found.environment, found.resource_group, found.may_block, found.needs) == (
        "staging",
        "staging",
        True,
        ["x"],
    )
    assert found.id_tokens == {"TOKEN": "https://gitlab.example.com"}
    assert (found.retries, found.retry_when, found.timeout_s) == (1, ["runner_system_failure"], 7200)
    assert (found.artifacts, found.artifacts_when) == (["build/"], "always")


@pytest.mark.parametrize(
    ("status", "expected"),
    [(CREATED, True), (RUNNING, True), (MANUAL, False), (SUCCESS, False), (FAILED, False), (SKIPPED, False)],
)
def test_a_later_pipeline_waits_for_what_comes_by_itself(status: str, expected: bool) -> None:
    it = pipeline(job("deploy", resource_group="staging", status=status), job("pages"))
    assert model.will_take(it, "staging") is expected
    assert not model.will_take(it, "production")
