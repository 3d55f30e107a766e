"""How a job reaches AWS: a profile for the inventory's ``AWS_PROFILE``, made of the job's OIDC token. No key is stored.

Without a token, the profile of the person who runs the target counts: by hand it is the same command.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pipeline.tools import PipelineError

TOKEN = "TWINOPS_ID_TOKEN"  # noqa: S105  (the name of a variable)
DEPLOY, PLAN = "deploy", "plan"

PROFILE = """\
# Written for one job by pipeline/access.py.
[profile twinops-{env}]
role_arn = arn:{partition}:iam::{account}:role/twinops-{env}-{role}
web_identity_token_file = {token}
role_session_name = {session}
"""


def environment(env: str, role: str, *, folder: Path, variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Environment variables for boto3, by which the profile ``twinops-<env>`` is ``role`` of the environment.

    Raises PipelineError where the account is not set.
    """
    token = variables.get(TOKEN)
    if not token:
        return {}
    name = f"TWINOPS_ACCOUNT_{env.upper()}"
    account = variables.get(name, "")
    if not (account.isdigit() and len(account) == 12):
        raise PipelineError(f"{name}: expected the number of the account of {env}, 12 digits, got {account!r}")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    token_file, config = folder / "token", folder / "config"
    _write(token_file, token)
    session = f"pipeline-{variables.get('CI_PIPELINE_ID', 'none')}-{variables.get('CI_JOB_ID', 'none')}"
    partition = variables.get("TWINOPS_PARTITION", "aws")
    text = PROFILE.format(env=env, role=role, account=account, token=token_file, session=session, partition=partition)
    _write(config, text)
    return {
        "AWS_CONFIG_FILE": str(config),
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _write(path: Path, text: str) -> None:
    """A file that nobody else reads."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
