"""What an IAM role may do, and who may take it: for calls that AWS services make in a role's name."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import datetime, timezone

from ministack.core import iam_evaluator
from ministack.services import iam, sts

from sandbox.settings import ACCOUNT, REGION

KEYS_LIFETIME_S = 3600


class RoleError(Exception):
    """A role that does not exist (``status`` 404) or must not be taken (403)."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Keys:
    """Short-lived keys of a role."""

    access_key_id: str
    secret_access_key: str
    token: str
    expires_at: datetime


def exists(role_name: str) -> bool:
    return iam._roles.get_scoped(ACCOUNT, None, role_name) is not None


def age_s(role_name: str) -> float:
    """Seconds since the role was made."""
    created = datetime.fromisoformat(iam._roles.get_scoped(ACCOUNT, None, role_name)["CreateDate"])
    return (datetime.now(timezone.utc) - created).total_seconds()


def trusts(role_name: str, services: frozenset[str], source_arn: str = "") -> bool:
    """Whether the role's trust policy lets one of these services (``sagemaker.amazonaws.com``) assume it.

    ``source_arn`` is what the service acts for: the function, the notebook instance.
    """
    role = iam._roles.get_scoped(ACCOUNT, None, role_name)
    policy = json.loads((role or {}).get("AssumeRolePolicyDocument") or "{}")
    context = iam_evaluator.EvalContext(
        principal_arn="",
        principal_type="Service",
        principal_account=ACCOUNT,
        action="sts:AssumeRole",
        resource_arn=(role or {}).get("Arn", ""),
        region=REGION,
        service_context={"aws:sourceaccount": ACCOUNT, **({"aws:sourcearn": source_arn} if source_arn else {})},
    )
    allowed, denied = set(), set()
    for statement in _as_list(policy.get("Statement")):
        principal = statement.get("Principal")
        named = _as_list(principal.get("Service")) if isinstance(principal, dict) else _as_list(principal)
        actions = _as_list(statement.get("Action"))
        applies = any(action in ("sts:AssumeRole", "sts:*", "*") for action in actions)
        if applies and iam_evaluator._conditions_met(statement.get("Condition") or {}, context):
            (allowed if statement.get("Effect") == "Allow" else denied).update(named)
    return any(service in allowed or "*" in allowed for service in services - denied)


def allows(role_name: str, action: str, resource_arn: str) -> bool:
    """Whether the role's own policies allow an action on a resource."""
    context = iam_evaluator.EvalContext(
        principal_arn=f"arn:aws:sts::{ACCOUNT}:assumed-role/{role_name}/service",
        principal_type="AssumedRole",
        principal_account=ACCOUNT,
        action=action,
        resource_arn=resource_arn,
        region=REGION,
    )
    policies = iam_evaluator._gather_role_policies(role_name, ACCOUNT)
    return bool(iam_evaluator.evaluate(context, policies).decision == "Allow")


def issue_keys(role_name: str, session_name: str, services: dict[str, str]) -> Keys:
    """Keys of a role for a service that its trust policy names; IAM is enforced on them. Raises ``RoleError``.

    ``services``: each service that may take it, and the ARN of what it acts for.
    """
    if not exists(role_name):
        raise RoleError(f"role {role_name} does not exist", 404)
    if not any(trusts(role_name, frozenset({service}), arn) for service, arn in services.items()):
        raise RoleError(
            f"role {role_name}: expected its trust policy to allow sts:AssumeRole to {' or '.join(sorted(services))}",
            403,
        )
    expires_at = time.time() + KEYS_LIFETIME_S
    keys = Keys(
        access_key_id=sts._gen_session_access_key(),
        secret_access_key=sts._gen_secret(),
        token=sts._gen_session_token(),
        expires_at=datetime.fromtimestamp(int(expires_at), tz=timezone.utc),
    )
    sts.register_session(
        keys.access_key_id,
        {
            "Arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/{role_name}/{session_name}",
            "UserId": f"{role_name}:{session_name}",
            "SecretAccessKey": keys.secret_access_key,
            "SessionToken": keys.token,
            "Expiration": expires_at,
        },
    )
    return keys


def name_from_arn(role_arn: str) -> str:
    return role_arn.rsplit("/", 1)[-1]


def _as_list(value: object) -> list:  # type: ignore[type-arg]
    """IAM documents write one item without its list."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
