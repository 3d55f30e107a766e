"""One place that makes clients: one retry policy, one user agent, any credential chain. Imported by what starts often.

Credentials come from boto3's own chain (profile, environment, web identity, container, instance); they are never
a parameter, never logged and never in a return value.
"""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.config import Config

if TYPE_CHECKING:
    from botocore.session import Session

CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 6},
    connect_timeout=5,
    read_timeout=65,
    user_agent_extra="twinops",
    max_pool_connections=16,
)

_MAKING = threading.Lock()


@functools.cache
def session(profile: str | None = None, region: str | None = None) -> Session:
    """The process-wide session of a profile and region; ``None`` leaves the choice to boto3's chain.

    It is botocore's, of which boto3's is a shell: we only use clients, and importing boto3 takes twice as long.
    """
    made = botocore.session.Session(profile=profile)
    if region:
        made.set_config_variable("region", region)
    return made


@functools.cache
def client(
    service: str, *, profile: str | None = None, region: str | None = None, endpoint_url: str | None = None
) -> Any:
    """A cached client. Clients are thread-safe; sessions are not, so clients are made one after another."""
    with _MAKING:
        return session(profile, region).create_client(service, endpoint_url=endpoint_url, config=CONFIG)


def account_id(**options: str | None) -> str:
    """The account of the caller (STS GetCallerIdentity, which needs no permission)."""
    return str(client("sts", **options).get_caller_identity()["Account"])
