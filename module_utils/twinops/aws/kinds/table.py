"""DynamoDB tables whose keys are strings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, cast

from ...plan import Change, Observed
from ...resources import Table
from ..owned import tags as tags_of
from ..session import Aws, absent_as_none, until, until_accepted
from .tags import as_pairs, from_pairs

SERVICES = ("dynamodb",)
WORKERS = 4
READ_BACK = False

_MISSING = "ResourceNotFoundException"
_CHANGE_TIMEOUT_S = 300
_KEY_TYPES = ("HASH", "RANGE")


def observe(aws: Aws, names: Collection[str]) -> dict[str, Observed]:
    return aws.found(lambda name: _observe(aws, name), names)


def _observe(aws: Aws, name: str) -> Observed | None:
    dynamodb = aws.client("dynamodb")
    answer = absent_as_none(dynamodb.describe_table, _MISSING, TableName=name)
    if answer is None:
        return None
    table = answer["Table"]
    backups = dynamodb.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    recovery = backups.get("PointInTimeRecoveryDescription", {}).get("PointInTimeRecoveryStatus")
    return Observed(
        Table(
            name=name,
            tags=tags_of(aws, table["TableArn"], lambda: _tags(dynamodb, table["TableArn"])),
            key=_key(table["KeySchema"]),
            indexes={
                index["IndexName"]: _key(index["KeySchema"])
                for index in table.get("GlobalSecondaryIndexes", [])
                if index.get("IndexStatus") != "DELETING"
            },
            billing=table.get("BillingModeSummary", {}).get("BillingMode", "PROVISIONED"),
            point_in_time_recovery=recovery == "ENABLED",
        ),
        handles={"arn": table["TableArn"]},
    )


def create(aws: Aws, change: Change) -> None:
    dynamodb, table = aws.client("dynamodb"), cast(Table, change.desired)
    dynamodb.create_table(
        TableName=table.name,
        AttributeDefinitions=_attributes(table.key, *table.indexes.values()),
        KeySchema=_schema(table.key),
        GlobalSecondaryIndexes=[_index(name, key) for name, key in table.indexes.items()],
        BillingMode=table.billing,
        Tags=as_pairs(table.tags),
    )
    until(_is_active(dynamodb, table.name), f"table {table.name}: ACTIVE", _CHANGE_TIMEOUT_S)
    _set_recovery(dynamodb, table)


def update(aws: Aws, change: Change) -> None:
    dynamodb, table = aws.client("dynamodb"), cast(Table, change.desired)
    observed = cast(Observed, change.observed)
    # An interrupted creation leaves a table that is not ACTIVE yet and takes no changes.
    until(_is_active(dynamodb, table.name), f"table {table.name}: ACTIVE", _CHANGE_TIMEOUT_S)
    if "billing" in change.fields:
        dynamodb.update_table(TableName=table.name, BillingMode=table.billing)
        until(_is_active(dynamodb, table.name), f"table {table.name}: {table.billing}", _CHANGE_TIMEOUT_S)
    if "indexes" in change.fields:
        _replace_indexes(dynamodb, table, cast(Table, observed.resource).indexes)
    if "point_in_time_recovery" in change.fields:
        _set_recovery(dynamodb, table)
    if "tags" in change.fields:
        dynamodb.tag_resource(ResourceArn=observed.handles["arn"], Tags=as_pairs(table.tags))


def delete(aws: Aws, change: Change) -> None:
    dynamodb = aws.client("dynamodb")
    absent_as_none(dynamodb.delete_table, _MISSING, TableName=change.name)
    until(
        lambda: absent_as_none(dynamodb.describe_table, _MISSING, TableName=change.name) is None,
        f"table {change.name}: deleted",
        _CHANGE_TIMEOUT_S,
    )


def _replace_indexes(dynamodb: Any, table: Table, current: Mapping[str, Sequence[str]]) -> None:
    """One index at a time, as DynamoDB wants it."""
    updates = [
        {"Delete": {"IndexName": name}} for name, key in current.items() if table.indexes.get(name) != tuple(key)
    ] + [{"Create": _index(name, key)} for name, key in table.indexes.items() if current.get(name) != key]
    for step in updates:
        dynamodb.update_table(
            TableName=table.name,
            AttributeDefinitions=_attributes(table.key, *table.indexes.values()),
            GlobalSecondaryIndexUpdates=[step],
        )
        until(_is_active(dynamodb, table.name), f"table {table.name}: index {step}", _CHANGE_TIMEOUT_S)


def _set_recovery(dynamodb: Any, table: Table) -> None:
    specification = {"PointInTimeRecoveryEnabled": table.point_in_time_recovery}
    until_accepted(
        lambda: dynamodb.update_continuous_backups(
            TableName=table.name, PointInTimeRecoverySpecification=specification
        ),
        ("ContinuousBackupsUnavailable",),  # for some seconds after the table became ACTIVE
    )


def _is_active(dynamodb: Any, name: str) -> Callable[[], bool]:
    def check() -> bool:
        table = dynamodb.describe_table(TableName=name)["Table"]
        indexes = table.get("GlobalSecondaryIndexes", [])
        return table["TableStatus"] == "ACTIVE" and all(index["IndexStatus"] == "ACTIVE" for index in indexes)

    return check


def _tags(dynamodb: Any, arn: str) -> dict[str, str]:
    return from_pairs(dynamodb.list_tags_of_resource(ResourceArn=arn).get("Tags", []))


def _key(schema: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    in_order = sorted(schema, key=lambda part: _KEY_TYPES.index(part["KeyType"]))
    return tuple(part["AttributeName"] for part in in_order)


def _schema(key: Sequence[str]) -> list[dict[str, str]]:
    return [{"AttributeName": name, "KeyType": part} for name, part in zip(key, _KEY_TYPES)]


def _index(name: str, key: Sequence[str]) -> dict[str, Any]:
    return {"IndexName": name, "KeySchema": _schema(key), "Projection": {"ProjectionType": "ALL"}}


def _attributes(*keys: Sequence[str]) -> list[dict[str, str]]:
    names = sorted({name for key in keys for name in key})
    return [{"AttributeName": name, "AttributeType": "S"} for name in names]
