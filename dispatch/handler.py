"""The dispatch, the backup and the watchdog Lambda: an event becomes one run on the deployment twin.

``dispatch`` claims the run in the ledger, rings at the twin's terminal, and succeeds only when the ledger shows that
the run has started. Whatever goes wrong is raised: Lambda retries once, then calls ``backup``, which fences the first
attempt off (epoch + 1), waits for the twin if that has to start, and rings again. What ``backup`` cannot start is
mailed once and ends in the dead-letter queue. ``watchdog`` looks every few minutes after runs that do not get on.
None of them ever logs the presigned URL.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Protocol, cast

from botocore.exceptions import BotoCoreError, ClientError
from twinops import metrics, runs
from twinops.aws.ledger import Ledger
from twinops.aws.session import client
from twinops.errors import TwinopsError
from twinops.names import Names
from twinops.runs import Claim, Run
from twinops.watchdog import HAND_OVER, LOOK_BACK_S, LOSE, is_repeated, judge

from . import terminal
from .transport import Transport

RESERVE_S = 4
"""Kept of the Lambda's time to release the claim and to report, after waiting for the twin has come to nothing."""

RING_S = 20
"""What is left of the backup's time, at least, for ringing once the twin is in service."""

_ALERT = """\
The workflow {workflow} did not start.

What happened: {reason}
Run: {run_id} (commit {git_sha}, event {event_id})

What to do: nothing yet, Lambda tries a few more times. If no report follows within ten minutes, the run has stayed
CLAIMED in the ledger and its event is in the dead-letter queue. Mend the cause, then start it again:
  ansible-playbook playbooks/invoke.yml -l {env} -e workflow={workflow} -e via=backup
"""

_LOST = """\
A run of the workflow {workflow} is lost: {reason}.

Run: {run_id} (commit {git_sha}, attempt {epoch})
Log: aws logs tail {log_group} --log-stream-names {log_stream} --since 7d

What to do: {advice}
"""

_STARTED_AGAIN = "nothing yet, it is started again (attempt {next_epoch}), as its spec says idempotent: true."

_MEND_IT = """\
look at the log how far it came, and at the twin why it ended. It is not started again by itself: {why}.
When you know that repeating it does no harm:
  ansible-playbook playbooks/invoke.yml -l {env} -e workflow={workflow}"""

RUN_ONCE = '"$HOME/SageMaker/twinops/bin/run-once"'


class DispatchError(TwinopsError):
    """A run could not be started: says what happened and what to do next."""


class TwinNotReady(DispatchError):
    """The twin is not in service (yet)."""


class Context(Protocol):
    """What we use of the context object that Lambda hands to a handler."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int: ...


@dataclass(frozen=True)
class Settings:
    """The functions' environment (docs/interfaces.md, "Event -> dispatcher")."""

    env: str
    ledger_table: str
    twin: str
    topic_arn: str

    @classmethod
    def from_environment(cls) -> Settings:
        names = ("TWINOPS_ENV", "LEDGER_TABLE", "TWIN", "TOPIC_ARN")
        missing = [name for name in names if not os.environ.get(name)]
        if missing:
            raise DispatchError(f"function environment: {', '.join(missing)}: expected a value, it is missing")
        return cls(*(os.environ[name] for name in names))


