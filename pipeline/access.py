"""How a job reaches AWS: a profile for the inventory's ``AWS_PROFILE``, made of the job's OIDC token. No key is stored.

Without a token, the profile of the person who runs the target counts: by hand it is the same command.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pipeline.tools import PipelineError

TOKEN = "TWINOPS_ID_TOKEN"  # noqa: S105  (the name of a variable)
OTHER_IDENTITIES = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    *("AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME", "AWS_WEB_IDENTITY_TOKEN_FILE"),
)
"""What boto3 takes before a profile: the runner's own identity, or one that was left in the project's variables."""
DEPLOY, PLAN = "deploy", "plan"

PROFILE = """\
# Written for one job by pipeline/access.py.
[profile twinops-{env}]
role_arn = arn:{partition}:iam::{account}:role/twinops-{env}-{role}
web_identity_token_file = {token}
role_session_name = {session}
"""


def environment(env: str, role: str, *, folder: Path, variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """``variables`` for Ansible, by which it has ``role`` of the environment (profile ``twinops-<env>``) and no other.

    Raises PipelineError where the account is not set.
    """
    token = variables.get(TOKEN)
    if not token:
        return dict(variables)
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
        **{name: value for name, value in variables.items() if name not in (TOKEN, *OTHER_IDENTITIES)},
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
