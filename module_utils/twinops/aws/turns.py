"""Whose turn it is: a workflow that does not allow runs beside each other has one item, the run at work and a queue.

Both are in one item, so that each step is one conditional write and the order is that of arrival: nobody can come
between a run that ends and the first that waits. There is no queue without a holder. Every step may be repeated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from .. import runs
from ..runs import Turn
from .table import KIND_AT_INDEX, Table

_SORT = "turn"
_QUEUE = {"#queue": "queue"}


class Turns:
    """The turns of one environment's workflows."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def take(self, workflow: str, run_id: str) -> bool:
        """Take a free turn; also true for the run that has it already."""
        changes = {"holder": run_id, "workflow": workflow, "kind": _SORT, "at": runs.now()}
        taken = self._table.change(
            _key(workflow),
            changes,
            condition="attribute_not_exists(holder) OR holder = :me",
            values={":me": run_id},
        )
        return taken is not None

    def queue_up(self, workflow: str, run_id: str) -> bool:
        """Wait behind all others; false when the turn is free, or one's own, by now: take it."""
        added = self._update(
            workflow,
            "SET #queue = list_append(if_not_exists(#queue, :empty), :one)",
            condition="attribute_exists(holder) AND holder <> :me AND NOT contains(#queue, :me)",
            values={":me": run_id, ":one": [run_id], ":empty": []},
        )
        return added is not None or run_id in self.turn(workflow).get("queue", [])

    def pass_on(self, workflow: str, run_id: str) -> str | None:
        """End one's own turn; the run that has it now, or ``None`` when nobody waits or the turn was not one's own."""
        freed = self._update(
            workflow,
            "REMOVE holder",
            condition="holder = :me AND (attribute_not_exists(#queue) OR size(#queue) = :none)",
            values={":me": run_id, ":none": 0},
        )
        if freed is not None:
            return None
        passed = self._update(
            workflow,
            "SET holder = #queue[0] REMOVE #queue[0]",
            condition="holder = :me AND size(#queue) > :none",
            values={":me": run_id, ":none": 0},
        )
        return None if passed is None else str(passed["holder"])

    def leave(self, workflow: str, run_id: str) -> None:
        """Wait no longer."""
        while run_id in (queue := self.turn(workflow).get("queue", [])):
            place = f"#queue[{queue.index(run_id)}]"
            self._update(workflow, f"REMOVE {place}", condition=f"{place} = :me", values={":me": run_id})

    def turn(self, workflow: str) -> Turn:
        """The workflow's item as it is now; empty if no run of it ever needed a turn."""
        return cast(Turn, self._table.get(*_key(workflow)) or {})

    def held(self) -> Iterator[Turn]:
        """All turns that somebody has."""
        items = self._table.query(
            IndexName=KIND_AT_INDEX,
            KeyConditionExpression="kind = :kind",
            FilterExpression="attribute_exists(holder)",
            ExpressionAttributeValues={":kind": _SORT},
        )
        return (cast(Turn, item) for item in items)

    def _update(self, workflow: str, expression: str, *, condition: str, values: dict[str, Any]) -> Any:
        return self._table.update(_key(workflow), expression, condition=condition, values=values, names=_QUEUE)


def _key(workflow: str) -> tuple[str, str]:
    return (f"workflow#{workflow}", _SORT)
