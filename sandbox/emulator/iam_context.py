"""IAM condition keys that ministack does not fill in, without which policies that are right in AWS deny too much here.

- ``aws:SecureTransport``: our endpoint speaks plain HTTP on the loopback interface, where AWS has TLS. It is reported
  as secure, so that a bucket policy that refuses plain HTTP means here what it means there.
- ``cloudwatch:namespace``: of PutMetricData, whose policies are scoped by nothing else.
- ``events:source`` and ``events:detail-type``: of PutEvents, for each of whose entries AWS asks.
- ``dynamodb:LeadingKeys``: the partition keys of the items that a request names, also in a transaction.
- ``redshift-data:statement-owner-iam-userid``: who executed a statement; statements have no ARN.
- ``aws:PrincipalArn`` of a session is the ARN of its role, not of the session.
- ``aws:ResourceTag`` counts in permissions boundaries too; ``ec2:ResourceTag`` and the like are the same tags.
- ``aws:RequestTag`` of what EC2 makes, from the specifications of tags.
- ``iam:PermissionsBoundary`` and ``iam:PolicyARN`` of what changes roles.
- Policy variables such as ``${aws:userid}`` in the values of conditions, which ministack compares as plain text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from ministack import app as ministack_app
from ministack.core import iam_actions, iam_evaluator
from ministack.services import dynamodb, iam

from sandbox.emulator import iam_resources
from sandbox.settings import ACCOUNT


def install(owner_of_statement: Callable[[str], str]) -> None:
    """Fill the keys in, for every request from now on. ``owner_of_statement``: statement id -> ``aws:userid``."""
    pin_origin = ministack_app.pin_request_origin
    request_context = iam_actions.request_tag_context

    def pin_as_secure(source_ip: str, _secure_transport: bool) -> None:
        pin_origin(source_ip, True)

    def with_more(service: str, iam_action: str, body: bytes, parameters: dict[str, Any]) -> dict[str, Any]:
        context: dict[str, Any] = request_context(service, iam_action, body, parameters)
        if iam_action == "cloudwatch:PutMetricData" and (namespace := metric_namespace(body)):
            context = {**context, "cloudwatch:namespace": namespace}
        if iam_action == "events:PutEvents":
            context = {**context, **event_keys(body)}
        if service == "dynamodb" and (keys := leading_keys(body)):
            context = {**context, "dynamodb:LeadingKeys": keys}
        if service == "ec2":
            context = {**context, **made_tags(iam_action, parameters)}
        if service == "iam":
            context = {**context, **role_keys(iam_action, parameters)}
        if iam_action.startswith("redshift-data:") and (statement_id := json.loads(body or b"{}").get("Id")):
            owner = owner_of_statement(str(statement_id))
            context = {**context, "redshift-data:statement-owner-iam-userid": owner}
        return context

    conditions_met = iam_evaluator._conditions_met

    def with_variables(conditions: dict[str, Any], request: iam_evaluator.EvalContext) -> bool:
        return bool(conditions_met(fill_in(conditions, request), request))

    iam_evaluator._conditions_met = with_variables
    iam_evaluator._resolve_condition_key = _resolver(iam_evaluator._resolve_condition_key)
    iam_evaluator._names_condition_key = lambda _policies, _prefix: True  # it does not look at boundaries
    ministack_app.pin_request_origin = pin_as_secure
    iam_actions.request_tag_context = with_more


def _resolver(resolve: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    def value_of(key: str, request: iam_evaluator.EvalContext) -> Any:
        name = key.lower()
        if name == "aws:principalarn" and request.principal_type == "AssumedRole":
            role = iam._roles.get_scoped(ACCOUNT, None, request.principal_arn.split("/")[1])
            return (role or {}).get("Arn", request.principal_arn)
        if re.fullmatch(r"(?!aws:)[a-z0-9-]+:resourcetag/.+", name):
            key = f"aws:{key.partition(':')[2]}"
        return resolve(key, request)

    return value_of


def made_tags(iam_action: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """The tags of a request of EC2, for what it makes in the first place."""
    operation = iam_action.partition(":")[2]
    first = {name: value[0] if isinstance(value, list) else value for name, value in parameters.items() if value}
    request = iam_resources.Request("ec2", operation, "", b"", first)
    made, _ = iam_resources.EC2_CREATES.get(operation, ("", ()))
    return {name.lower(): value for name, value in iam_resources.specified_tags(request, made).items()} if made else {}


def role_keys(iam_action: str, parameters: dict[str, Any]) -> dict[str, str]:
    """IAM's own keys: the boundary that a request sets, or that what it changes has; the policy it attaches."""

    def first(name: str) -> str:
        value = parameters.get(name) or ""
        return str(value[0] if isinstance(value, list) else value)

    boundary = first("PermissionsBoundary")
    if not boundary and not iam_action.startswith("iam:Create"):
        role = iam._roles.get_scoped(ACCOUNT, None, first("RoleName"))
        boundary = (role or {}).get("PermissionsBoundary") or ""
    keys = {"iam:PermissionsBoundary": boundary, "iam:PolicyARN": first("PolicyArn")}
    return {name: value for name, value in keys.items() if value}


def fill_in(conditions: Any, request: iam_evaluator.EvalContext) -> Any:
    """Conditions with their variables replaced; one that the request has no value for stays, and so matches nothing."""
    if isinstance(conditions, dict):
        return {name: fill_in(value, request) for name, value in conditions.items()}
    if isinstance(conditions, list):
        return [fill_in(value, request) for value in conditions]
    if not isinstance(conditions, str):
        return conditions

    def value_of(variable: re.Match[str]) -> str:
        value = iam_evaluator._resolve_condition_key(variable[1], request)
        return value if isinstance(value, str) and value else variable[0]

    return re.sub(r"\$\{([^}]+)\}", value_of, conditions)


def leading_keys(body: bytes) -> list[str]:
    """The partition keys of the items that a request of DynamoDB reads or writes one by one; none for a query."""
    try:
        request = json.loads(body or b"{}")
    except ValueError:
        return []
    parts = [request, *(part for item in request.get("TransactItems", []) for part in item.values())]
    found = []
    for part in parts:
        table = dynamodb._tables.get(part.get("TableName", "").rpartition("/")[2])
        value = (part.get("Key") or part.get("Item") or {}).get(table["pk_name"]) if table else None
        found += list(value.values()) if value else []
    return [str(value) for value in found]


def event_keys(body: bytes) -> dict[str, str]:
    """Source and type of the events of a request. Of a mixture it is one that no condition can name: AWS asks for each
    entry, and refuses where one of them is not allowed.
    """
    try:
        entries = [entry for entry in json.loads(body)["Entries"] if isinstance(entry, dict)]
    except (ValueError, KeyError, TypeError):
        return {}
    keys = {"events:source": "Source", "events:detail-type": "DetailType"}
    return {key: " and ".join(sorted({str(entry.get(name)) for entry in entries})) for key, name in keys.items()}


def metric_namespace(body: bytes) -> str | None:
    """The namespace of a PutMetricData request, in JSON or as a query."""
    try:
        return str(json.loads(body)["Namespace"])
    except (ValueError, KeyError, TypeError):
        return parse_qs(body.decode("utf-8", "replace")).get("Namespace", [None])[0]
