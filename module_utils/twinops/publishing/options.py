"""How a module is told where keys and repository are; documented in plugins/doc_fragments/signing.py."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .keys import KeyRing

SIGNING: Mapping[str, Mapping[str, Any]] = {
    "keys": {"type": "path", "required": True, "no_log": False},
    "public_keys": {"type": "path", "no_log": False},
    "repository": {"type": "path", "required": True},
    "bucket": {"type": "str"},
}
"""An argument spec of Ansible."""


def key_ring(params: Mapping[str, Any]) -> KeyRing:
    """The keys of this host, and the public ones of everybody."""
    return KeyRing(Path(params["keys"]).resolve(), Path(params["public_keys"] or params["keys"]).resolve())
