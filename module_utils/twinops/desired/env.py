"""Who may do what in an environment."""

from __future__ import annotations

from .. import data_sources, policies
from ..resources import Resource, Role
from . import bootstrap, data_access
from .common import Estate, Options, check_session, role

PART = "env"

TOOLS = {
    "role_arn": {"type": "str", "required": True},
    "external_id": {"type": "str", "required": True, "no_log": False},
}
OPTIONS = {
    "trusted_principals": {"type": "list", "elements": "str", "default": []},
    "tools": {"type": "dict", "options": TOOLS},
    "targets": {"type": "list", "elements": "str", "default": []},
    "session_s": {"type": "int", "default": 3600},
    "data_sources": data_sources.LIST,
}


def resources(estate: Estate, options: Options) -> tuple[Resource, ...]:
    """The roles of people, functions, schedules, twins and devices, none of which can exceed the boundary.

    The boundary belongs to the bootstrap and what twins may read to the data access; both are here too, because roles
    refer to them: whoever lacks them, or has another version of them, gets to know it by this part alone.
    """
    sources, targets = data_sources.parse(options["data_sources"]), options["targets"]
    check_session("env", options["session_s"])
    documents = policies.of_roles(estate.scope, targets)
    return (
        bootstrap.boundary(estate, sources, targets),
        data_access.policy(estate, sources),
        *(_role(estate, purpose, document, options) for purpose, document in documents.items()),
    )


def _role(estate: Estate, purpose: str, document: policies.Document, options: Options) -> Role:
    if purpose == policies.MLOPS:
        tools = options["tools"] or {"role_arn": "", "external_id": ""}
        people = policies.trust_of_people(estate.scope, options["trusted_principals"], **tools)
        return role(estate, PART, purpose, document, trust=people, session_s=options["session_s"])
    if purpose == policies.SCHEDULER:
        return role(estate, PART, purpose, document, trust=policies.trust_of_schedules(estate.scope))
    reads_data = purpose in (policies.DEVELOPMENT_TWIN, policies.DEPLOYMENT_TWIN)
    attached = (estate.scope.policy_arn(policies.DATA_ACCESS),) if reads_data else ()
    return role(estate, PART, purpose, document, attached=attached)
