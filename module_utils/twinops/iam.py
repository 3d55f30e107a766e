"""The grammar of IAM policies: statements, documents, and when two of them are equal. Pure data."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable, Mapping
from typing import Any

Statement = dict[str, Any]
Document = dict[str, Any]

MANAGED_POLICY_LIMIT = 6144
INLINE_POLICIES_LIMIT = 10240
"""Characters of a managed policy, and of all inline policies of a role together, without white space (AWS)."""


def allow(sid: str, actions: Iterable[str], resources: Iterable[str], condition: Document | None = None) -> Statement:
    statement: Statement = {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": list(resources)}
    return {**statement, "Condition": condition} if condition else statement


def document(statements: Iterable[Statement]) -> Document:
    return canonical({"Version": "2012-10-17", "Statement": list(statements)})


def size(policy: Document) -> int:
    """Characters that AWS counts: all but white space."""
    return len("".join(json.dumps(policy).split()))


def canonical(policy: Mapping[str, Any]) -> Document:
    """A policy in one of its many equal spellings: a single value is a list, and lists of names are sorted.

    AWS gives back what it was given, except S3, which rearranges it; and people write either form.
    """
    statements = policy.get("Statement", [])
    listed = [statements] if isinstance(statements, Mapping) else list(statements)
    return {**policy, "Statement": [_canonical_statement(statement) for statement in listed]}


def union(statements: Iterable[Statement]) -> Document:
    """A document that allows at least what each of ``statements`` does, and is short enough to bound roles.

    One statement for each service and condition, with all actions and all resources that go with them; what has no
    resource narrower than ``*`` is together whatever its service.
    """
    groups: dict[tuple[str, str], tuple[set[str], set[str]]] = {}
    for statement in statements:
        condition = json.dumps(statement.get("Condition"), sort_keys=True)
        for action in statement["Action"]:
            service = "*" if statement["Resource"] == ["*"] else action.partition(":")[0]
            actions, resources = groups.setdefault((service, condition), (set(), set()))
            actions.add(action)
            resources.update(statement["Resource"])
    merged: list[Statement] = []
    for (_, condition), (actions, resources) in sorted(groups.items()):
        statement = {"Effect": "Allow", "Action": sorted(actions), "Resource": _widest(resources)}
        merged.append({**statement, "Condition": json.loads(condition)} if condition != "null" else statement)
    return document(merged)


def _widest(resources: set[str]) -> list[str]:
    """Without those that another one includes."""
    return sorted(
        each for each in resources if not any(each != other and fnmatch.fnmatchcase(each, other) for other in resources)
    )


def _canonical_statement(statement: Mapping[str, Any]) -> Statement:
    plain = dict(statement)
    for key in ("Action", "NotAction", "Resource", "NotResource"):
        if key in plain:
            plain[key] = _names(plain[key])
    if isinstance(plain.get("Principal"), Mapping):
        plain["Principal"] = {key: _names(value) for key, value in plain["Principal"].items()}
    if "Condition" in plain:
        plain["Condition"] = {
            operator: {key: _names(value) for key, value in keys.items()}
            for operator, keys in plain["Condition"].items()
        }
    return plain


def _names(value: object) -> list[str]:
    listed = value if isinstance(value, (list, tuple)) else [value]
    return sorted(str(item).lower() if isinstance(item, bool) else str(item) for item in listed)
