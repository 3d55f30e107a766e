"""A managed policy that has other versions, or bounds somebody, is not deleted; ministack lets both go."""

from __future__ import annotations

from typing import Any

from ministack.services import iam

from sandbox.emulator.answers import Answer


def install() -> None:
    delete = iam._IAM_HANDLERS["DeletePolicy"]

    def delete_policy(parameters: Any) -> Answer:
        conflict = _conflict(iam._p(parameters, "PolicyArn"))
        answer: Answer = iam._error(409, "DeleteConflict", conflict, ns="iam") if conflict else delete(parameters)
        return answer

    iam._IAM_HANDLERS["DeletePolicy"] = delete_policy


def _conflict(arn: str) -> str:
    """Why a policy must stay; empty when it may go."""
    if len((iam._policies.get(arn) or {}).get("Versions", ())) > 1:
        return "This policy has more than one version. Before you delete a policy, you must delete its versions."
    bounded = [one for store in (iam._roles, iam._users) for one in store.values()]
    if any(one.get("PermissionsBoundary") == arn for one in bounded):
        return "Cannot delete a policy attached to entities."
    return ""
