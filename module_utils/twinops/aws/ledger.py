"""The ledger: the truth about runs, deployments and rollouts, in one DynamoDB table (docs/interfaces.md, "Ledger").

Every step of a run is one conditional write, so two actors can never both believe that they made it. A write whose
answer was lost is repeated by botocore and then fails its own condition; each method therefore reads the item once
after a failed condition and recognises its own work. Retrying a method is always safe.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, TypedDict, cast

from .. import runs
from ..runs import Claim, Run
from .table import KIND_AT_INDEX, LedgerError, Table
from .turns import Turns

__all__ = ["Deployment", "Ledger", "LedgerError", "Rollout"]


class Deployment(TypedDict, total=False):
    """What happened to one release on one device. ``state``: committed, rolled_back, failed or unreachable."""

    device: str
    release: str
    release_digest: str
    model_digest: str
    git_sha: str
    data_version: str
    state: str
    reason: str
    rollout_id: str
    valid_from: str
    """When it happened, by the device's clock; empty where the device has told no time."""
    recorded_at: str
    """When the ledger learnt it."""


class Rollout(TypedDict, total=False):
    """One attempt to bring a release to the fleet. ``state``: running, completed or blocked."""

    rollout_id: str
    release: str
    release_digest: str
    model_digest: str
    git_sha: str
    data_version: str
    state: str
    wave: str
    reason: str
    started_at: str
    ended_at: str
    devices: str
    """JSON text: device -> state."""
    unannounced: bool
    """There from its end until the event "Rollout finished" was put."""
    event_id: str
    """Of that event; the runs that it has started name it."""


