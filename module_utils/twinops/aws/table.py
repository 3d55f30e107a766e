"""One DynamoDB table, as plain dicts: conditional writes that say whether they happened, and reads that page.

A condition that does not hold is an answer (``False``, ``None``), everything else that goes wrong a LedgerError.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ..errors import TwinopsError

KIND_AT_INDEX = "kind-at"
_INDEX_ATTRIBUTES = ("pk", "sk", "kind", "at")


class LedgerError(TwinopsError):
    """The table could not be read or written, or holds something that contradicts the caller."""


class Table:
    """A table with the key ``pk`` + ``sk``. ``client`` is a DynamoDB client."""

    def __init__(self, name: str, client: Any) -> None:
        self.name = name
        self._client = client

    def get(self, pk: str, sk: str) -> dict[str, Any] | None:
        """An item (consistent read), or ``None``."""
        answer = self._call("get_item", TableName=self.name, Key=_key(pk, sk), ConsistentRead=True)
        return _plain(answer["Item"]) if "Item" in answer else None

    def put(self, item: Mapping[str, Any], *, condition: str = "", values: Mapping[str, Any] | None = None) -> bool:
        """Put an item; false when the condition does not hold."""
        request: dict[str, Any] = {"TableName": self.name, "Item": _typed(item)}
        if condition:
            request["ConditionExpression"] = condition
        if "#state" in condition:
            request["ExpressionAttributeNames"] = {"#state": "state"}
        if values:
            request["ExpressionAttributeValues"] = _typed(values)
        return self._unless_refused("put_item", request) is not None

    def change(
        self,
        key: tuple[str, str],
        changes: Mapping[str, Any],
        *,
        condition: str,
        values: Mapping[str, Any],
        remove: tuple[str, ...] = (),
    ) -> dict[str, Any] | None:
        """Set and remove attributes in one write; the item after it, or ``None`` when the condition does not hold.

        A change to ``None`` is left out. ``#state`` stands for the attribute of that name, which DynamoDB reserves.
        """
        changes = {name: new for name, new in changes.items() if new is not None}
        names = {f"#{name}": name for name in (*changes, *remove, *(("state",) if "#state" in condition else ()))}
        expression = ", ".join(f"#{name} = :new_{name}" for name in changes)
        expression = f"SET {expression}" if expression else ""
        if remove:
            expression += " REMOVE " + ", ".join(f"#{name}" for name in remove)
        values = {**values, **{f":new_{name}": new for name, new in changes.items()}}
        return self.update(key, expression.strip(), condition=condition, values=values, names=names)

    def update(
        self,
        key: tuple[str, str],
        expression: str,
        *,
        condition: str = "",
        values: Mapping[str, Any],
        names: Mapping[str, str],
    ) -> dict[str, Any] | None:
        """Any update expression; the item after it, or ``None`` when the condition does not hold."""
        request = {
            "TableName": self.name,
            "Key": _key(*key),
            "UpdateExpression": expression,
            "ReturnValues": "ALL_NEW",
        }
        if condition:
            request["ConditionExpression"] = condition
        if names:
            request["ExpressionAttributeNames"] = dict(names)
        if values:
            request["ExpressionAttributeValues"] = _typed(values)
        answer = self._unless_refused("update_item", request)
        return None if answer is None else _plain(answer["Attributes"])

    def query(self, **request: Any) -> Iterator[dict[str, Any]]:
        """The items of a query, page after page; ``ExpressionAttributeValues`` are plain."""
        request["ExpressionAttributeValues"] = _typed(request["ExpressionAttributeValues"])
        while True:
            answer = self._call("query", TableName=self.name, **request)
            yield from map(_plain, answer["Items"])
            if "LastEvaluatedKey" not in answer:
                return
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def _unless_refused(self, operation: str, request: Mapping[str, Any]) -> Any:
        try:
            return self._call(operation, **request)
        except LedgerError as error:
            if isinstance(error.__cause__, ClientError) and _code(error.__cause__) == "ConditionalCheckFailedException":
                return None
            raise

    def _call(self, operation: str, **request: Any) -> Any:
        try:
            return getattr(self._client, operation)(**request)
        except ClientError as error:
            message = error.response["Error"].get("Message", "")
            raise LedgerError(f"ledger {self.name}: {operation}: {_code(error)}: {message}") from error
        except BotoCoreError as error:
            raise LedgerError(f"ledger {self.name}: {operation}: {error}") from error


def _key(pk: str, sk: str) -> dict[str, dict[str, str]]:
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def _code(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])


def _typed(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _serialized(value) for name, value in item.items() if value is not None}


def _plain(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item as plain JSON: keys of the table left out, numbers as int or float."""
    return {name: _deserialized(value) for name, value in item.items() if name not in _INDEX_ATTRIBUTES}


def _serialized(value: Any) -> dict[str, Any]:
    """A value in DynamoDB's JSON. boto3 has this as well; importing it for that costs each run a tenth of a second."""
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, (int, float)):
        return {"N": repr(value)}
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, (list, tuple)):
        return {"L": [_serialized(each) for each in value]}
    raise TypeError(f"ledger: expected text, a number, a truth value or a list, got {value!r}")


def _deserialized(typed: Mapping[str, Any]) -> Any:
    ((kind, value),) = typed.items()
    if kind == "N":
        number = Decimal(value)
        return int(number) if number == number.to_integral_value() else float(number)
    return [_deserialized(each) for each in value] if kind == "L" else value
