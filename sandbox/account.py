"""boto3 sessions of the sandbox's account, whatever AWS variables the caller has."""

from __future__ import annotations

from typing import Any

import boto3
import botocore.session

from sandbox.settings import PROFILE, Settings


def session(settings: Settings) -> Any:
    """A session with the root keys of this sandbox's account; its clients find the endpoint by themselves."""
    core = botocore.session.Session(profile=PROFILE)
    core.set_config_variable("config_file", settings.aws_environment["AWS_CONFIG_FILE"])
    core.set_config_variable("credentials_file", settings.aws_environment["AWS_SHARED_CREDENTIALS_FILE"])
    return boto3.Session(botocore_session=core)
