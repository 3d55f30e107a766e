"""Who may do what: roles and their policies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from twinops.edge import alarms
from twinops.errors import SpecError
from twinops.resources import Role

from tests.unit.desired.support import part

PLANT = {"name": "plant", "type": "redshift", "cluster": "plant", "database": "plant", "db_user": "twinops"}


def roles(**options: Any) -> dict[str, Role]:
    return {each.name: each for each in part("env", {"data_sources": [PLANT], **options}) if isinstance(each, Role)}


def statements() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, role in roles().items():
        for policy in role.policies.values():
            for statement in policy["Statement"]:
                yield f"{name}: {statement['Sid']}", statement


@pytest.mark.parametrize(("where", "statement"), list(statements()))
def test_no_policy_allows_everything(where: str, statement: dict[str, Any]) -> None:
    assert not [action for action in statement["Action"] if "*" in action], where
    if statement["Resource"] == ["*"]:
        assert statement["Condition"], f"{where}: * without a condition"
    for resource in statement["Resource"]:
        belongs_to_us = "twinops-staging-" in resource or "/twinops/staging/" in resource
        is_tagged = "aws:ResourceTag/twinops:environment" in statement.get("Condition", {}).get("StringEquals", {})
        is_shared = resource == "*" or ":redshift:" in resource or resource.endswith("event-bus/default")
        assert belongs_to_us or is_tagged or is_shared, f"{where}: {resource} is not scoped by the environment's name"


def test_a_device_may_only_store_decisions_and_facts_raise_alarms_and_read_releases() -> None:
    policies = roles()["twinops-staging-device"].policies
    store, report, alarm, pull, encrypt = policies["twinops-staging-device"]["Statement"]
    assert store["Action"] == ["s3:PutObject"]
    assert store["Resource"] == ["arn:aws:s3:::twinops-staging-data-111122223333/decisions/*"]
    assert report["Action"] == ["s3:PutObject"]
    assert report["Resource"] == ["arn:aws:s3:::twinops-staging-data-111122223333/facts/*"]
    assert alarm["Action"] == ["events:PutEvents"]
    named = {"events:source": [alarms.SOURCE], "events:detail-type": [alarms.DETAIL_TYPE]}
    assert alarm["Condition"] == {"StringEquals": named}
    assert pull["Action"] == ["s3:GetObject"]
    assert pull["Resource"] == ["arn:aws:s3:::twinops-staging-models-111122223333/tuf/*"]
    asked_for_by_s3 = ["kms:Decrypt", "kms:GenerateDataKey"]  # where a bucket is encrypted by KMS
    assert encrypt["Action"] == asked_for_by_s3
    assert encrypt["Condition"]["StringEquals"]["kms:ViaService"] == ["s3.eu-central-1.amazonaws.com"]


def test_people_named_in_the_spec_may_assume_the_mlops_role() -> None:
    mlops = roles(trusted_principals=["arn:aws:iam::1:role/developers"])["twinops-staging-mlops"]
    (statement,) = mlops.trust["Statement"]
    assert statement["Principal"] == {"AWS": ["arn:aws:iam::1:role/developers"]}


def test_the_tools_account_has_to_give_its_identifier() -> None:
    tools = {"role_arn": "arn:aws:iam::444455556666:role/twinops-staging-mlops", "external_id": "made up"}
    mlops = roles(trusted_principals=["arn:aws:iam::1:role/developers"], tools=tools)["twinops-staging-mlops"]
    people, other_account = mlops.trust["Statement"]
    assert "Condition" not in people
    assert other_account["Principal"] == {"AWS": [tools["role_arn"]]}
    assert other_account["Condition"] == {"StringEquals": {"sts:ExternalId": ["made up"]}}


def test_the_tools_account_may_assume_exactly_the_roles_that_are_named() -> None:
    target = "arn:aws:iam::444455556666:role/twinops-production-mlops"
    allowed = [
        statement["Resource"]
        for role in (roles(targets=[target])["twinops-staging-mlops"], roles()["twinops-staging-mlops"])
        for statement in role.policies["twinops-staging-mlops"]["Statement"]
        if statement["Action"] == ["sts:AssumeRole"]
    ]
    assert allowed == [[target]]


def test_every_role_is_bounded_and_only_twins_read_data() -> None:
    for name, role in roles().items():
        assert role.boundary == "arn:aws:iam::111122223333:policy/twinops-staging-boundary", name
        is_twin = name.endswith("-twin")
        assert role.attached == (("arn:aws:iam::111122223333:policy/twinops-staging-data-access",) if is_twin else ())


def test_only_people_choose_how_long_they_stay() -> None:
    found = {name: role.session_s for name, role in roles(session_s=7200).items()}
    assert {name for name, session_s in found.items() if session_s == 7200} == {"twinops-staging-mlops"}
    with pytest.raises(SpecError, match="env: session_s: expected 3600–43200, got 43201"):
        roles(session_s=43201)


def test_what_the_development_twin_makes_must_be_ours() -> None:
    """Every action that makes or changes something names our tag, except on layers and items, which have none."""
    document = roles()["twinops-staging-development-twin"].policies["twinops-staging-development-twin"]
    changing = ("Add", "Create", "Delete", "Disable", "Enable", "Put", "Remove", "Tag", "Update", "Publish", "Pass")
    untagged = {
        action
        for statement in document["Statement"]
        for action in statement["Action"]
        if action.partition(":")[2].startswith(changing) and "/twinops:environment" not in json.dumps(statement)
    }
    layers = {"lambda:PublishLayerVersion", "lambda:DeleteLayerVersion"}
    assert untagged == {*layers, "iam:PassRole", "events:PutEvents", "dynamodb:UpdateItem"}
