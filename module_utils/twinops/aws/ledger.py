"""The ledger: the truth about runs, deployments and rollouts, in one DynamoDB table (docs/interfaces.md, "Ledger").

Every step of a run is one conditional write, so two actors can never both believe that they made it. A write whose
answer was lost is repeated by botocore and then fails its own condition; each method therefore reads the item once
after a failed condition and recognises its own work. Retrying a method is always safe.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, TypedDict, cast

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import BotoCoreError, ClientError

from .. import runs
from ..errors import TwinopsError
from ..runs import Claim, Run

KIND_AT_INDEX = "kind-at"


class Deployment(TypedDict, total=False):
    """What one device ended up with in one rollout. ``state``: committed, rolled_back, failed or unreachable."""

    device: str
    release: str
    release_digest: str
    model_digest: str
    git_sha: str
    state: str
    reason: str
    rollout_id: str
    valid_from: str
    """Time since when the device runs this; empty where it never came to run it."""


class Rollout(TypedDict, total=False):
    """One attempt to bring a release to the fleet. ``state``: running, completed or blocked."""

    rollout_id: str
    release: str
    release_digest: str
    git_sha: str
    state: str
    wave: str
    reason: str
    started_at: str
    ended_at: str
    devices: str
    """JSON text: device -> state."""


class LedgerError(TwinopsError):
    """The table could not be read or written, or holds something that contradicts the caller."""


class Ledger:
    """The ledger of one environment. ``client`` is a DynamoDB client."""

    def __init__(self, table: str, client: Any) -> None:
        self.table = table
        self._client = client

    # -- runs -----------------------------------------------------------------------------------------------------

    def claim(self, claim: Claim, *, dispatcher: str) -> int | None:
        """Claim a run for ``dispatcher``, a request id; its epoch, or ``None`` when somebody else has claimed it.

        A new run has epoch 1; a claim whose dispatcher gave up (:meth:`release`) is taken over at the epoch it has.
        """
        claimed_at = runs.now()
        item = {
            **claim,
            "pk": _run_key(claim["run_id"]),
            "sk": "run",
            "kind": "run",
            "at": claimed_at,
            "state": runs.CLAIMED,
            "epoch": 1,
            "claimed_at": claimed_at,
            "dispatcher": dispatcher,
        }
        if self._put(item, condition="attribute_not_exists(pk)"):
            return 1
        taken_over = self._update_run(
            claim["run_id"],
            {"dispatcher": dispatcher},
            condition="#state = :claimed AND (attribute_not_exists(dispatcher) OR dispatcher = :mine)",
            values={":claimed": runs.CLAIMED, ":mine": dispatcher},
        )
        run = self.run(claim["run_id"]) if taken_over else None
        return run["epoch"] if run else None

    def release(self, run_id: str, *, dispatcher: str) -> bool:
        """Give up ringing for a claim, so that a retry of the same event may go on with it."""
        return self._update_run(
            run_id,
            {},
            remove=("dispatcher",),
            condition="#state = :claimed AND dispatcher = :mine",
            values={":claimed": runs.CLAIMED, ":mine": dispatcher},
        )

    def reclaim(self, run: Run, *, dispatcher: str) -> int | None:
        """Fence off every earlier attempt at ``run`` by epoch + 1; the new epoch, or ``None`` if the run moved on.

        Allowed for a run that was claimed and never started, and for a lost one that is idempotent. What was said about
        the loss is forgotten: that its new attempt does not start would be something new to tell.
        """
        epoch = run["epoch"] + 1
        if run["state"] == runs.LOST and not run["idempotent"]:
            return None
        done = self._update_run(
            run["run_id"],
            {"state": runs.CLAIMED, "epoch": epoch, "dispatcher": dispatcher},
            remove=("runner", *(("alerted_at", "ended_at", "reason") if run["state"] == runs.LOST else ())),
            condition="#state IN (:claimed, :lost) AND epoch = :seen",
            values={":claimed": runs.CLAIMED, ":lost": runs.LOST, ":seen": run["epoch"]},
        )
        if done:
            return epoch
        current = self.run(run["run_id"])
        mine = current is not None and (current["epoch"], current.get("dispatcher")) == (epoch, dispatcher)
        return epoch if mine else None

    def start(self, run_id: str, epoch: int, *, runner: str, log_group: str, log_stream: str) -> Run | None:
        """``CLAIMED -> RUNNING`` for one's own epoch; ``None`` when the epoch is stale or another runner has it."""
        started_at = runs.now()
        done = self._update_run(
            run_id,
            {
                "state": runs.RUNNING,
                "runner": runner,
                "started_at": started_at,
                "heartbeat_at": started_at,
                "log_group": log_group,
                "log_stream": log_stream,
            },
            condition="#state = :claimed AND epoch = :epoch",
            values={":claimed": runs.CLAIMED, ":epoch": epoch},
        )
        run = self.run(run_id)
        return run if run and (done or _is_mine(run, epoch, runner)) else None

    def heartbeat(self, run_id: str, epoch: int, *, runner: str) -> bool:
        """Say that the run lives; false when it was taken away (LOST, or a newer epoch) and has to stop."""
        return self._update_run(
            run_id,
            {"heartbeat_at": runs.now()},
            condition="#state = :running AND epoch = :epoch AND runner = :runner",
            values={":running": runs.RUNNING, ":epoch": epoch, ":runner": runner},
        )

    def finish(self, run_id: str, epoch: int, *, runner: str, state: str, outcome: Mapping[str, Any]) -> bool:
        """``RUNNING -> state`` with the outcome (exit_code, duration_s, report_..., reason); false when fenced off."""
        if not runs.may_follow(runs.RUNNING, state):
            raise ValueError(f"run {run_id}: expected an end state, got {state}")
        done = self._update_run(
            run_id,
            {"state": state, "ended_at": runs.now(), **outcome},
            condition="#state = :running AND epoch = :epoch AND runner = :runner",
            values={":running": runs.RUNNING, ":epoch": epoch, ":runner": runner},
        )
        if done:
            return True
        run = self.run(run_id)
        return run is not None and run["state"] == state and _is_mine(run, epoch, runner)

    def lose(self, run: Run, *, reason: str) -> bool:
        """``RUNNING -> LOST`` of a run as it was seen; false when it has moved on, or lives, since.

        That is something new to tell: an alert about its start does not count for it.
        """
        return self._update_run(
            run["run_id"],
            {"state": runs.LOST, "ended_at": runs.now(), "reason": reason},
            remove=("alerted_at",),
            condition="#state = :running AND epoch = :seen AND heartbeat_at = :heard",
            values={":running": runs.RUNNING, ":seen": run["epoch"], ":heard": run["heartbeat_at"]},
        )

    def alert_once(self, run_id: str) -> bool:
        """Take the right to mail somebody about a run that does not get on; true for the first to ask."""
        return self._update_run(
            run_id,
            {"alerted_at": runs.now()},
            condition="attribute_exists(pk) AND attribute_not_exists(alerted_at)",
            values={},
        )

    def run(self, run_id: str) -> Run | None:
        """The run as it is now (consistent read), or ``None``."""
        answer = self._call(
            "get_item",
            TableName=self.table,
            Key={"pk": {"S": _run_key(run_id)}, "sk": {"S": "run"}},
            ConsistentRead=True,
        )
        return cast(Run, _plain(answer["Item"])) if "Item" in answer else None

    def runs(self, *, limit: int = 50) -> list[Run]:
        """The newest runs, newest claim first."""
        return cast("list[Run]", self._newest("run", limit))

    def unfinished(self, *, since: str) -> list[Run]:
        """Runs claimed since then that have not come to an end: CLAIMED, RUNNING or LOST; the newest first."""
        items = self._query(
            IndexName=KIND_AT_INDEX,
            KeyConditionExpression="kind = :kind AND #at >= :since",
            FilterExpression="#state IN (:claimed, :running, :lost)",
            ExpressionAttributeNames={"#at": "at", "#state": "state"},
            ExpressionAttributeValues=_typed(
                {
                    ":kind": "run",
                    ":since": since,
                    ":claimed": runs.CLAIMED,
                    ":running": runs.RUNNING,
                    ":lost": runs.LOST,
                }
            ),
            ScanIndexForward=False,
        )
        return [cast(Run, item) for item in items]

    # -- devices --------------------------------------------------------------------------------------------------

    def record_deployment(self, deployment: Deployment, *, at: str) -> None:
        """Write what happened on a device; the same ``at`` and rollout write the same item again."""
        key = {"pk": f"device#{deployment['device']}", "sk": f"{at}#{deployment['rollout_id']}"}
        self._put({**deployment, **key, "kind": "deployment", "at": at})

    def deployments(self, device: str) -> list[Deployment]:
        """Everything recorded about a device, oldest first."""
        items = self._query(
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": f"device#{device}"}},
            ConsistentRead=True,
        )
        return [cast(Deployment, item) for item in items]

    def record_rollout(self, rollout: Rollout) -> None:
        """Write the state of a rollout; one that has ended stays as it ended.

        :raises LedgerError: the rollout has ended differently before
        """
        item = {
            **rollout,
            "pk": f"rollout#{rollout['rollout_id']}",
            "sk": "rollout",
            "kind": "rollout",
            "at": rollout["started_at"],
        }
        if self._put(item, condition="attribute_not_exists(pk) OR #state = :running", values={":running": "running"}):
            return
        recorded = self.rollout(rollout["rollout_id"])
        if recorded is None or recorded["state"] != rollout["state"]:
            was = recorded["state"] if recorded else "missing"
            raise LedgerError(
                f"ledger {self.table}: rollout {rollout['rollout_id']}: expected one that is running, it is {was}; "
                "start a new rollout"
            )

    def rollout(self, rollout_id: str) -> Rollout | None:
        """One rollout (consistent read), or ``None``."""
        answer = self._call(
            "get_item",
            TableName=self.table,
            Key={"pk": {"S": f"rollout#{rollout_id}"}, "sk": {"S": "rollout"}},
            ConsistentRead=True,
        )
        return cast(Rollout, _plain(answer["Item"])) if "Item" in answer else None

    def rollouts(self, *, limit: int = 50) -> list[Rollout]:
        """The newest rollouts, newest start first."""
        return cast("list[Rollout]", self._newest("rollout", limit))

    # -- DynamoDB -------------------------------------------------------------------------------------------------

    def _put(self, item: Mapping[str, Any], *, condition: str = "", values: Mapping[str, Any] | None = None) -> bool:
        """Put an item; false when the condition does not hold."""
        request: dict[str, Any] = {"TableName": self.table, "Item": _typed(item)}
        if condition:
            request["ConditionExpression"] = condition
        if "#state" in condition:
            request["ExpressionAttributeNames"] = {"#state": "state"}
        if values:
            request["ExpressionAttributeValues"] = _typed(values)
        return self._holds("put_item", request)

    def _update_run(
        self,
        run_id: str,
        changes: Mapping[str, Any],
        *,
        condition: str,
        values: Mapping[str, Any],
        remove: tuple[str, ...] = (),
    ) -> bool:
        """Change attributes of a run in one write; false when the condition does not hold. ``None`` is left out."""
        changes = {name: new for name, new in changes.items() if new is not None}
        names = {f"#{name}": name for name in (*changes, *remove, *(("state",) if "#state" in condition else ()))}
        expression = ", ".join(f"#{name} = :new_{name}" for name in changes)
        expression = f"SET {expression}" if expression else ""
        if remove:
            expression += " REMOVE " + ", ".join(f"#{name}" for name in remove)
        request = {
            "TableName": self.table,
            "Key": {"pk": {"S": _run_key(run_id)}, "sk": {"S": "run"}},
            "UpdateExpression": expression.strip(),
            "ConditionExpression": condition,
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": _typed({**values, **{f":new_{name}": new for name, new in changes.items()}}),
        }
        return self._holds("update_item", request)

    def _holds(self, operation: str, request: Mapping[str, Any]) -> bool:
        try:
            self._call(operation, **request)
        except LedgerError as error:
            if isinstance(error.__cause__, ClientError) and _code(error.__cause__) == "ConditionalCheckFailedException":
                return False
            raise
        return True

    def _newest(self, kind: str, limit: int) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        for item in self._query(
            IndexName=KIND_AT_INDEX,
            KeyConditionExpression="kind = :kind",
            ExpressionAttributeValues={":kind": {"S": kind}},
            ScanIndexForward=False,
            Limit=limit,
        ):
            items.append(item)
            if len(items) == limit:
                break
        return items

    def _query(self, **request: Any) -> Iterator[dict[str, Any]]:
        while True:
            answer = self._call("query", TableName=self.table, **request)
            yield from map(_plain, answer["Items"])
            if "LastEvaluatedKey" not in answer:
                return
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def _call(self, operation: str, **request: Any) -> Any:
        try:
            return getattr(self._client, operation)(**request)
        except ClientError as error:
            message = error.response["Error"].get("Message", "")
            raise LedgerError(f"ledger {self.table}: {operation}: {_code(error)}: {message}") from error
        except BotoCoreError as error:
            raise LedgerError(f"ledger {self.table}: {operation}: {error}") from error


def _run_key(run_id: str) -> str:
    return f"run#{run_id}"


def _is_mine(run: Run, epoch: int, runner: str) -> bool:
    return (run["epoch"], run.get("runner")) == (epoch, runner)


def _code(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])


_INDEX_ATTRIBUTES = ("pk", "sk", "kind", "at")


def _typed(item: Mapping[str, Any]) -> dict[str, Any]:
    serialize = TypeSerializer().serialize
    return {
        name: serialize(Decimal(repr(value)) if isinstance(value, float) else value)
        for name, value in item.items()
        if value is not None
    }


def _plain(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item as plain JSON: keys of the table left out, numbers as int or float."""
    deserialize = TypeDeserializer().deserialize
    plain = {name: deserialize(value) for name, value in item.items() if name not in _INDEX_ATTRIBUTES}
    return {name: _number(value) if isinstance(value, Decimal) else value for name, value in plain.items()}


def _number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)