def dispatch(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Start the run of an event; a duplicate of an event that has been claimed returns without doing anything.

    :raises DispatchError: nothing shows that the run has started; the claim is released for a retry
    """
    doorbell = Doorbell(Settings.from_environment(), context)
    claim = claim_of(event)
    epoch = doorbell.ledger.claim(claim, dispatcher=context.aws_request_id)
    if epoch is None:
        return _report(claim["run_id"], "duplicate")
    try:
        doorbell.require_twin()
        return doorbell.ring(claim, epoch)
    except Exception:
        doorbell.ledger.release(claim["run_id"], dispatcher=context.aws_request_id)
        raise


def backup(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Start a run that ``dispatch`` could not start, or one that a person or the watchdog asks for.

    ``event`` is Lambda's on-failure record (``requestPayload``), the payload itself, or ``{"run_id": ...}`` of a run
    that is in the ledger.

    :raises DispatchError: nothing shows that the run has started; somebody has been mailed
    """
    doorbell = Doorbell(Settings.from_environment(), context)
    if "requestPayload" in event:
        _publish(doorbell.settings, [{"MetricName": metrics.BACKUP_TOOK_OVER, "Value": 1.0}])
    asked = event.get("requestPayload", event)
    claim = _recorded_claim(doorbell.ledger, asked["run_id"]) if "run_id" in asked else claim_of(asked)
    epoch = _next_epoch(doorbell.ledger, claim, context.aws_request_id)
    if epoch is None:
        return _report(claim["run_id"], "moved on")
    try:
        doorbell.await_twin()
        return doorbell.ring(claim, epoch)
    except Exception as error:
        doorbell.alert(claim, str(error))
        raise


def watchdog(_event: Mapping[str, Any], _context: Context) -> dict[str, Any]:
    """Look after all runs that have not come to an end: mark lost ones LOST and mail that; have the backup start those
    that nobody started, and lost ones that may be repeated.

    Each step is safe to repeat, so that one that was interrupted is done at the next tick.

    :raises DispatchError: some runs could not be looked after; all others were
    """
    guard = Guard(Settings.from_environment())
    now = datetime.now(timezone.utc)
    done, failures = [], []
    for run in guard.ledger.unfinished(since=runs.timestamp(now - timedelta(seconds=LOOK_BACK_S))):
        try:
            done += guard.look_after(run, now)
        except (TwinopsError, BotoCoreError, ClientError) as error:
            failures.append(f"run {run['run_id']}: {error}")
    if failures:
        raise DispatchError("\n".join(failures))
    return {"done": done}


def claim_of(event: Mapping[str, Any]) -> Claim:
    """The claim that an event makes.

    :raises DispatchError: a field is missing or wrong; the rule's input transformer makes these
    """
    detail = event.get("detail") or {}
    parameters = detail.get("parameters", {}) if isinstance(detail, Mapping) else None
    expected = {
        "workflow": bool(re.fullmatch(r"[a-z][a-z0-9_]{0,40}", str(event.get("workflow")))),
        "event_id": bool(event.get("event_id")),
        "time": bool(event.get("time")),
        "detail.parameters": isinstance(parameters, Mapping),
        "git_sha": bool(re.fullmatch(r"[0-9a-f]{40}", str(event.get("git_sha")))),
        "timeout_s": type(event.get("timeout_s")) is int,
        "idempotent": type(event.get("idempotent")) is bool,
    }
    wrong = [name for name, right in expected.items() if not right]
    if wrong or not isinstance(parameters, Mapping):
        raise DispatchError(f"event: {', '.join(wrong)}: missing or wrong, see docs/interfaces.md; nothing was started")
    return Claim(
        run_id=runs.run_id(
            workflow=event["workflow"],
            occasion=runs.occasion(event),
            parameters=parameters,
            git_sha=event["git_sha"],
        ),
        workflow=event["workflow"],
        git_sha=event["git_sha"],
        event_id=str(event["event_id"]),
        parameters=json.dumps(parameters, sort_keys=True),
        timeout_s=event["timeout_s"],
        idempotent=event["idempotent"],
    )


def _recorded_claim(ledger: Ledger, run_id: str) -> Claim:
    run = ledger.run(run_id)
    if run is None:
        raise DispatchError(f"run {run_id}: expected it in the ledger, it is missing; nothing was started")
    return cast(Claim, {name: run[name] for name in Claim.__annotations__})  # type: ignore[literal-required]


def _next_epoch(ledger: Ledger, claim: Claim, request_id: str) -> int | None:
    """The epoch at which the backup rings; ``None`` when the run has started, has ended or must not be repeated."""
    run = ledger.run(claim["run_id"])
    if run is None:
        return ledger.claim(claim, dispatcher=request_id)
    if run["state"] == runs.CLAIMED and run.get("dispatcher") == request_id:  # Lambda retries the backup itself
        return run["epoch"]
    return ledger.reclaim(run, dispatcher=request_id) if run["state"] in (runs.CLAIMED, runs.LOST) else None


class Doorbell:
    """Rings at the deployment twin and looks into the ledger for who answers, within the Lambda's time."""

    def __init__(self, settings: Settings, context: Context) -> None:
        self.settings = settings
        self.ledger = Ledger(settings.ledger_table, client("dynamodb"))
        self._context = context
        self._sagemaker = client("sagemaker")

    def require_twin(self) -> None:
        """Return if the twin is in service; start it if it is stopped, and raise, because that takes minutes."""
        status = self._wake_twin()
        if status != "InService":
            raise TwinNotReady(
                f"twin {self.settings.twin}: expected InService, it is {status}; it is being started and the backup "
                "function tries again when it is there"
            )

    def await_twin(self) -> None:
        """Wait for the twin to be in service, starting it if it is stopped, as long as the time allows."""
        while True:
            status = self._wake_twin()
            if status == "InService":
                return
            if self._remaining_s() < RING_S:
                raise TwinNotReady(
                    f"twin {self.settings.twin}: expected InService in time, it is {status}; look at its page in "
                    "SageMaker and at the log of its lifecycle configuration, then start the run by hand"
                )
            time.sleep(2)

    def ring(self, claim: Claim, epoch: int) -> dict[str, Any]:
        """Have the twin start the run and wait until the ledger says that it has."""
        transport = Transport()
        made = transport.run(terminal.create(self._presigned_url()))
        try:
            transport.run(terminal.ring(made, command(claim, epoch)))
            run = self._await_start(claim["run_id"], epoch)
        finally:
            _hang_up(transport, made)
        return _report(claim["run_id"], "started", epoch=run["epoch"], state=run["state"])

    def alert(self, claim: Claim, reason: str) -> None:
        """Mail that a run does not start: one mail a run, however often it is tried."""
        if not self.ledger.alert_once(claim["run_id"]):
            return
        client("sns").publish(
            TopicArn=self.settings.topic_arn,
            Subject=f"[twinops] {claim['workflow']} did not start"[:100],
            Message=_ALERT.format(reason=reason, env=self.settings.env, **claim),
        )

    def _wake_twin(self) -> str:
        """The twin's status; a stopped or failed one is told to start first."""
        name = self.settings.twin
        status = str(self._sagemaker.describe_notebook_instance(NotebookInstanceName=name)["NotebookInstanceStatus"])
        if status in ("Stopped", "Failed"):
            self._sagemaker.start_notebook_instance(NotebookInstanceName=name)
        return status

    def _presigned_url(self) -> str:
        answer = self._sagemaker.create_presigned_notebook_instance_url(NotebookInstanceName=self.settings.twin)
        return str(answer["AuthorizedUrl"])

    def _await_start(self, run_id: str, epoch: int) -> Run:
        pause_s = 0.2
        while True:
            run = self.ledger.run(run_id)
            if run and (run["state"] in runs.ACKNOWLEDGED or run["epoch"] > epoch):
                return run
            if self._remaining_s() < RESERVE_S + pause_s:
                raise DispatchError(
                    f"run {run_id}: expected RUNNING in the ledger after ringing at twin {self.settings.twin}, "
                    f"it is {run['state'] if run else 'missing'}; look at SageMaker/twinops/log/ on the twin"
                )
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 2)

    def _remaining_s(self) -> float:
        return self._context.get_remaining_time_in_millis() / 1000


