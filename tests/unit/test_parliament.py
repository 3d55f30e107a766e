"""Every policy as parliament, a linter of IAM policies with AWS's own list of actions and resources, sees it."""

from __future__ import annotations

import functools
import importlib
import json
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from twinops import data_sources, deploy_policies, iam, policies
from twinops.resources import Scope

SCOPE = Scope("production", "111122223333", "eu-central-1")
TARGETS = ["arn:aws:iam::444455556666:role/twinops-staging-mlops"]
SOURCES = data_sources.parse(
    [
        {"name": "plant", "type": "redshift", "cluster": "plant", "database": "plant", "db_user": "twinops"},
        {"name": "serverless", "type": "redshift", "workgroup": "wg", "workgroup_id": "0a1b-2c", "database": "plant"},
        {"name": "sensors", "type": "dynamodb", "table": "sensors"},
        {"name": "by_time", "type": "dynamodb", "table": "sensors", "index": "by-time"},
        {"name": "archive", "type": "s3", "bucket": "plant-archive", "prefix": "labels/"},
        {"name": "lake", "type": "s3", "bucket": "plant-lake"},
    ]
)
IDENTITY: dict[str, iam.Document] = {
    **policies.of_roles(SCOPE, TARGETS),
    "boundary": policies.boundary(SCOPE, SOURCES, TARGETS),
    "data-access": policies.data_access(SCOPE, SOURCES),
    **{f"deploy-{part}": document for part, document in deploy_policies.by_part(SCOPE).items()},
}
OF_RESOURCES: dict[str, iam.Document] = {
    "bucket": policies.tls_only(SCOPE.partition, SCOPE.names.bucket("data")),
    "dead letters": policies.dead_letters(SCOPE),
    "topic": policies.topic(SCOPE),
}
# Not here, as parliament takes them for something else: who may assume a role (it names no resource), and the policy of
# the key (in which * is the key).
ALL = {**IDENTITY, **OF_RESOURCES}


@functools.cache
def parliament() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it still uses pkg_resources, which warns
        return importlib.import_module("parliament")


def plain(value: Any) -> Any:
    """The same policy with single values outside of lists: parliament trips over some lists."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return plain(value[0]) if len(value) == 1 and isinstance(value[0], str) else [plain(inner) for inner in value]
    return value


def findings(document: iam.Document) -> list[str]:
    found = parliament().analyze_policy_string(json.dumps(plain(document))).findings
    return [f"{each.issue}: {each.detail} {each.location}" for each in found]


# docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutCompositeAlarm.html (and of the other two): the
# permission must be "scoped to *", with a narrower one composite alarms are refused or left out.
WIDE_FOR_COMPOSITE_ALARMS = ("cloudwatch:DeleteAlarms", "cloudwatch:DescribeAlarms", "cloudwatch:PutCompositeAlarm")


@pytest.mark.parametrize("name", ALL)
def test_no_finding(name: str) -> None:
    explained = f"RESOURCE_STAR: {list(WIDE_FOR_COMPOSITE_ALARMS)}"
    assert [finding for finding in findings(ALL[name]) if not finding.startswith(explained)] == []


def test_a_mistake_would_be_found() -> None:
    wrong = iam.document([iam.allow("Wrong", ["s3:GetObjects"], ["*"])])
    assert any("UNKNOWN_ACTION" in finding for finding in findings(wrong))


def actions_on_everything() -> Iterator[tuple[str, str]]:
    for name, document in IDENTITY.items():
        for statement in document["Statement"]:
            if "*" in statement["Resource"]:
                yield from ((name, action) for action in statement["Action"])


@pytest.mark.parametrize(("name", "action"), sorted(set(actions_on_everything())))
def test_everything_is_only_named_where_aws_has_nothing_narrower(name: str, action: str) -> None:
    service, _, privilege = action.partition(":")
    known = [
        each
        for definition in parliament().iam_definition
        if definition["prefix"] == service
        for each in definition["privileges"]
        if each["privilege"] == privilege
    ]
    assert known, f"{action}: AWS knows no such action"
    if action in WIDE_FOR_COMPOSITE_ALARMS:
        return
    assert not [kind["resource_type"] for each in known for kind in each["resource_types"] if kind["resource_type"]]


@pytest.mark.parametrize("name", IDENTITY)
def test_no_action_has_a_wildcard(name: str) -> None:
    actions = [action for statement in IDENTITY[name]["Statement"] for action in statement["Action"]]
    assert [action for action in actions if "*" in action] == []


@pytest.mark.parametrize("name", [name for name in IDENTITY if not name.startswith(("deploy", "boundary"))])
def test_what_is_not_the_environments_is_named_in_the_spec_or_shared(name: str) -> None:
    declared = [resource for each in data_sources.statements(SCOPE, SOURCES) for resource in each["Resource"]]
    told_by_tags = [statement for statement in IDENTITY[name]["Statement"] if "ResourceTag" in json.dumps(statement)]
    by_name = [statement for statement in IDENTITY[name]["Statement"] if statement not in told_by_tags]
    for resource in (resource for statement in by_name for resource in statement["Resource"]):
        is_ours = "twinops-production-" in resource or "/twinops/production/" in resource
        assert is_ours or resource in [*declared, *TARGETS, "*"] or resource.endswith("event-bus/default"), resource


def test_sizes_are_within_aws_limits() -> None:
    managed = {name: iam.size(document) for name, document in IDENTITY.items() if name not in policies.DESCRIPTIONS}
    inline = {name: iam.size(document) for name, document in policies.of_roles(SCOPE, TARGETS).items()}
    assert {name: length for name, length in managed.items() if length > iam.MANAGED_POLICY_LIMIT} == {}
    assert {name: length for name, length in inline.items() if length > iam.INLINE_POLICIES_LIMIT} == {}


def test_sids_of_the_deploy_role_are_unique() -> None:
    documents = deploy_policies.by_part(SCOPE).values()
    sids = [statement["Sid"] for document in documents for statement in document["Statement"]]
    assert len(sids) == len(set(sids))
