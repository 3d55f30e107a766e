"""What the tests of faults share: a deployed sandbox whose functions, twin and ledger can be made to fail from outside.

Product code has no switches for this. Functions run ``saboteur.py`` as their handler; ``run-once`` loads
``runner_saboteur.py`` by a ``.pth`` file; both reach the ledger through :class:`tests.faults.proxy.Proxy`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from twinops import runs
from twinops.runs import Run, timestamp

from dispatch.claims import claim_of
from sandbox import processes
from sandbox.settings import MARKER
from tests.faults.proxy import Proxy
from tests.sandbox.dispatching import NAMES, Dispatching, deploy, make_repository
from tests.sandbox.support import OwnSandbox, eventually

HERE = Path(__file__).parent
END_WITHIN_S = 150
"""How long a run may take from its event to its end, with the retries of Lambda (which wait 1 s in the sandbox)."""

OUTAGE_S = int(os.environ.get("TWINOPS_OUTAGE_S", "15"))
"""How long the ledger is away in the tests of that."""

LAMBDA_RETRY_S = 60 if OUTAGE_S >= 60 else 1
"""Lambda waits a minute before it tries again: an outage of minutes is survived by that, one of seconds needs less."""

DISPATCH_TIMEOUT_S = 20
"""Instead of a minute, so that nobody waits for one here when a run does not answer."""

CONCURRENT_FUNCTIONS = 8
"""How many of each function may run at once: two processors have enough to do with that."""

SETTLED = runs.FINISHED | {runs.LOST}

SPEC = """\
description: Does what a test of a fault needs.
owner: mlops@example.com
entrypoint: run.py
event: {{source: [twinops.faults], detail-type: [{what} requested]}}
parameters:
  mark: {{type: string, default: none}}
  do: {{type: string, default: nothing}}
  amount: {{type: integer, default: 0}}
