"""Clients of AWS for what a device asks and reports by itself, over whatever network it has."""

from __future__ import annotations

from typing import Any

import botocore.session
from botocore.config import Config

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 30


def client(service: str) -> Any:
    """A client with the region and credentials that botocore finds in the environment."""
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"max_attempts": 3, "mode": "standard"},
    )
    return botocore.session.Session().create_client(service, config=config)
