"""How a job reaches AWS: a profile of its token, for one role; by hand nothing is changed."""

from __future__ import annotations

import stat
from pathlib import Path

import botocore.session
import pytest

from pipeline import access
from pipeline.tools import PipelineError

JOB = {"TWINOPS_ID_TOKEN": "header.claims.signature", "TWINOPS_ACCOUNT_STAGING": "111122223333", "CI_PIPELINE_ID": "7"}


def test_without_a_token_the_persons_own_profile_counts(tmp_path: Path) -> None:
    mine = {"AWS_ACCESS_KEY_ID": "mine", "PATH": "/bin"}
    assert access.environment("staging", access.DEPLOY, folder=tmp_path / "access", variables=mine) == mine
    assert not (tmp_path / "access").exists()


def test_a_job_has_the_profile_that_the_inventory_names(tmp_path: Path) -> None:
    given = access.environment("staging", access.PLAN, folder=tmp_path / "access", variables=JOB)
    core = botocore.session.Session(profile="twinops-staging")
    core.set_config_variable("config_file", given["AWS_CONFIG_FILE"])
    profile = core.get_scoped_config()
    assert profile["role_arn"] == "arn:aws:iam::111122223333:role/twinops-staging-plan"
    assert profile["role_session_name"] == "pipeline-7-none"
    assert Path(profile["web_identity_token_file"]).read_text() == JOB["TWINOPS_ID_TOKEN"]
    assert given["AWS_SHARED_CREDENTIALS_FILE"] == "/dev/null"


def test_a_job_has_no_other_identity_and_hands_its_token_to_nobody(tmp_path: Path) -> None:
    left_over = {
        "AWS_ACCESS_KEY_ID": "AKIA",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_SESSION_TOKEN": "t",
        "AWS_ROLE_ARN": "r",
    }
    runner = {**JOB, **left_over, "PATH": "/bin", "AWS_CA_BUNDLE": "/ca.pem"}
    given = access.environment("staging", access.PLAN, folder=tmp_path / "access", variables=runner)
    assert not {*left_over, access.TOKEN} & given.keys()
    assert (given["PATH"], given["AWS_CA_BUNDLE"]) == ("/bin", "/ca.pem")


def test_nobody_else_can_read_the_token(tmp_path: Path) -> None:
    access.environment("staging", access.PLAN, folder=tmp_path / "access", variables=JOB)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "access").iterdir()}
    assert modes == {"token": 0o600, "config": 0o600}


@pytest.mark.parametrize("account", ["", "12345", "account"])
def test_an_account_that_is_none_is_named(tmp_path: Path, account: str) -> None:
    variables = {**JOB, "TWINOPS_ACCOUNT_STAGING": account}
    with pytest.raises(PipelineError, match="TWINOPS_ACCOUNT_STAGING: expected the number of the account of staging"):
        access.environment("staging", access.DEPLOY, folder=tmp_path / "access", variables=variables)
