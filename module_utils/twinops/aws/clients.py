"""One place that makes clients: one retry policy, one user agent, any credential chain. Imported by what starts often.

Credentials come from boto3's own chain (profile, environment, web identity, container, instance); they are never
a parameter, never logged and never in a return value.
"""

from __future__ import annotations

import functools
import os
import threading
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.config import Config
from botocore.loaders import Loader

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


class _EveryName(list[str]):
    """Contains every name."""

    def __contains__(self, name: object) -> bool:
        return True


class _Models(Loader):
    """botocore's service models, loaded without listing all services first: that looks at thousands of files, and is a
    third of the time that a client takes. The name of one that does not exist is refused when it is loaded."""

    def list_available_services(self, type_name: str) -> list[str]:
        return _EveryName()


def _models(search_path: str | None) -> _Models:
    return _Models(extra_search_paths=search_path.split(os.pathsep) if search_path else None)


@functools.cache
def session(profile: str | None = None, region: str | None = None) -> Session:
    """The process-wide session of a profile and region; ``None`` leaves the choice to boto3's chain.

    It is botocore's, of which boto3's is a shell: we only use clients, and importing boto3 takes twice as long.
    """
    made = botocore.session.Session(profile=profile)
    made.lazy_register_component("data_loader", lambda: _models(made.get_config_variable("data_path")))
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


def caller_arn(**options: str | None) -> str:
    """Who calls (STS GetCallerIdentity, which needs no permission)."""
    return str(client("sts", **options).get_caller_identity()["Arn"])


def account_id(**options: str | None) -> str:
    """The account of the caller (STS GetCallerIdentity, which needs no permission)."""
    return str(client("sts", **options).get_caller_identity()["Account"])
