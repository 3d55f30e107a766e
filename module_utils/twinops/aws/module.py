"""What the modules in ``library/`` that call AWS have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import TwinopsError
from ..names import ENVIRONMENTS
from .reconcile import ApplyError

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "env": {"type": "str", "required": True, "choices": list(ENVIRONMENTS)},
    "region": {"type": "str"},
    "profile": {"type": "str"},
    "endpoint_url": {"type": "str"},
}


def failure(error: TwinopsError) -> dict[str, Any]:
    """Arguments of ``fail_json``: the message, and what was changed before."""
    done = error.done if isinstance(error, ApplyError) else ()
    return {"msg": str(error), "changed": bool(done), "changes": [change.as_dict() for change in done]}
