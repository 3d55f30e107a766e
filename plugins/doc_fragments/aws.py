"""What every module that talks to AWS takes: ``extends_documentation_fragment: [aws]``."""

from __future__ import annotations


class ModuleDocFragment:
    """Which environment, and how to reach it."""

    DOCUMENTATION = r"""
options:
  env:
    description: The environment.
    type: str
    required: true
    choices: [sandbox, staging, production]
  region:
    description: AWS region. By default boto3's own choice (E(AWS_DEFAULT_REGION), profile).
    type: str
  profile:
    description: Profile of the AWS configuration. By default boto3's own choice.
    type: str
  endpoint_url:
    description: URL of the AWS endpoint, for emulators. By default boto3's own choice.
    type: str
requirements:
  - boto3
"""
