"""What a job leaves behind when it goes wrong: a record, a mail, and no secret. Ansible itself is left out here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import comment, jobs, mail, plans, playbook, secrets
from pipeline.tools import PipelineError
from tests.pipeline.test_plans import RECORD, made
from tests.pipeline.test_secrets import PLANTED

RUN = Callable[..., int]


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(jobs, "BUILD", tmp_path)
    return tmp_path


@pytest.fixture
def mails(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    sent: list[str] = []
    monkeypatch.setattr(mail, "send", lambda env, subject, text, log: sent.append(f"{subject}: {text}"))
    return sent


@pytest.fixture
def approved(tmp_path: Path) -> Path:
    plan = {**made(), "commit": jobs._commit()}
    path = tmp_path / "approved.json"
    path.write_text(json.dumps({**plan, "digest": plans.digest(plan)}))
    return path


def ansible(monkeypatch: pytest.MonkeyPatch, run: RUN) -> None:
    monkeypatch.setattr(playbook, "run", run)


def that_fails(output: str) -> RUN:
    def run(*_: Any, log: Path, **__: Any) -> int:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(output)
        return 2

    return run


def that_finds(**different: Any) -> RUN:
    def run(*_: Any, variables: dict[str, str], **__: Any) -> int:
        Path(variables["TWINOPS_PLAN_FILE"]).write_text(json.dumps({**RECORD, **different}))
        return 0

    return run


def record(build: Path) -> tuple[str, str]:
    found = json.loads((build / "deployments/staging.json").read_text())
    return found["state"], found["message"]


def test_a_deployment_that_fails_is_recorded_and_mailed_although_a_secret_was_in_its_log(
    build: Path, mails: list[str], approved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ansible(monkeypatch, that_fails("[ERROR]: the gate says no\n\n" + PLANTED["half of one in a log"]()))
    with pytest.raises(PipelineError, match=r"(?s)failed: the gate says no.*expected no secret.*staging.log:3"):
        jobs.deploy("staging", approved, "")
    assert record(build) == ("failed", "the gate says no")
    assert [text.partition(": the gate")[1] for text in mails] == [": the gate"]
    assert not (build / "deployments/staging.log").exists()


def test_a_deployment_that_cannot_begin_is_refused_and_not_left_running(
    build: Path, approved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: Any, **__: Any) -> int:
        raise PipelineError("TWINOPS_ACCOUNT_STAGING: expected the number of the account")

    ansible(monkeypatch, run)
    with pytest.raises(PipelineError, match="TWINOPS_ACCOUNT_STAGING"):
        jobs.deploy("staging", approved, "")
    assert record(build) == ("refused", "TWINOPS_ACCOUNT_STAGING: expected the number of the account")


def test_nothing_is_deployed_where_its_log_could_not_be_looked_through(
    build: Path, approved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> Path:
        raise PipelineError("run: make setup-secrets")

    monkeypatch.setattr(jobs, "kingfisher", missing)
    ansible(monkeypatch, lambda *_, **__: pytest.fail("expected nothing to be deployed"))
    with pytest.raises(PipelineError, match="make setup-secrets"):
        jobs.deploy("staging", approved, "")
    assert record(build) == ("refused", "run: make setup-secrets")


def test_what_could_not_be_looked_through_is_no_artifact_and_the_reason_is_kept(
    build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_slow(*_: Path) -> list[Any]:
        raise PipelineError("kingfisher: expected it to end within 300 s")

    monkeypatch.setattr(secrets, "in_files", too_slow)
    ansible(monkeypatch, lambda *_, log, **__: log.write_text("TASK") and 4)
    with pytest.raises(PipelineError, match=r"(?s)ended with 4 before there was a plan.*kingfisher: expected.*removed"):
        jobs.plan("staging")
    assert not (build / "plans").exists()


def test_a_secret_is_removed_also_where_a_job_breaks(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any, log: Path, variables: dict[str, str], **__: Any) -> int:
        log.write_text(PLANTED["half of one in a log"]())
        Path(variables["TWINOPS_PLAN_FILE"]).write_text("{")
        return 0

    ansible(monkeypatch, run)
    with pytest.raises(json.JSONDecodeError):
        jobs.plan("staging")
    assert list((build / "plans").iterdir()) == []


def test_a_secret_in_a_plan_is_neither_mailed_nor_printed(
    build: Path, mails: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    planted = PLANTED["half of one in a log"]()
    monkeypatch.setattr(plans.approval, "without_secrets", lambda found: found)  # one that only the scanner knows
    monkeypatch.setattr(comment, "text_without_secrets", lambda text: text)
    ansible(monkeypatch, that_finds(cloud={"plan": [], "orphans": [], "warnings": [planted]}))
    with pytest.raises(PipelineError, match="expected no secret"):
        jobs.drift("staging")
    assert (mails, planted.split()[3] in capsys.readouterr().out) == ([], False)


def test_what_ansible_found_is_in_no_artifact_where_there_is_no_plan(
    build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = {"host": "control", "action": "cloud", "task": "Make", "message": "AccessDenied"}
    ansible(monkeypatch, that_finds(failures=[failure]))
    with pytest.raises(PipelineError, match="AccessDenied"):
        jobs.plan("staging")
    assert list((build / "plans").iterdir()) == []


def test_drift_tells_of_what_is_not_declared_any_more_and_of_devices_that_do_not_answer(
    build: Path, mails: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unreachable = [task for task in RECORD["tasks"] if task.get("unreachable")]
    cloud = {"plan": [], "orphans": [{"kind": "bucket", "name": "left"}], "warnings": []}
    ansible(monkeypatch, that_finds(cloud=cloud, tasks=unreachable))
    assert jobs.drift("staging") == 0
    assert [("something differs from git" in text, "`left`" in text) for text in mails] == [(True, True)]
    assert "staging: not known of 1 devices, which do not answer" in capsys.readouterr().out


def test_drift_mails_nothing_where_all_is_as_git_says(
    build: Path, mails: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ansible(monkeypatch, that_finds(cloud={"plan": [], "orphans": [], "warnings": []}, tasks=[]))
    assert jobs.drift("staging") == 0
    assert mails == []
    assert capsys.readouterr().out.endswith("staging: as git says\n")
