"""Who may do what: roles and their policies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
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


def test_a_device_may_only_store_decisions() -> None:
    store, encrypt = roles()["twinops-staging-device"].policies["twinops-staging-device"]["Statement"]
    assert store["Action"] == ["s3:PutObject"]
    assert store["Resource"] == ["arn:aws:s3:::twinops-staging-data-111122223333/decisions/*"]
    assert encrypt["Action"] == ["kms:GenerateDataKey"], "which S3 asks for, where the bucket is encrypted by KMS"
    assert encrypt["Condition"]["StringEquals"]["kms:ViaService"] == ["s3.eu-central-1.amazonaws.com"]


def test_people_named_in_the_spec_may_assume_the_mlops_role() -> None:
    mlops = roles(trusted_principals=["arn:aws:iam::1:role/developers"])["twinops-staging-mlops"]
    (statement,) = mlops.trust["Statement"]
    assert statement["Principal"] == {"AWS": ["arn:aws:iam::1:role/developers"]}
