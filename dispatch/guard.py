"""Looks after runs that do not get on: what :mod:`twinops.watchdog` decides, is done here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from twinops import mails, metrics, runs
from twinops.aws.clients import client
from twinops.aws.ledger import Ledger
from twinops.names import Names
from twinops.runs import Run, Turn
from twinops.watchdog import (
    END_TURN,
    GIVE_UP,
    HAND_OVER,
    LOOK_BACK_S,
    LOSE,
    MAIL,
    Verdict,
    is_repeated,
    judge,
    judge_turn,
)

from .settings import Settings, publish, report

WATCHDOG = "watchdog"
"""As whom it claims the runs whose turn it makes come."""


class Guard:
    """Acts on one run, or one turn, at a time. Each step is safe to repeat."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.ledger = Ledger(settings.ledger_table, client("dynamodb"))

    def unsettled(self, now: datetime) -> list[Run]:
        """The runs that may need something."""
        return self.ledger.unsettled(since=runs.timestamp(now - timedelta(seconds=LOOK_BACK_S)))

    def look_after(self, run: Run, now: datetime) -> Iterator[dict[str, Any]]:
        """What was done, as reports; nothing for a run that gets on by itself."""
        verdict = judge(run, now)
        if verdict.action == LOSE:
            lost = self.ledger.lose(run, reason=verdict.reason)
            if lost is None:
                return  # it has moved since it was read
            yield report(run["run_id"], "lost", reason=verdict.reason)
            yield from self._after_a_loss(lost, now)
        elif verdict.action == GIVE_UP:
            yield from self.give_up(run, verdict.reason)
        elif verdict.action == MAIL:
            self.mail(run)
            yield report(run["run_id"], "mailed", reason=verdict.reason)
        elif verdict.action == HAND_OVER:
            yield self._hand_over(run["run_id"], verdict)

    def look_after_turn(self, turn: Turn) -> Iterator[dict[str, Any]]:
        """A turn whose run has ended, or has not been started since its turn came, because somebody died there."""
        holder = self.ledger.run(turn["holder"])
        verdict = judge_turn(holder)
        if verdict.action == HAND_OVER:
            yield self._hand_over(turn["holder"], verdict)
        elif verdict.action == END_TURN:
            yield from self._start(self.ledger.pass_turn(turn["workflow"], turn["holder"], dispatcher=WATCHDOG))

    def give_up(self, run: Run, reason: str) -> Iterator[dict[str, Any]]:
        """Say that nobody could start a run: in the ledger, by a metric, by mail."""
        failed = self.ledger.give_up(run, reason=reason)
        if failed is None:
            return  # it has been started after all
        yield report(run["run_id"], "given up", reason=reason)
        yield from self._settle(failed)

    def mail(self, run: Run) -> None:
        """Mail how a run ended, then note that. Who dies between the two leaves a second mail to the next tick."""
        subject, message = mails.about(run, env=self.settings.env)
        client("sns").publish(TopicArn=self.settings.topic_arn, Subject=subject, Message=message)
        self.ledger.mailed(run["run_id"])

    def _after_a_loss(self, lost: Run, now: datetime) -> Iterator[dict[str, Any]]:
        """A lost run that is repeated has not ended: nobody is told yet, and its turn is not over."""
        if is_repeated(lost):
            yield self._hand_over(lost["run_id"], judge(lost, now))
        else:
            yield from self._settle(lost)

    def _settle(self, run: Run) -> Iterator[dict[str, Any]]:
        """What a run that ended badly would have done itself: its metric, its mail, the next one's turn."""
        publish(self.settings, metrics.of_run(run["workflow"], {metrics.RUN_FAILED: 1.0}))
        self.mail(run)
        yield from self._start(self.ledger.end_turn(run, dispatcher=WATCHDOG))

    def _start(self, called: Run | None) -> Iterator[dict[str, Any]]:
        """Have a run started whose turn has come, if there is one."""
        if called:
            yield self._hand_over(called["run_id"], Verdict(HAND_OVER, "its turn has come"))

    def _hand_over(self, run_id: str, verdict: Verdict) -> dict[str, Any]:
        """Have the backup function start a run."""
        client("lambda").invoke(
            FunctionName=Names(self.settings.env).function("backup"),
            InvocationType="Event",
            Payload=json.dumps({"run_id": run_id}).encode(),
        )
        return report(run_id, "handed over", reason=verdict.reason)


def cause_of(record: Mapping[str, Any]) -> str:
    """Why a function failed, of Lambda's on-failure record."""
    error = record.get("responsePayload") or {}
    context = record.get("requestContext") or {}
    return str(error.get("errorMessage") or context.get("condition") or "Lambda did not say why")
