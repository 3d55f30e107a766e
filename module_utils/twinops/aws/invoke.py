"""Runs that a person starts, repeats, cancels or waits for, by the same ways that events take."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from .. import runs
from ..errors import TwinopsError
from ..names import Names
from ..runs import Run
from ..spec import Workflow, for_environment, matching_event
from .ledger import Ledger, LedgerError

POLL_S = 1.0
SETTLED = runs.FINISHED | {runs.LOST}


class Hand:
    """What a person's hand does in one environment. ``client`` makes a client of a service's name."""

    def __init__(self, env: str, client: Callable[[str], Any]) -> None:
        self._names = Names(env)
        self._client = client
        self.ledger = Ledger(self._names.ledger, client("dynamodb"))

    def put_event(self, workflow: Workflow, parameters: Mapping[str, Any]) -> str:
        """Put an event that the workflow's pattern matches; its id.

        :raises TwinopsError: EventBridge did not take it
        """
        event = for_environment(matching_event(workflow), self._names.env)
        entry = {
            "Source": event["source"],
            "DetailType": event["detail-type"],
            "Detail": json.dumps({**event["detail"], "parameters": parameters}),
        }
        answer = self._client("events").put_events(Entries=[entry])["Entries"][0]
        if "EventId" not in answer:
            raise TwinopsError(f"events: PutEvents: {answer.get('ErrorCode')}: {answer.get('ErrorMessage')}")
        return str(answer["EventId"])

    def call_backup(self, workflow: Workflow, parameters: Mapping[str, Any], git_sha: str) -> str:
        """Have the backup function start a workflow with the code of a commit; the id that stands for the event."""
        return self._start(
            {
                "workflow": workflow.name,
                "detail-type": "Started by hand",
                "detail": {"parameters": parameters},
                "git_sha": git_sha,
                "timeout_s": workflow.timeout_s,
                "idempotent": workflow.idempotent,
                "concurrency": workflow.concurrency,
            }
        )

    def repeat(self, run_id: str) -> tuple[Run, str]:
        """Start a past run once more, with its commit and parameters; that run, and the id that stands for the event.

        :raises LedgerError: there is no such run, or it has not ended
        """
        past = self.ended_run(run_id)
        event_id = self._start(
            {
                "workflow": past["workflow"],
                "detail-type": "Repeated by hand",
                "detail": {"parameters": json.loads(past["parameters"])},
                "rerun_of": run_id,
                "git_sha": past["git_sha"],
                "timeout_s": past["timeout_s"],
                "idempotent": past["idempotent"],
                "concurrency": past["concurrency"],
            }
        )
        return past, event_id

    def ended_run(self, run_id: str) -> Run:
        """A run that may be repeated.

        :raises LedgerError: there is no such run, or it has not ended
        """
        past = self.ledger.run(run_id)
        if past is None or past["state"] not in SETTLED:
            what = f"it is {past['state']}" if past else "there is none; playbooks/status.yml lists them"
            raise LedgerError(f"rerun: run {run_id}: expected one that has ended, {what}")
        return past

    def cancel(self, run_id: str, *, by: str) -> Run:
        """End a run; one that is at work is asked to, and ends within seconds. The run as it is then.

        :raises LedgerError: there is no such run, or it has ended already
        """
        run = self.ledger.cancel(run_id, by=by)
        following = self.ledger.end_turn(run, dispatcher=by) if run["state"] == runs.CANCELLED else None
        if following:
            self._invoke_backup({"run_id": following["run_id"]})
        return run

    def await_end(self, find: Callable[[], Run | None], *, what: str, timeout_s: float) -> Run:
        """The run that ``find`` finds, once it has ended.

        :raises TwinopsError: it takes longer than ``timeout_s``
        """
        deadline = time.monotonic() + timeout_s
        while True:
            run = find()
            if run and run["state"] in SETTLED:
                return run
            if time.monotonic() > deadline:
                state = run["state"] if run else "not in the ledger yet"
                raise TwinopsError(f"{what}: expected its end within {timeout_s:g} s, it is {state}")
            time.sleep(POLL_S)

    def run_of(self, workflow: str, event_id: str) -> Run | None:
        """The run that an event started, among the newest."""
        newest = self.ledger.runs(limit=50)
        return next((run for run in newest if (run["workflow"], run["event_id"]) == (workflow, event_id)), None)

    def _start(self, payload: Mapping[str, Any]) -> str:
        """What the backup cannot start, it says in the ledger; nothing is waited for here."""
        event_id = str(uuid.uuid4())
        self._invoke_backup({**payload, "event_id": event_id, "time": runs.now()})
        return event_id

    def _invoke_backup(self, payload: Mapping[str, Any]) -> None:
        function = self._names.function("backup")
        self._client("lambda").invoke(
            FunctionName=function, InvocationType="Event", Payload=json.dumps(payload).encode()
        )
