"""IAM's one listing of roles and policies with their documents, where asking for each role takes four calls."""

from __future__ import annotations

from typing import Any

from ..session import Aws

_MEMORY = "roles and policies"


def roles(aws: Aws) -> dict[str, dict[str, Any]]:
    """Name -> RoleDetail of IAM's GetAccountAuthorizationDetails, with documents decoded."""
    return {role["RoleName"]: role for page in _pages(aws) for role in page["RoleDetailList"]}


def policies(aws: Aws) -> dict[str, dict[str, Any]]:
    """Name -> ManagedPolicyDetail of the account's own policies, with documents decoded."""
    return {policy["PolicyName"]: policy for page in _pages(aws) for policy in page["Policies"]}


def forget(aws: Aws) -> None:
    """Let the next question be asked again, because roles were changed."""
    aws.forget(_MEMORY)


def _pages(aws: Aws) -> list[dict[str, Any]]:
    def read() -> list[dict[str, Any]]:
        pages = aws.client("iam").get_paginator("get_account_authorization_details")
        return list(pages.paginate(Filter=["Role", "LocalManagedPolicy"], PaginationConfig={"PageSize": 1000}))

    return aws.once(_MEMORY, read)