timeout_s: 60
concurrency: {concurrency}
"""
WORKFLOWS = {"probe": "allow", "queued": "queue", "other": "queue"}


class Faults:
    """The deployed sandbox, and what a test does to it and wants to know of it."""

    def __init__(self, own: OwnSandbox, folder: Path) -> None:
        self.own = own
        self.folder = folder
        self.sent: dict[str, str] = {}
        """Id -> mark of every run that a test asked for."""
        self.mailed_twice: set[str] = set()
        for name in ("attempts", "counters", "runs"):
            (folder / name).mkdir()
        (folder / "secrets").touch()
        script = (HERE / "probe.py").read_text().replace("@FOLDER@", str(folder))
        repository = folder / "repository"
        files = {
            name: {"workflow.yml": SPEC.format(what=name.capitalize(), concurrency=concurrency), "run.py": script}
            for name, concurrency in WORKFLOWS.items()
        }
        make_repository(repository, files, {"dispatch/saboteur.py": (HERE / "saboteur.py").read_text()})
        self.dispatching: Dispatching = deploy(own, repository)
        self.ledger = self.dispatching.ledger
        self.twinops = self.dispatching.home / "SageMaker/twinops"
        self.proxy = Proxy(own.settings.port)
        (folder / "ledger_url").write_text(self.proxy.url)
        self.commit = self.dispatching.payload()["git_sha"]
        self._sabotage_functions()
        self._sabotage_runner()

    def _sabotage_functions(self) -> None:
        functions = self.own.client("lambda")
        for purpose in ("dispatch", "backup", "watchdog"):
            name = NAMES.function(purpose)
            variables = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
            more = {"FAULTS_FOLDER": str(self.folder), "AWS_ENDPOINT_URL_DYNAMODB": self.proxy.url}
            self.configure(purpose, Handler=f"dispatch.saboteur.{purpose}", Environment={"Variables": variables | more})
            if purpose == "dispatch":
                self.configure(purpose, Timeout=DISPATCH_TIMEOUT_S)
            functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=CONCURRENT_FUNCTIONS)

    def configure(self, purpose: str, **options: Any) -> None:
        """Change a function's configuration, as an administrator may."""
        self.own.client("lambda").update_function_configuration(FunctionName=NAMES.function(purpose), **options)

    def _sabotage_runner(self) -> None:
        eventually(lambda: all(self._environment(lock).is_dir() for lock in ("runner.txt", "requirements.txt")), 300)
        source = (HERE / "runner_saboteur.py").read_text().replace("@FOLDER@", str(self.folder))
        (packages,) = self._environment("runner.txt").glob("lib/python3*/site-packages")
        (packages / "runner_saboteur.py").write_text(source)
        (packages / "runner_saboteur.pth").write_text("import runner_saboteur\n")  # by site, before the program
        self.end_standby()  # what has been started without it

    def _environment(self, lock: str) -> Path:
        """Where the twin builds the environment of a lock."""
        content = (self.dispatching.repository / "workflows" / lock).read_bytes()
        return self.twinops / "envs" / hashlib.sha256(content).hexdigest()[:16]

    # -- what happens ---------------------------------------------------------------------------------------------

    def payload(
        self,
        mark: str,
        do: str = "nothing",
        amount: int = 0,
        *,
        workflow: str = "probe",
        idempotent: bool = False,
        timeout_s: int = 60,
        faults: list[dict[str, Any]] | None = None,
        runner: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """What the rule makes of an event, and what is to go wrong: in the functions, and in the first run-once."""
        payload = {
            **self.dispatching.payload(mark=mark, do=do, amount=amount),
            "workflow": workflow,
            "concurrency": WORKFLOWS[workflow],
            "idempotent": idempotent,
            "timeout_s": timeout_s,
        }
        payload["detail"]["faults"] = faults or []
        if runner:
            (self.folder / "runs" / f"{self.run_id(payload)}.1").write_text(json.dumps(runner))
        return payload

    @staticmethod
    def run_id(payload: dict[str, Any]) -> str:
        return str(claim_of(payload, "sandbox")["run_id"])

    def send(self, payload: dict[str, Any]) -> str:
        """Deliver an event to the dispatcher as EventBridge does: nobody waits, Lambda retries. The run's id."""
        self.own.client("lambda").invoke(
            FunctionName=NAMES.function("dispatch"), InvocationType="Event", Payload=json.dumps(payload).encode()
        )
        run_id = self.run_id(payload)
        self.sent[run_id] = payload["detail"]["parameters"]["mark"]
        return run_id

    def watch(self) -> list[dict[str, Any]]:
        """A tick of the watchdog; what it did."""
        answer = self.dispatching.invoke("watchdog", {})
        assert not answer["failed"], answer
        return list(answer["done"])

    def age(self, run_id: str, **minutes: int) -> None:
        """Set times of a run back: ``age(run_id, heartbeat_at=30)``."""
        now = datetime.now(timezone.utc)
        changes = {name: timestamp(now - timedelta(minutes=ago)) for name, ago in minutes.items()}
        assert self.ledger._change_run(run_id, changes, condition="attribute_exists(pk)", values={})

    # -- what came of it ------------------------------------------------------------------------------------------

    def run(self, run_id: str) -> Run:
        found = self.ledger.run(run_id)
        assert found is not None, f"run {run_id} is not in the ledger"
        return found

    def reach(self, run_id: str, *states: str, within_s: float = END_WITHIN_S) -> Run:
        """The run, once it is in one of the states."""
        deadline = time.monotonic() + within_s
        while (run := self.ledger.run(run_id)) is None or run["state"] not in states:
            assert time.monotonic() < deadline, f"expected {' or '.join(states)} within {within_s:g} s, got {run}"
            time.sleep(0.1)
        return run

    def end(self, run_id: str, within_s: float = END_WITHIN_S) -> Run:
        """The run at its end, which somebody was mailed once by then."""
        run = self.reach(run_id, *SETTLED, within_s=within_s)
        eventually(lambda: self.mails(run_id))
        assert len(self.mails(run_id)) == 1
        return run

    def end_of_repeated(self, run_id: str) -> Run:
        """The same for a run that may be LOST, and repeated, before its end."""
        self.reach(run_id, *runs.FINISHED)
        return self.end(run_id)

    def await_kill(self, run_id: str) -> None:
        """Until the first run-once of a run has been killed at the step that was asked for."""
        killed = self.folder / "runs" / f"{run_id}.1.killed"
        eventually(lambda: killed.exists() and killed.read_text(), END_WITHIN_S)
        eventually(lambda: not Path("/proc", killed.read_text()).exists())

    def runner(self, run_id: str) -> int:
        """Id of the process that carries a run out, or did."""
        return int(json.loads((self.twinops / "runs" / run_id / "status.json").read_text())["pid"])

    def scripts(self, run_id: str) -> list[int]:
        """Ids of the processes of a run's script."""
        return [
            process.pid for process in processes.with_environment(f"TWINOPS_RUN={self.twinops}/runs/{run_id}/run.json")
        ]

    def mails(self, run_id: str) -> list[str]:
        return [mail for mail in self.own.mails() if run_id in mail]

    def count(self, mark: str, what: str = "effects") -> int:
        """How often the script had its effect, or (``executions``) began."""
        file = self.folder / "counters" / f"{mark}.{what}"
        return file.stat().st_size if file.exists() else 0

    def attempts(self, run_id: str, function: str) -> int:
        """How often a function was called with the event of a run."""
        file = self.folder / "attempts" / f"{self.run(run_id)['event_id']}.{function}"
        return file.stat().st_size if file.exists() else 0

    def said(self, function: str, run_id: str, outcome: str) -> int:
        """How often a function logged an outcome of a run."""
        pages = self.own.client("logs").get_paginator("filter_log_events")
        messages = (
            event["message"]
            for page in pages.paginate(logGroupName=f"/aws/lambda/{NAMES.function(function)}")
            for event in page["events"]
        )
        return sum(f'"run_id": "{run_id}", "outcome": "{outcome}"' in message for message in messages)

    def log(self, run: Run) -> list[str]:
        stream = {"logGroupName": run["log_group"], "logStreamName": run["log_stream"]}
        events = self.own.client("logs").get_log_events(**stream, startFromHead=True)["events"]
        return [event["message"] for event in events]

    # -- the twin -------------------------------------------------------------------------------------------------

    def twin_status(self) -> str:
        answer = self.own.client("sagemaker").describe_notebook_instance(NotebookInstanceName=NAMES.twin("deployment"))
        return str(answer["NotebookInstanceStatus"])

    def twin(self, action: str, then: str) -> None:
        """``start`` or ``stop`` the twin, and wait for a status (empty: for none)."""
        operation = getattr(self.own.client("sagemaker"), f"{action}_notebook_instance")
        operation(NotebookInstanceName=NAMES.twin("deployment"))
        eventually(lambda: self.twin_status() == then or not then, 90)

    def processes_of_twin(self, *words: str) -> list[int]:
        """Ids of the twin's processes whose command line has all the words."""
        mine = f"{MARKER}={self.own.settings.home}", f"TWINOPS_NOTEBOOK={NAMES.twin('deployment')}"
        found = (process.pid for process in processes.with_environment(*mine))
        return [pid for pid in found if all(word in processes.command_line(pid) for word in words)]

    def end_standby(self) -> None:
        """Kill whoever stands by for runs or makes others stand by, but none that has a run: the next finds nobody."""
        for pid in set(self.standby()) - self._at_work():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        eventually(lambda: not set(self.standby()) - self._at_work())

    def _at_work(self) -> set[int]:
        """Ids of the processes that carry runs out, or did until they were killed."""
        found = (json.loads(file.read_text()) for file in (self.twinops / "runs").glob("*/status.json"))
        return {status["pid"] for status in found if status["state"] == runs.RUNNING}

    def standby(self) -> list[int]:
        """Ids of the keeper and the runners that it has forked, also of those that are at work."""
        return self.processes_of_twin("toolbox.standby")

    def jupyter(self) -> int:
        (pid,) = self.processes_of_twin("jupyter_identity.py")
        return pid

    def jupyter_url(self) -> str:
        """Where the twin's Jupyter listens."""
        words = Path(f"/proc/{self.jupyter()}/cmdline").read_text().split("\0")
        port = next(word.rpartition("=")[2] for word in words if word.startswith("--ServerApp.port="))
        return f"http://127.0.0.1:{port}"

    @contextmanager
    def jupyter_killed(self) -> Iterator[None]:
        """The twin has no Jupyter."""
        start = self._start_again()
        os.kill(self.jupyter(), signal.SIGKILL)
        eventually(lambda: not self.processes_of_twin("jupyter_identity.py"))
        try:
            yield
        finally:
            start()

    def _start_again(self) -> Callable[[], None]:
        """What starts Jupyter as it runs now, unless it does; and waits until it answers."""
        pid = self.jupyter()
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
        pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
        environment = dict(pair.split("=", 1) for pair in pairs if pair)
        folder = Path(f"/proc/{pid}/cwd").readlink()
        url = self.jupyter_url()
        log = self.own.settings.home / f"logs/notebook-{NAMES.twin('deployment')}.log"

        def start() -> None:
            if not self.processes_of_twin("jupyter_identity.py"):
                popen, _ = processes.start(words, environment=environment, log=log, directory=folder)
                threading.Thread(target=popen.wait, daemon=True).start()  # reap it
                eventually(lambda: answers(f"{url}/api"))

        return start

    @contextmanager
    def jupyter_restarted(self) -> Iterator[None]:
        """As soon as the twin's Jupyter dies it is started again, as on a notebook instance."""
        start, done = self._start_again(), threading.Event()

        def watch() -> None:
            while not done.wait(0.1):
                start()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            start()

    @contextmanager
    def outage(self, mode: str, for_s: float = 0) -> Iterator[None]:
        """The ledger is away (or throttled) while the body runs, and for a while after."""
        self.proxy.switch(mode)
        try:
            yield
            time.sleep(for_s)
        finally:
            self.proxy.switch("open")


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 (loopback)
    except OSError:
        return False
    return True


def fault(
    step: str, when: str, do: str, *, function: str = "dispatch", attempts: tuple[int, ...] = (1,)
) -> dict[str, Any]:
    """One thing that goes wrong in a function; see ``saboteur.py``."""
    return {"function": function, "attempts": list(attempts), "step": step, "when": when, "do": do}