class Guard:
    """Looks after one run: what :func:`twinops.watchdog.judge` decides, is done here."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.ledger = Ledger(settings.ledger_table, client("dynamodb"))

    def look_after(self, run: Run, now: datetime) -> list[dict[str, Any]]:
        """What was done, as reports; nothing for a run that gets on by itself."""
        reports = []
        verdict = judge(run, now)
        if verdict.action == LOSE:
            if not self.ledger.lose(run, reason=verdict.reason):
                return []  # it has moved since it was read
            _publish(self.settings, metrics.of_run(run["workflow"], {metrics.RUN_FAILED: 1.0}))
            reports.append(_report(run["run_id"], "lost", reason=verdict.reason))
            run = self.ledger.run(run["run_id"]) or run
            verdict = judge(run, now)
        if verdict.mail and self.ledger.alert_once(run["run_id"]):
            self._mail_lost(run, verdict.reason)
        if verdict.action == HAND_OVER:
            self._hand_over(run["run_id"])
            reports.append(_report(run["run_id"], "handed over", reason=verdict.reason))
        return reports

    def _mail_lost(self, run: Run, reason: str) -> None:
        values = {**run, "env": self.settings.env, "reason": reason, "next_epoch": run["epoch"] + 1}
        values["why"] = f"it was lost {run['epoch']} times" if run["idempotent"] else "its spec does not say idempotent"
        advice = (_STARTED_AGAIN if is_repeated(run) else _MEND_IT).format(**values)
        client("sns").publish(
            TopicArn=self.settings.topic_arn,
            Subject=f"[twinops {self.settings.env}] {run['workflow']}: lost"[:99],
            Message=_LOST.format(advice=advice, **values),
        )

    def _hand_over(self, run_id: str) -> None:
        client("lambda").invoke(
            FunctionName=Names(self.settings.env).function("backup"),
            InvocationType="Event",
            Payload=json.dumps({"run_id": run_id}).encode(),
        )


def _publish(settings: Settings, data: list[dict[str, Any]]) -> None:
    """Metrics, for alarms; that they are away must not keep a run from starting."""
    try:
        namespace = Names(settings.env).metric_namespace
        client("cloudwatch").put_metric_data(Namespace=namespace, MetricData=data)
    except (BotoCoreError, ClientError) as error:
        _say(step="metrics", error=str(error))


def command(claim: Claim, epoch: int) -> str:
    """The one line that is typed: in a session of its own, so that the run outlives its terminal."""
    return f"setsid {RUN_ONCE} {claim['run_id']} {epoch} {claim['git_sha']} </dev/null >/dev/null 2>&1 &"


def _hang_up(transport: Transport, made: terminal.Terminal) -> None:
    """Delete the terminal; one that stays behind is untidy, not a failure of the run."""
    try:
        transport.run(terminal.hang_up(made))
    except terminal.TerminalError as error:
        _say(step="hang up", error=str(error))


def _report(run_id: str, outcome: str, **more: Any) -> dict[str, Any]:
    report = {"run_id": run_id, "outcome": outcome, **more}
    _say(**report)
    return report


def _say(**fields: Any) -> None:
    """One JSON line into the function's log."""
    print(json.dumps(fields), flush=True)  # noqa: T201
