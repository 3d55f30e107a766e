"""Starts and watches one run on the twin: ``python -m toolbox.run_once RUN_ID EPOCH GIT_SHA``, by ``bin/run-once``.

Order, and why: a file lock (one process a run on this twin), then CLAIMED -> RUNNING for one's own epoch (one twin, one
attempt), then the workflow's environment, the script, its outputs, metrics, and only then the end state with the real
exit code; at last one mail. Whoever reads SUCCEEDED finds the report stored. A run that is taken away meanwhile (its
heartbeat is refused) is ended and writes nothing more. See docs/interfaces.md, "On the twin".
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from twinops import mails, runs
from twinops.aws.clients import client
from twinops.aws.ledger import Ledger, LedgerError
from twinops.errors import TwinopsError
from twinops.metrics import RUN_DURATION, RUN_FAILED
from twinops.names import Names
from twinops.runs import Run
from twinops.spec import LINK, Workflow, merge_parameters
from twinops.spec_files import SPEC_FILE, load_workflow

from .runner import handover, housekeeping, results
from .runner.housekeeping import environment_of, in_use
from .runner.locks import alone
from .runner.output import Output
from .runner.process import Ended, start_detached, supervise

HEARTBEAT_S = 30
LOOK_S = 4
"""Between two looks whether somebody cancelled the run: one consistent read each, and none in a shorter run."""
ENVIRONMENT_TIMEOUT_S = 1800
FINISH_WITHIN_S = 300
"""How long the ledger may be away at the end of a run before its outcome is only in status.json."""


class RunError(TwinopsError):
    """The run cannot go on; the message becomes its reason."""


class Stopped(Exception):
    """The run was to end before its script had been started."""


@dataclass(frozen=True)
class Ticket:
    """Which attempt at which run this process was started for."""

    run_id: str
    epoch: int
    git_sha: str
    refuse: str = ""
    """Why the run cannot be started; it then only ends, truthfully."""


@dataclass(frozen=True)
class Place:
    """The folders of a run on the persistent volume."""

    home: Path
    run_id: str
    git_sha: str

    @property
    def folder(self) -> Path:
        return self.home / "runs" / self.run_id

    @property
    def output(self) -> Path:
        return self.folder / "output"

    @property
    def code(self) -> Path:
        return self.home / "code" / self.git_sha

    @property
    def runner(self) -> Path:
        """The environment that this program runs in, of ``workflows/runner.txt``."""
        return self.home / "envs" / Path(sys.prefix).name


@dataclass
class Outcome:
    """What goes into the ledger at the end."""

    state: str
    exit_code: int | None = None
    duration_s: float = 0
    reason: str | None = None
    report_bucket: str | None = None
    report_key: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def attributes(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("state", "metrics")}


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0: the ledger tells what became of the run; 1: it does not (and why is printed)."""
    parser = argparse.ArgumentParser(prog="toolbox.run_once", description=__doc__)
    parser.add_argument("run_id")
    parser.add_argument("epoch", type=int)
    parser.add_argument("git_sha")
    parser.add_argument("--refuse", default="", metavar="REASON", help="do not start it, end it as FAILED")
    ticket = Ticket(**vars(parser.parse_args(arguments)))
    home = Path(os.environ["TWINOPS_HOME"])
    twin = json.loads((home / "twin.json").read_text("utf-8"))
    os.environ.setdefault("AWS_DEFAULT_REGION", twin["region"])
    try:
        return run_once(ticket, Place(home, ticket.run_id, ticket.git_sha), twin)
    except TwinopsError as error:
        _say(f"{ticket.run_id}: {error}")
        return 1
    finally:
        if housekeeping.is_due(home):
            _clear_away(home)
        if not ticket.refuse:
            _have_a_runner_stand_by(home)


def run_once(ticket: Ticket, place: Place, twin: Mapping[str, Any]) -> int:
    """Take the run if it is still ours to take, carry it out, and report.

    A volume without room for a lock is no reason to say nothing: the ledger alone also tells two processes apart.
    """
    with ExitStack() as held:
        for folder in (place.code, place.runner, place.folder):
            held.enter_context(in_use(folder))
        if housekeeping.is_nearly_full(place.home):
            _clear_away(place.home)
        if not held.enter_context(_lock(place)):
            _say(f"{ticket.run_id}: another process on this twin has it")
            return 0
        attempt = Attempt.take(ticket, place, twin)
        if attempt is None:
            _say(f"{ticket.run_id}: epoch {ticket.epoch} is stale, or the run has been started already")
            return 0
        return attempt.carry_out()


