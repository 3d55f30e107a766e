"""A function's role must trust Lambda: AWS refuses the function otherwise, ministack only asks that the role exists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ministack.services import lambda_svc

from sandbox.emulator import roles
from sandbox.emulator.answers import Answer, json_error

TRUSTED = frozenset({"lambda.amazonaws.com"})


def install() -> None:
    create, update = lambda_svc._create_function, lambda_svc._update_config
    lambda_svc._create_function = lambda data: refusal(data.get("Role")) or create(data)
    lambda_svc._update_config = _update(update)


def _update(update: Callable[[str, dict[str, Any]], Any]) -> Callable[[str, dict[str, Any]], Any]:
    return lambda name, data: (refusal(data["Role"]) if "Role" in data else None) or update(name, data)


def refusal(role_arn: str | None) -> Answer | None:
    """The error for a role that Lambda must not take; None when it may. A missing role is ministack's to report."""
    name = roles.name_from_arn(role_arn or "")
    if not roles.exists(name) or roles.trusts(name, TRUSTED):
        return None
    message = "The role defined for the function cannot be assumed by Lambda."
    return json_error("InvalidParameterValueException", message, 400)
