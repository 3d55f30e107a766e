"""A secret in a commit, in a log or in an artifact is found, and not shown. None is in this file."""

from __future__ import annotations

import secrets as random_source
import string
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import secrets
from pipeline.tools import CLONE, git

BASE64 = string.ascii_letters + string.digits + "+/"


def of(alphabet: str, length: int) -> str:
    return "".join(random_source.choice(alphabet) for _ in range(length))


def private_key() -> str:
    made = subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519"], capture_output=True, text=True, check=True)
    return made.stdout


PLANTED = {
    "an access key in a log": lambda: (
        f"AWS_ACCESS_KEY_ID=AKIA{of(string.ascii_uppercase + '234567', 16)}\nAWS_SECRET_ACCESS_KEY={of(BASE64, 40)}\n"
    ),
    "half of one in a log": lambda: f"env: aws_secret_access_key = {of(BASE64, 40)} and more\n",
    "a session token in an artifact": lambda: f'{{"aws_session_token": "{of(BASE64, 300)}"}}\n',
    "a token of GitLab": lambda: f"git push https://oauth2:glpat-{of(string.ascii_letters + string.digits, 20)}@git\n",
    "a key that signs releases": private_key,
}


@pytest.mark.parametrize("what", PLANTED)
def test_a_secret_in_a_file_is_found(what: str, tmp_path: Path) -> None:
    (tmp_path / "job.log").write_text("TASK [Ensure that]\nok\n" + PLANTED[what]())
    (found, *_) = secrets.in_files(tmp_path)
    assert Path(found.path).name == "job.log"
    assert found.line >= 3


def test_a_secret_in_a_commit_is_found_although_it_was_removed(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "settings.env").write_text(PLANTED["half of one in a log"]())
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "Settings")
    planted_in = git(tmp_path, "rev-parse", "HEAD")
    git(tmp_path, "rm", "-q", "settings.env")
    git(tmp_path, "commit", "-q", "-m", "Without it")
    assert [(found.path, found.commit) for found in secrets.in_history(tmp_path)] == [("settings.env", planted_in)]


def test_what_was_found_is_named_and_not_shown(tmp_path: Path) -> None:
    planted = PLANTED["half of one in a log"]()
    (tmp_path / "job.log").write_text(planted)
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.secrets", str(tmp_path)],
        cwd=CLONE,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "job.log:1: twinops.aws-secret-access-key: expected no secret" in done.stderr
    assert planted.split()[3] not in done.stdout + done.stderr


def test_what_cannot_be_looked_at_is_no_all_clear(tmp_path: Path) -> None:
    with pytest.raises(secrets.PipelineError, match="expected these files or folders, found none"):
        secrets.in_files(tmp_path / "no such file")


def test_ordinary_output_is_none(tmp_path: Path) -> None:
    (tmp_path / "job.log").write_text(f"commit {of('0123456789abcdef', 40)}\npassword: {{{{ lookup('env', 'X') }}}}\n")
    assert secrets.in_files(tmp_path) == []


def test_this_repository_has_none() -> None:
    assert [str(found) for found in secrets.in_history(CLONE)] == []
