"""A function's role must trust Lambda: AWS refuses the function otherwise, ministack only asks that the role exists.

In AWS a new role is known to Lambda after about ten seconds. ``SANDBOX_IAM_DELAY_S`` brings that here.
"""

from __future__ import annotations

from typing import Any

from ministack.services import lambda_svc

from sandbox.emulator import roles
from sandbox.emulator.answers import Answer, json_error
from sandbox.emulator.iam_resources import function_arn

TRUSTED = frozenset({"lambda.amazonaws.com"})


def install(delay_s: int) -> None:
    """From now on, refuse roles that do not trust Lambda or are younger than ``delay_s``."""
    create, update = lambda_svc._create_function, lambda_svc._update_config

    def create_function(data: dict[str, Any]) -> Any:
        return refusal(data.get("Role"), data.get("FunctionName", ""), delay_s) or create(data)

    def update_config(name: str, data: dict[str, Any]) -> Any:
        return (refusal(data["Role"], name, delay_s) if "Role" in data else None) or update(name, data)

    lambda_svc._create_function = create_function
    lambda_svc._update_config = update_config


def refusal(role_arn: str | None, function: str, delay_s: int) -> Answer | None:
    """The error for a role that Lambda must not take; None when it may. A missing role is ministack's to report."""
    name = roles.name_from_arn(role_arn or "")
    if not roles.exists(name) or (roles.trusts(name, TRUSTED, function_arn(function)) and roles.age_s(name) >= delay_s):
        return None
    message = "The role defined for the function cannot be assumed by Lambda."
    return json_error("InvalidParameterValueException", message, 400)
