"""The log of a run as lines, also while the run goes on: what CloudWatch has, and what the ledger says meanwhile.

Only reads. An attempt that has not started has no stream yet; a stream's lines come in order, each once.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

from .. import run_table, runs
from ..runs import Run
from ..watchdog import is_over
from .ledger import Ledger, LedgerError

POLL_S = 1.0
LATE_LINES_S = 15.0
"""How long CloudWatch may take to show lines that it has accepted: its reads are not consistent with its writes."""

_CLOSING = re.compile(r"\[twinops\] ([A-Z_]+), exit code ")
"""What run-once writes last into the log of an attempt (toolbox/run_once.py), when all of the script's is there."""


class RunLog:
    """The log of one run. ``logs`` is a client of CloudWatch Logs."""

    def __init__(self, ledger: Ledger, logs: Any, run_id: str) -> None:
        self._ledger = ledger
        self._logs = logs
        self._run_id = run_id
        self._tokens: dict[int, str] = {}
        self._closed_as = ""

    def printed(self) -> Iterator[str]:
        """What all attempts have printed so far, then how the run is.

        :raises LedgerError: there is no such run
        """
        run = self._run()
        yield from self._new_lines(run)
        yield self._how(run)

    def follow(self) -> Iterator[str]:
        """The same line by line as it comes, until the run has ended and, if it is repeated then, the repetition too.

        :raises LedgerError: there is no such run
        """
        said = ""
        while not is_over(run := self._run()):
            if said != (said := self._how(run)):
                yield said
            yield from self._new_lines(run)
            time.sleep(POLL_S)
        yield from self._last_lines(run)
        yield self._how(run)

    def _run(self) -> Run:
        run = self._ledger.run(self._run_id)
        if run is None:
            raise LedgerError(f"log: run {self._run_id}: expected one in the ledger; playbooks/status.yml lists them")
        return run

    def _how(self, run: Run) -> str:
        turn = self._ledger.turns.turn(run["workflow"]) if run["state"] == runs.QUEUED else {}
        return f"[ledger] {run_table.sentence(run, turn)}"

    def _last_lines(self, run: Run) -> Iterator[str]:
        """The rest of an ended run's log, up to run-once's line: none comes if the twin died or was cut off."""
        deadline = time.monotonic() + (LATE_LINES_S if "exit_code" in run else 0)
        yield from self._new_lines(run)
        while self._closed_as != run["state"] and time.monotonic() < deadline:
            time.sleep(POLL_S)
            yield from self._new_lines(run)

    def _new_lines(self, run: Run) -> Iterator[str]:
        for epoch in range(1, run["epoch"] + 1):
            for line in self._new_lines_of(run["log_group"], epoch):
                if closing := _CLOSING.match(line):
                    self._closed_as = closing[1]
                yield line

    def _new_lines_of(self, group: str, epoch: int) -> Iterator[str]:
        """What an attempt has printed since the last time; CloudWatch's token says where that was."""
        stream = {"logGroupName": group, "logStreamName": runs.log_stream(self._run_id, epoch)}
        while True:
            token = self._tokens.get(epoch)
            since = {"nextToken": token} if token else {"startFromHead": True}
            try:
                page = self._logs.get_log_events(**stream, **since)
            except self._logs.exceptions.ResourceNotFoundException:
                return
            yield from (event["message"] for event in page["events"])
            self._tokens[epoch] = page["nextForwardToken"]
            if page["nextForwardToken"] == token:
                return