def _clear_away(home: Path) -> None:
    """Remove what nobody uses from the volume; a run does not depend on it."""
    try:
        removed = housekeeping.collect(home)
    except (OSError, subprocess.SubprocessError) as error:
        _say(f"housekeeping: {error}")
    else:
        _say(f"housekeeping: removed {', '.join(removed) or 'nothing'}")


def _have_a_runner_stand_by(home: Path) -> None:
    """Spare the next run of this commit the start of a Python, if nobody does; a run does not depend on it."""
    code = Path(__file__).absolute().parents[2]
    if code.parent == home / "code" and not handover.is_read(home, code.name):
        start_detached([sys.executable, "-m", "toolbox.standby"])


class Attempt:
    """One attempt at a run that this process has been given by the ledger."""

    def __init__(self, ticket: Ticket, place: Place, twin: Mapping[str, Any], ledger: Ledger, run: Run) -> None:
        self.ticket = ticket
        self.place = place
        self.twin = twin
        self.ledger = ledger
        self.run = run
        self.taken_away = threading.Event()
        self.cancelled_by = run.get("cancelled_by", "")
        self.workflow: Workflow | None = None
        """Its spec, once that has been read."""
        self.stop = threading.Event()
        """Set when the script has to end, because the run was taken away or somebody cancelled it."""
        if self.cancelled_by:  # during an attempt that was lost before it heeded that
            self.stop.set()

    @classmethod
    def take(cls, ticket: Ticket, place: Place, twin: Mapping[str, Any]) -> Attempt | None:
        """CLAIMED -> RUNNING; ``None`` if the ledger refuses."""
        ledger = Ledger(twin["ledger_table"], client("dynamodb"))
        run = ledger.start(
            ticket.run_id,
            ticket.epoch,
            runner=secrets.token_hex(8),
            log_stream=runs.log_stream(ticket.run_id, ticket.epoch),
        )
        return cls(ticket, place, twin, ledger, run) if run else None

    def carry_out(self) -> int:
        """Everything between RUNNING and the next run of the workflow."""
        self._write_status(runs.RUNNING)
        with _every(HEARTBEAT_S, self._heartbeat), _every(LOOK_S, self._look):
            outcome = self._outcome()
        if self.taken_away.is_set():
            _say(f"{self.ticket.run_id}: epoch {self.ticket.epoch} was taken away; ended without a trace in the ledger")
            return 0
        self._write_status(outcome.state, outcome.attributes)
        self._finish(outcome)
        self.run.update({"state": outcome.state, **outcome.attributes})  # type: ignore[typeddict-item]
        self._publish(outcome)
        self._start_following()
        return 0

    def _outcome(self) -> Outcome:
        """Run the script and store what it made; every failure is an outcome, not an exception."""
        started = time.monotonic()
        log = self.place.folder / "output.log"
        with Output(log, lambda: client("logs"), self.run["log_group"], self.run["log_stream"]) as output:
            try:
                outcome = self._script(output)
                self._store(outcome)
            except Stopped:
                outcome = self._cancelled()
            except (TwinopsError, OSError) as error:
                outcome = Outcome(runs.FAILED, reason=str(error))
            outcome.duration_s = round(time.monotonic() - started, 3)
            code = "none" if outcome.exit_code is None else outcome.exit_code
            output.say(f"{outcome.state}, exit code {code}, {outcome.duration_s:g} s. {outcome.reason or ''}".strip())
        return outcome

    def _script(self, output: Output) -> Outcome:
        if self.ticket.refuse:
            raise RunError(self.ticket.refuse)
        workflow = self.workflow = self._read_spec()
        parameters = merge_parameters(workflow, json.loads(self.run["parameters"]))
        lock = self.place.code / "workflows" / workflow.lock
        environment = environment_of(self.place.home, lock)
        with in_use(environment):
            self._build_environment(environment, lock, output)
            self._make_folder(parameters)
            output.say(f"{workflow.name} at commit {self.run['git_sha'][:12]}, epoch {self.run['epoch']}")
            ended = supervise(
                self._command(workflow, environment, parameters),
                folder=self.place.code / "workflows" / workflow.name,
                environment=self._variables(),
                timeout_s=self.run["timeout_s"],
                sink=output.write,
                stop=self.stop,
                mark="TWINOPS_RUN",
                is_first=self.run["epoch"] == 1,  # RUNNING comes once in each epoch
            )
        if ended.stopped:
            return self._cancelled()
        state = runs.end_state(exit_code=ended.exit_code, timed_out=ended.timed_out)
        return Outcome(state, exit_code=ended.exit_code, reason=self._reason(ended))

    def _cancelled(self) -> Outcome:
        return Outcome(runs.CANCELLED, reason=f"cancelled by {self.cancelled_by}")

    def _read_spec(self) -> Workflow:
        """The spec as it is in the run's commit, not as it is today."""
        where = f"workflows/{self.run['workflow']}/{SPEC_FILE}"
        if not (self.place.code / where).is_file():
            raise RunError(f"{where}: expected a spec in commit {self.run['git_sha'][:12]}, there is none")
        return load_workflow(self.place.code, self.run["workflow"], with_lock=False)

    def _make_folder(self, parameters: Mapping[str, Any]) -> None:
        """What the script finds of its run, and an empty folder for what it makes."""
        shutil.rmtree(self.place.output)  # what an earlier attempt on this twin left there
        self.place.output.mkdir()
        content = {**self.run, "parameters": parameters, "twin": self.twin}
        _write(self.place.folder / "run.json", json.dumps(content, indent=2))

    def _build_environment(self, environment: Path, lock: Path, output: Output) -> None:
        """Have the packages of a lock, if this is the first run that needs them."""
        if environment.is_dir():
            return
        output.say(f"building the environment {environment.name}, once for all runs with these requirements")
        ended = supervise(
            [self.place.home / "bin" / "environment", lock],
            folder=self.place.home,
            environment=os.environ,
            timeout_s=ENVIRONMENT_TIMEOUT_S,
            sink=output.write,
            stop=self.stop,
        )
        if ended.stopped:
            raise Stopped
        if ended.exit_code != 0:
            where = lock.relative_to(self.place.code).as_posix()
            raise RunError(f"{where}: expected an environment, building it failed ({ended})")

    def _command(self, workflow: Workflow, environment: Path, parameters: Mapping[str, Any]) -> list[str | Path]:
        python = environment / "bin" / "python"
        if workflow.entrypoint.endswith(".py"):
            return [python, "-u", workflow.entrypoint]
        executed = self.place.output / workflow.entrypoint
        return [
            *(python, "-m", "papermill", "--log-output", "-y", json.dumps(dict(parameters))),
            *(workflow.entrypoint, executed),
        ]

    def _variables(self) -> dict[str, str]:
        return {
            **os.environ,
            "TWINOPS_RUN": str(self.place.folder / "run.json"),
            "TWINOPS_OUTPUT": str(self.place.output),
            "MPLCONFIGDIR": str(self.place.home / "cache" / "matplotlib"),
        }

    def _reason(self, ended: Ended) -> str | None:
        if ended.timed_out:
            return f"it was ended after {self.run['timeout_s']} s (timeout_s of its spec)"
        if ended.exit_code is not None and ended.exit_code > 128:
            return f"the script was ended by signal {ended.exit_code - 128} (exit code {ended.exit_code})"
        return f"the script ended with exit code {ended.exit_code}" if ended.exit_code else None

    def _store(self, outcome: Outcome) -> None:
        """Outputs into the reports bucket; not being able to is a failure of the run, whatever the script said."""
        bucket, prefix = self.twin["reports_bucket"], f"{self.run['workflow']}/{self.run['run_id']}"
        try:
            keys = results.store(self.place.output, client("s3"), bucket=bucket, prefix=prefix)
            outcome.metrics = results.read_metrics(self.place.output)
        except (BotoCoreError, ClientError, results.ResultError) as error:
            outcome.state = runs.FAILED if outcome.state == runs.SUCCEEDED else outcome.state
            outcome.reason = f"{outcome.reason}; " if outcome.reason else ""
            outcome.reason += f"its outputs were not stored: {error}"
            return
        if f"{prefix}/{results.REPORT}" in keys:
            outcome.report_bucket, outcome.report_key = bucket, f"{prefix}/{results.REPORT}"

    def _heartbeat(self) -> None:
        """Say that the run lives."""
        self._heed("heartbeat", self.ledger.heartbeat)

    def _look(self) -> None:
        """Look whether the run is to go on: reading is a fifth of what writing costs, so it may be done more often."""
        self._heed("look", self.ledger.held)

    def _heed(self, what: str, ask: Callable[..., Run | None]) -> None:
        """Stop the run if the ledger says that it was taken away, or that somebody cancelled it."""
        try:
            run = ask(self.ticket.run_id, self.ticket.epoch, runner=self.run["runner"])
        except LedgerError as error:  # away for a while: the watchdog decides how long is too long
            _say(f"{self.ticket.run_id}: {what}: {error}")
            return
        if run is None:
            self.taken_away.set()
            self.stop.set()
        elif "cancelled_by" in run:
            self.cancelled_by = run["cancelled_by"]
            self.stop.set()

    def _finish(self, outcome: Outcome) -> None:
        """The end state, patiently: a script's hour must not be lost because the ledger is away for a minute."""
        pause_s, deadline = 1.0, time.monotonic() + FINISH_WITHIN_S
        while True:
            try:
                done = self.ledger.finish(
                    self.ticket.run_id,
                    self.ticket.epoch,
                    runner=self.run["runner"],
                    state=outcome.state,
                    outcome=outcome.attributes,
                )
            except LedgerError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(pause_s)
                pause_s = min(pause_s * 2, 30)
                continue
            if not done:
                raise RunError(
                    f"epoch {self.ticket.epoch} was taken away while it ended; its outcome is in status.json"
                )
            return

    def _publish(self, outcome: Outcome) -> None:
        """The mail and metrics; the ledger has the truth already, so neither may undo it."""
        for what, publish in (("mail", self._mail), ("metrics", lambda: self._put_metrics(outcome))):
            try:
                publish()
            except (BotoCoreError, ClientError, LedgerError) as error:
                _say(f"{self.ticket.run_id}: {what}: {error}")

    def _mail(self) -> None:
        """One mail, then the note that it was sent: without the note the watchdog sends it."""
        summary = self.place.output / results.SUMMARY
        text = summary.read_text("utf-8", "replace") if summary.exists() else ""
        subject, message = mails.about(self.run, env=self.twin["env"], summary=text, link=self._report_link())
        client("sns").publish(TopicArn=self.twin["topic_arn"], Subject=subject, Message=message)
        self.ledger.mailed(self.ticket.run_id)

    def _report_link(self) -> str:
        """What opens the report without credentials, where there is one and the spec asks for it."""
        key = self.run.get("report_key")
        if not key or self.workflow is None or self.workflow.report.attach != LINK:
            return ""
        return results.link(bucket=self.run["report_bucket"], key=key)

    def _put_metrics(self, outcome: Outcome) -> None:
        failed = outcome.state not in (runs.SUCCEEDED, runs.CANCELLED)
        metrics = {**outcome.metrics, RUN_FAILED: float(failed), RUN_DURATION: outcome.duration_s}
        namespace = Names(self.twin["env"]).metric_namespace
        results.put_metrics(client("cloudwatch"), namespace=namespace, workflow=self.run["workflow"], metrics=metrics)

    def _start_following(self) -> None:
        """Start the run that has waited for this one; the watchdog does, should this process die before."""
        try:
            following = self.ledger.end_turn(self.run, dispatcher=self.run["runner"])
        except LedgerError as error:
            _say(f"{self.ticket.run_id}: the turn of {self.run['workflow']}: {error}")
            return
        if following:
            ticket = (following["run_id"], str(following["epoch"]), following["git_sha"])
            start_detached([str(self.place.home / "bin" / "run-once"), *ticket])

    def _write_status(self, state: str, more: Mapping[str, Any] | None = None) -> None:
        status = {"run_id": self.ticket.run_id, "epoch": self.ticket.epoch, "state": state, "at": runs.now()}
        status["pid"] = os.getpid()
        try:
            _write(self.place.folder / "status.json", json.dumps({**status, **(more or {})}, indent=2))
        except OSError as error:  # a full disk must not keep the truth from the ledger
            _say(f"{self.ticket.run_id}: status.json: {error}")


@contextmanager
def _lock(place: Place) -> Iterator[bool]:
    """Hold the run's file lock; false if another process has it. The kernel frees it, however the process ends."""
    with ExitStack() as held:
        try:
            place.output.mkdir(parents=True, exist_ok=True)
            is_alone = held.enter_context(alone(place.folder / "lock"))
        except OSError as error:
            _say(f"{place.run_id}: no lock: {error}")
            is_alone = True
        yield is_alone


@contextmanager
def _every(pause_s: float, act: Callable[[], None]) -> Iterator[None]:
    """Act again and again from another thread while the body runs."""
    end = threading.Event()

    def repeat() -> None:
        while not end.wait(pause_s):
            act()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()


def _write(file: Path, text: str) -> None:
    """Write a file by rename: a reader, also after a crash, finds the old or the new one."""
    part = file.with_suffix(".part")
    with part.open("w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    part.replace(file)


def _say(text: str) -> None:
    with suppress(OSError):  # its log may be on a full disk
        print(f"{runs.now()} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