class Ledger:
    """The ledger of one environment. ``client`` is a DynamoDB client."""

    def __init__(self, table: str, client: Any) -> None:
        self.table = table
        self._table = Table(table, client)
        self.turns = Turns(self._table)

    # -- runs: claimed --------------------------------------------------------------------------------------------

    def claim(self, claim: Claim, *, dispatcher: str) -> int | None:
        """Claim a run for ``dispatcher``, a request id; its epoch, or ``None`` when somebody else has claimed it.

        A new run has epoch 1; a claim whose dispatcher gave up (:meth:`release`) is taken over at the epoch it has.
        """
        claimed_at = runs.now()
        pk, sk = _run_key(claim["run_id"])
        item = {
            **claim,
            "pk": pk,
            "sk": sk,
            "kind": "run",
            "at": claimed_at,
            "state": runs.CLAIMED,
            "epoch": 1,
            "claimed_at": claimed_at,
            "dispatcher": dispatcher,
        }
        if self._table.put(item, condition="attribute_not_exists(pk)"):
            return 1
        taken_over = self._change_run(
            claim["run_id"],
            {"dispatcher": dispatcher},
            condition="#state = :claimed AND (attribute_not_exists(dispatcher) OR dispatcher = :mine)",
            values={":claimed": runs.CLAIMED, ":mine": dispatcher},
        )
        return taken_over["epoch"] if taken_over else None

    def admit(self, run: Claim, *, dispatcher: str) -> str:
        """Whether a run that ``dispatcher`` has claimed may start now: ADMITTED, or what became of it instead.

        A run of a workflow that forbids another one beside it is SKIPPED, one that queues is QUEUED.
        """
        workflow, run_id, concurrency = run["workflow"], run["run_id"], run["concurrency"]
        while not (concurrency == runs.ALLOW or self.turns.take(workflow, run_id)):
            if concurrency == runs.FORBID:
                self._skip(workflow, run_id, dispatcher)
                return runs.SKIPPED
            if self.turns.queue_up(workflow, run_id):
                return self._wait(workflow, run_id, dispatcher)
        return runs.ADMITTED

    def _skip(self, workflow: str, run_id: str, dispatcher: str) -> None:
        holder = self.turns.turn(workflow).get("holder", "another run")
        self._change_run(
            run_id,
            {
                "state": runs.SKIPPED,
                "ended_at": runs.now(),
                "reason": f"run {holder} was at work (concurrency: forbid)",
            },
            condition="#state = :claimed AND dispatcher = :mine",
            values={":claimed": runs.CLAIMED, ":mine": dispatcher},
        )

    def _wait(self, workflow: str, run_id: str, dispatcher: str) -> str:
        """``CLAIMED -> QUEUED``, and back if its turn came in the moment between: then nobody else would start it."""
        self._change_run(
            run_id,
            {"state": runs.QUEUED},
            remove=("dispatcher",),
            condition="#state = :claimed AND dispatcher = :mine",
            values={":claimed": runs.CLAIMED, ":mine": dispatcher},
        )
        if self.turns.turn(workflow).get("holder") == run_id and self.call_up(run_id, dispatcher=dispatcher):
            return runs.ADMITTED
        return runs.QUEUED

    def call_up(self, run_id: str, *, dispatcher: str) -> Run | None:
        """``QUEUED -> CLAIMED`` for the run whose turn it is now; ``None`` when somebody else did that."""
        return self._change_run(
            run_id,
            {"state": runs.CLAIMED, "dispatcher": dispatcher, "called_at": runs.now()},
            condition="#state = :queued",
            values={":queued": runs.QUEUED},
        )

    def end_turn(self, run: Claim, *, dispatcher: str) -> Run | None:
        """:meth:`pass_turn` of a run that has ended, if runs of its workflow take turns."""
        if run["concurrency"] == runs.ALLOW:
            return None
        return self.pass_turn(run["workflow"], run["run_id"], dispatcher=dispatcher)

    def pass_turn(self, workflow: str, run_id: str, *, dispatcher: str) -> Run | None:
        """Let the next run have the turn of ``run_id``; that run, claimed for ``dispatcher``, who starts it."""
        while following := self.turns.pass_on(workflow, run_id):
            if called := self.call_up(following, dispatcher=dispatcher):
                return called
            run = self.run(following)
            if run and run["state"] not in runs.FINISHED:
                return None  # whoever claimed it a moment ago starts it
            run_id = following
        return None

    def release(self, run_id: str, *, dispatcher: str) -> bool:
        """Give up ringing for a claim, so that a retry of the same event may go on with it."""
        released = self._change_run(
            run_id,
            {},
            remove=("dispatcher",),
            condition="#state = :claimed AND dispatcher = :mine",
            values={":claimed": runs.CLAIMED, ":mine": dispatcher},
        )
        return released is not None

    def reclaim(self, run: Run, *, dispatcher: str) -> int | None:
        """Fence off every earlier attempt at ``run`` by epoch + 1; the new epoch, or ``None`` if the run moved on.

        Allowed for a run that was claimed and never started, for one that was called up and never started, and for a
        lost one that is idempotent.
        """
        epoch = run["epoch"] + 1
        if run["state"] == runs.LOST and not run["idempotent"]:
            return None
        done = self._change_run(
            run["run_id"],
            {"state": runs.CLAIMED, "epoch": epoch, "dispatcher": dispatcher},
            remove=("runner", *(("ended_at", "reason", "unmailed") if run["state"] == runs.LOST else ())),
            condition="#state IN (:claimed, :queued, :lost) AND epoch = :seen",
            values={":claimed": runs.CLAIMED, ":queued": runs.QUEUED, ":lost": runs.LOST, ":seen": run["epoch"]},
        )
        if done:
            return epoch
        current = self.run(run["run_id"])
        mine = current is not None and (current["epoch"], current.get("dispatcher")) == (epoch, dispatcher)
        return epoch if mine else None

    def give_up(self, run: Run, *, reason: str) -> Run | None:
        """``CLAIMED -> FAILED`` of a run as it was seen, that nobody could start; ``None`` when it has moved on."""
        why = f"it could not be started: {reason}"
        return self._change_run(
            run["run_id"],
            {"state": runs.FAILED, "ended_at": runs.now(), "reason": why, "unmailed": True},
            condition="#state = :claimed AND epoch = :seen",
            values={":claimed": runs.CLAIMED, ":seen": run["epoch"]},
        )

    # -- runs: at work --------------------------------------------------------------------------------------------

    def start(self, run_id: str, epoch: int, *, runner: str, log_stream: str) -> Run | None:
        """``CLAIMED -> RUNNING`` for one's own epoch; ``None`` when the epoch is stale or another runner has it."""
        started_at = runs.now()
        started = self._change_run(
            run_id,
            {
                "state": runs.RUNNING,
                "runner": runner,
                "started_at": started_at,
                "heartbeat_at": started_at,
                "log_stream": log_stream,
            },
            remove=("reason",),
            condition="#state = :claimed AND epoch = :epoch",
            values={":claimed": runs.CLAIMED, ":epoch": epoch},
        )
        if started:
            return started
        run = self.run(run_id)
        return run if run and _is_mine(run, epoch, runner) else None

    def heartbeat(self, run_id: str, epoch: int, *, runner: str) -> Run | None:
        """Say that the run lives; ``None`` when it was taken away (LOST, or a newer epoch) and has to stop.

        The run as it is now may say ``cancelled_by``: then it has to stop as well.
        """
        return self._change_run(
            run_id,
            {"heartbeat_at": runs.now()},
            condition="#state = :running AND epoch = :epoch AND runner = :runner",
            values={":running": runs.RUNNING, ":epoch": epoch, ":runner": runner},
        )

    def held(self, run_id: str, epoch: int, *, runner: str) -> Run | None:
        """What :meth:`heartbeat` would answer, by a read: the run, or ``None`` when it was taken away."""
        run = self.run(run_id)
        return run if run and run["state"] == runs.RUNNING and _is_mine(run, epoch, runner) else None

    def finish(self, run_id: str, epoch: int, *, runner: str, state: str, outcome: Mapping[str, Any]) -> bool:
        """``RUNNING -> state`` with the outcome (exit_code, duration_s, report_..., reason); false when fenced off.

        The run is ``unmailed`` from then on, until :meth:`mailed`.
        """
        if not runs.may_follow(runs.RUNNING, state):
            raise ValueError(f"run {run_id}: expected an end state, got {state}")
        done = self._change_run(
            run_id,
            {"state": state, "ended_at": runs.now(), "unmailed": True, **outcome},
            condition="#state = :running AND epoch = :epoch AND runner = :runner",
            values={":running": runs.RUNNING, ":epoch": epoch, ":runner": runner},
        )
        if done:
            return True
        run = self.run(run_id)
        return run is not None and run["state"] == state and _is_mine(run, epoch, runner)

    def lose(self, run: Run, *, reason: str) -> Run | None:
        """``RUNNING -> LOST`` of a run as it was seen; ``None`` when it has moved on, or lives, since."""
        return self._change_run(
            run["run_id"],
            {"state": runs.LOST, "ended_at": runs.now(), "reason": reason, "unmailed": True},
            condition="#state = :running AND epoch = :seen AND heartbeat_at = :heard",
            values={":running": runs.RUNNING, ":seen": run["epoch"], ":heard": run["heartbeat_at"]},
        )

    def cancel(self, run_id: str, *, by: str) -> Run:
        """End a run that waits or is claimed; ask one that is at work to end itself. The run as it is then.

        :raises LedgerError: there is no such run, or it has ended already
        """
        asked = {"cancelled_by": by}
        ended = {**asked, "state": runs.CANCELLED, "ended_at": runs.now(), "reason": f"cancelled by {by}"}
        before = {":claimed": runs.CLAIMED, ":queued": runs.QUEUED}
        run = self._change_run(run_id, ended, condition="#state IN (:claimed, :queued)", values=before)
        if run:
            self.turns.leave(run["workflow"], run_id)
            return run
        run = self._change_run(run_id, asked, condition="#state = :running", values={":running": runs.RUNNING})
        if run:
            return run
        found = self.run(run_id)
        what = f"it has ended as {found['state']}" if found else "there is none; playbooks/status.yml lists them"
        raise LedgerError(f"cancel: run {run_id}: expected one that waits or is at work, {what}")

    def mailed(self, run_id: str) -> None:
        """Note that somebody was told how the run ended."""
        self._change_run(run_id, {}, remove=("unmailed",), condition="attribute_exists(pk)", values={})

    # -- runs: looked at ------------------------------------------------------------------------------------------

    def run(self, run_id: str) -> Run | None:
        """The run as it is now (consistent read), or ``None``."""
        return cast("Run | None", self._table.get(*_run_key(run_id)))

    def runs(self, *, limit: int = 50, **equal: str) -> list[Run]:
        """The newest runs, newest claim first; with ``workflow="..."`` or ``state="..."`` only of those."""
        return cast("list[Run]", self._newest("run", limit, equal))

    def unsettled(self, *, since: str) -> list[Run]:
        """Runs claimed since then that have not come to an end, or whose end was not mailed; the newest first."""
        open_states = {":claimed": runs.CLAIMED, ":running": runs.RUNNING, ":lost": runs.LOST}
        items = self._table.query(
            IndexName=KIND_AT_INDEX,
            KeyConditionExpression="kind = :kind AND #at >= :since",
            FilterExpression=f"#state IN ({', '.join(open_states)}) OR attribute_exists(unmailed)",
            ExpressionAttributeNames={"#at": "at", "#state": "state"},
            ExpressionAttributeValues={":kind": "run", ":since": since, **open_states},
            ScanIndexForward=False,
        )
        return [cast(Run, item) for item in items]

    # -- devices --------------------------------------------------------------------------------------------------

    def record_deployment(self, deployment: Deployment, *, at: str) -> None:
        """Write what happened on a device; the same ``at`` and rollout write the same item again.

        ``recorded_at`` stays what it was at first: the ledger does not learn it anew.
        """
        key = (f"device#{deployment['device']}", f"{at}#{deployment['rollout_id']}")
        item = {**deployment, "kind": "deployment", "at": at}
        item.setdefault("recorded_at", runs.now())
        values = {name: f"if_not_exists(#{name}, :{name})" if name == "recorded_at" else f":{name}" for name in item}
        self._table.update(
            key,
            "SET " + ", ".join(f"#{name} = {value}" for name, value in values.items()),
            names={f"#{name}": name for name in item},
            values={f":{name}": value for name, value in item.items()},
        )

    def record_triage(self, device: str, run_id: str, *, at: str, state: str, findings: str, report_key: str) -> None:
        """Write what a run of ``staging_triage`` found out about a device; the same run writes the same item again.

        ``findings`` is JSON text: a list of objects with ``kind``, ``subject``, ``severity`` and ``title``.
        """
        said = {"device": device, "run_id": run_id, "state": state, "findings": findings, "report_key": report_key}
        item = {**said, "kind": "triage", "at": at}
        self._table.update(
            (f"triage#{device}", f"{at}#{run_id}"),
            "SET " + ", ".join(f"#{name} = :{name}" for name in item),
            names={f"#{name}": name for name in item},
            values={f":{name}": value for name, value in item.items()},
        )

    def triages(self, device: str, *, limit: int = 20) -> list[dict[str, Any]]:
        """What was found out about a device, the newest first."""
        items = self._table.query(
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": f"triage#{device}"},
            ScanIndexForward=False,
            Limit=limit,
        )
        return list(itertools.islice(items, limit))

    def deployments(self, device: str) -> list[Deployment]:
        """Everything recorded about a device, oldest first."""
        items = self._table.query(
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": f"device#{device}"},
            ConsistentRead=True,
        )
        return [cast(Deployment, item) for item in items]

    def newest_deployments(self, *, limit: int) -> list[Deployment]:
        """What was recorded last about all devices, newest first."""
        return cast("list[Deployment]", self._newest("deployment", limit, {}))

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
        if self._table.put(
            item, condition="attribute_not_exists(pk) OR #state = :running", values={":running": "running"}
        ):
            return
        recorded = self.rollout(rollout["rollout_id"])
        if recorded is None or recorded["state"] != rollout["state"]:
            was = recorded["state"] if recorded else "missing"
            raise LedgerError(
                f"ledger {self.table}: rollout {rollout['rollout_id']}: expected one that is running, it is {was}; "
                "start a new rollout"
            )

    def announced(self, rollout_id: str, *, event_id: str) -> None:
        """Note that the event "Rollout finished" was put."""
        key = (f"rollout#{rollout_id}", "rollout")
        changes = {"event_id": event_id}
        self._table.change(key, changes, remove=("unannounced",), condition="attribute_exists(unannounced)", values={})

    def rollout(self, rollout_id: str) -> Rollout | None:
        """One rollout (consistent read), or ``None``."""
        return cast("Rollout | None", self._table.get(f"rollout#{rollout_id}", "rollout"))

    def rollouts(self, *, limit: int = 50) -> list[Rollout]:
        """The newest rollouts, newest start first."""
        return cast("list[Rollout]", self._newest("rollout", limit, {}))

    # -- all ------------------------------------------------------------------------------------------------------

    def happened(self, kind: str, *, since: str, until: str) -> list[dict[str, Any]]:
        """What there was of a kind (run, deployment, rollout) from a time to another, both included, oldest first.

        The times are those of ``at`` in docs/interfaces.md, "Ledger".
        """
        return list(
            self._table.query(
                IndexName=KIND_AT_INDEX,
                KeyConditionExpression="kind = :kind AND #at BETWEEN :since AND :until",
                ExpressionAttributeNames={"#at": "at"},
                ExpressionAttributeValues={":kind": kind, ":since": since, ":until": until},
            )
        )

    def _change_run(
        self,
        run_id: str,
        changes: Mapping[str, Any],
        *,
        condition: str,
        values: Mapping[str, Any],
        remove: tuple[str, ...] = (),
    ) -> Run | None:
        """Change attributes of a run in one write; the run after it, or ``None`` when the condition does not hold."""
        return cast(
            "Run | None",
            self._table.change(_run_key(run_id), changes, condition=condition, values=values, remove=remove),
        )

    def _newest(self, kind: str, limit: int, equal: Mapping[str, str]) -> list[dict[str, Any]]:
        request: dict[str, Any] = {
            "IndexName": KIND_AT_INDEX,
            "KeyConditionExpression": "kind = :kind",
            "ExpressionAttributeValues": {":kind": kind, **{f":{name}": value for name, value in equal.items()}},
            "ScanIndexForward": False,
        }
        if equal:
            request["FilterExpression"] = " AND ".join(f"#{name} = :{name}" for name in equal)
            request["ExpressionAttributeNames"] = {f"#{name}": name for name in equal}
        else:
            request["Limit"] = limit  # DynamoDB counts what it looks at, not what it finds
        return list(itertools.islice(self._table.query(**request), limit))


def _run_key(run_id: str) -> tuple[str, str]:
    return (f"run#{run_id}", "run")


def _is_mine(run: Run, epoch: int, runner: str) -> bool:
    return (run["epoch"], run.get("runner")) == (epoch, runner)
