"""One place that makes boto3 clients: one retry policy, one user agent, any credential chain.

Credentials come from boto3's own chain (profile, environment, web identity, container, instance); they are never
a parameter, never logged and never in a return value.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from boto3.session import Session

CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 6},
    connect_timeout=5,
    read_timeout=65,
    user_agent_extra="twinops",
)


@functools.cache
def session(profile: str | None = None, region: str | None = None) -> Session:
    """The process-wide session of a profile and region; ``None`` leaves the choice to boto3's chain."""
    return boto3.Session(profile_name=profile, region_name=region)


@functools.cache
def client(
    service: str, *, profile: str | None = None, region: str | None = None, endpoint_url: str | None = None
) -> Any:
    """A cached client (they are thread-safe, sessions are not: call this before starting threads)."""
    make: Any = session(profile, region).client  # boto3-stubs overload it by literal service names
    return make(service, endpoint_url=endpoint_url, config=CONFIG)


def account_id(**options: str | None) -> str:
    """The account of the caller (STS GetCallerIdentity, which needs no permission)."""
    return str(client("sts", **options).get_caller_identity()["Account"])
