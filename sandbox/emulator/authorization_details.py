"""IAM's GetAccountAuthorizationDetails with the permissions boundaries of roles, which ministack leaves out."""

from __future__ import annotations

import re
from typing import Any

from ministack.services import iam

from sandbox.emulator.answers import Answer

OPERATION = "GetAccountAuthorizationDetails"
_ROLE = re.compile(rb"<RoleName>(?P<name>[^<]+)</RoleName><RoleId>")


def install() -> None:
    describe = iam._IAM_HANDLERS[OPERATION]

    def with_boundaries(parameters: Any) -> Answer:
        status, headers, body = describe(parameters)
        return status, headers, _ROLE.sub(_with_boundary, body)

    iam._IAM_HANDLERS[OPERATION] = with_boundaries


def _with_boundary(role: re.Match[bytes]) -> bytes:
    boundary = (iam._roles.get(role["name"].decode()) or {}).get("PermissionsBoundary")
    if not boundary:
        return role[0]
    element = (
        "<PermissionsBoundary><PermissionsBoundaryType>PermissionsBoundaryPolicy</PermissionsBoundaryType>"
        f"<PermissionsBoundaryArn>{boundary}</PermissionsBoundaryArn></PermissionsBoundary>"
    )
    return element.encode() + role[0]
