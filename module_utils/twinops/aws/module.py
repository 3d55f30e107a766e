"""What every cloud module in ``library/`` has in common: its options, and how they become a reconciliation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..errors import TwinopsError
from ..names import ENVIRONMENTS
from ..resources import Resource, Scope
from .reconcile import ApplyError, Family, reconcile, remove
from .session import Aws

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "env": {"type": "str", "required": True, "choices": list(ENVIRONMENTS)},
    "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
    "tags": {"type": "dict", "default": {}},
    "region": {"type": "str"},
    "profile": {"type": "str"},
    "endpoint_url": {"type": "str"},
}

RETENTION_DAYS = [
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731),
    *(1096, 1827, 2192, 2557, 2922, 3288, 3653),
]
"""What CloudWatch Logs offers."""


def converge(
    params: Mapping[str, Any],
    desired: Callable[[Scope], Iterable[Resource]],
    *,
    check_mode: bool,
    families: Callable[[Scope], Iterable[Family]] = lambda scope: (),
    archives: Mapping[str, bytes] | None = None,
) -> dict[str, Any]:
    """Make the set that ``desired`` computes, or remove it where ``state`` is absent.

    ``archives`` are the contents, by digest, of what is uploaded. Raises TwinopsError.
    """
    aws = Aws(params["env"], **{option: params[option] for option in ("region", "profile", "endpoint_url")})
    aws.archives.update(archives or {})
    wanted = tuple(desired(aws.scope))
    if params["state"] == "absent":
        return remove(aws, wanted, apply=not check_mode)
    return reconcile(
        aws,
        wanted,
        apply=not check_mode,
        families=families(aws.scope),
        wait_timeout_s=params["wait_timeout"] if params.get("wait") else 0,
    )


def failure(error: TwinopsError) -> dict[str, Any]:
    """Arguments of ``fail_json``: the message, and what was changed before."""
    done = error.done if isinstance(error, ApplyError) else ()
    return {"msg": str(error), "changed": bool(done), "changes": [change.as_dict() for change in done]}
