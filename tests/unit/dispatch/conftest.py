"""A ledger in a real table."""

from __future__ import annotations

import uuid

import pytest
from twinops.aws.clients import client
from twinops.aws.ledger import Ledger

from tests.unit.endpoint import _endpoint_url, endpoint  # noqa: F401


def key(partition: str, sort: str) -> list[dict[str, str]]:
    return [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]


@pytest.fixture
def ledger(endpoint: str) -> Ledger:  # noqa: F811
    """An empty ledger of this test."""
    dynamodb = client("dynamodb")
    table = f"ledger-{uuid.uuid4().hex[:8]}"
    dynamodb.create_table(
        TableName=table,
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk", "kind", "at")],
        KeySchema=key("pk", "sk"),
        GlobalSecondaryIndexes=[
            {
                "IndexName": "kind-at",
                "KeySchema": [
                    {"AttributeName": "kind", "KeyType": "HASH"},
                    {"AttributeName": "at", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    return Ledger(table, dynamodb)
