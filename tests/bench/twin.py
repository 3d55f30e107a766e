"""A sandbox whose deployment twin runs the workflows of the benchmark, and the floor that it is compared with."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from twinops.aws.ledger import Ledger
from twinops.names import Names
from twinops.runs import FINISHED, Run, parse

from dispatch import terminal
from dispatch.transport import Transport
from sandbox import lifecycle
from sandbox.account import session
from sandbox.settings import ACCOUNT, CLONE, Settings
from tests.bench.latency import RunTimes
from tests.sandbox.dispatching import make_repository

NAMES = Names("sandbox", ACCOUNT)
WITHIN_S = 120
DEVICES = 3
"""Of the inventory, without which no playbook runs; none of them is started."""
ROLES = tuple(f"assumed-role/{NAMES.role(purpose)}/" for purpose in ("dispatch", "deployment-twin"))

SPEC = """\
description: {what} of the benchmark.
owner: mlops@example.com
entrypoint: {entrypoint}
event: {{source: [twinops.bench], detail-type: [{name}]}}
timeout_s: 600
concurrency: {concurrency}
"""
SCRIPT = """\
import time; first_line_at = time.time()
import os, pathlib
pathlib.Path(os.environ["TWINOPS_OUTPUT"], "first-line").write_text(repr(first_line_at))
"""
NOTEBOOK = {
    "cells": [
        {
            "cell_type": "code",
            "id": "stamp",
            "source": SCRIPT,
            "metadata": {},
            "execution_count": None,
            "outputs": [],
        }
    ],
    "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}
WORKFLOWS = {
    "bench_script": ("run.py", "queue"),
    "bench_beside": ("run.py", "allow"),
    "bench_notebook": ("notebook.ipynb", "queue"),
}

FLOOR_HANDLER = '''\
"""The least that starting something at a Jupyter terminal takes: no claim, no new terminal, no acknowledgement."""
import http.cookiejar, json, time, urllib.request
import websocket


def floor(event, context):
    jar = http.cookiejar.CookieJar()
    urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar)).open(event["login"], timeout=10).read()
    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in jar)
    socket = websocket.create_connection(event["terminal"], cookie=cookies, origin=event["origin"], timeout=10)
    socket.send(json.dumps(["stdin", event["line"] + "\\r"]))
    while event["answer"] not in socket.recv():
        pass
    answered_at = time.time()
    socket.close()
    return answered_at
'''

Found = TypeVar("Found")


class BenchError(Exception):
    """The benchmark could not measure; says what it expected."""


def until(find: Callable[[], Found | None], what: str, *, pause_s: float = 0.1, within_s: float = WITHIN_S) -> Found:
    """The first answer of ``find`` that is true."""
    deadline = time.monotonic() + within_s
    while not (found := find()):
        if time.monotonic() > deadline:
            raise BenchError(f"{what}: expected it within {within_s} s")
        time.sleep(pause_s)
    return found


@contextmanager
def deployed(settings: Settings) -> Iterator[Twin]:
    """A new cloud with the workflows of the benchmark; gone, with everything it wrote, when the block ends."""
    quiet = lambda text: None  # noqa: E731
    settings = replace(settings, devices=DEVICES)
    lifecycle.clean(settings, quiet)
    try:
        lifecycle.up_endpoint(settings, quiet)
        twin = Twin(settings)
        twin.deploy()
        yield twin
    finally:
        lifecycle.clean(settings, quiet)


class Twin:
    """The deployment twin, and what comes before it on a run's way."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.home = settings.home / "notebooks" / NAMES.twin("deployment")
        self.client: Callable[[str], Any] = session(settings).client
        self.ledger = Ledger(NAMES.ledger, self.client("dynamodb"))
        self._rounds = 0

    # -- deployed -------------------------------------------------------------------------------------------------

    def deploy(self) -> None:
        """The cloud with its twins, the environments of runs, and the function that measures the floor."""
        repository = self._repository
        make_repository(repository, workflows())
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SANDBOX_"))},
            **self.settings.environment,
            "SANDBOX_DEVICES": str(DEVICES),
        }
        playbook = [Path(sys.executable).with_name("ansible-playbook"), "playbooks/cloud.yml", "-l", "sandbox"]
        done = subprocess.run(
            [*playbook, "-e", f"twins_repository={repository}", "-e", f"twinops_repository={repository}"],
            cwd=CLONE, env=environment, check=False, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        if done.returncode:
            raise BenchError(f"playbooks/cloud.yml exited with {done.returncode}\n{done.stdout[-3000:]}")
        self.client("events").disable_rule(Name=NAMES.watchdog_rule)  # its calls are not those of a run
        until(self.python.is_file, "environment of runs", within_s=300)
        self._make_floor_function()

    def _make_floor_function(self) -> None:
        functions = self.client("lambda")
        dispatch = functions.get_function_configuration(FunctionName=NAMES.function("dispatch"))
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("floor.py", FLOOR_HANDLER)
        functions.create_function(
            FunctionName="bench-floor", Handler="floor.floor", Code={"ZipFile": buffer.getvalue()},
            Role=dispatch["Role"], Runtime=dispatch["Runtime"], Timeout=60,
            Layers=[layer["Arn"] for layer in dispatch["Layers"]],
        )  # fmt: skip

    # -- the floor ------------------------------------------------------------------------------------------------

    @cached_property
    def _terminal(self) -> terminal.Terminal:
        """A terminal that stays, at its prompt."""
        transport = Transport()
        made = transport.run(terminal.create(self._login()))
        transport.run(terminal.ring(made, "true"))
        return made

    def _login(self) -> str:
        """A presigned URL. For the floor it is there already: making it is a part of ours."""
        name = NAMES.twin("deployment")
        answer = self.client("sagemaker").create_presigned_notebook_instance_url(NotebookInstanceName=name)
        return str(answer["AuthorizedUrl"])

    def floor(self, program: str) -> float:
        """Seconds to have a terminal that is there start a program, by a function that does nothing else."""
        self._rounds += 1
        url = self._terminal.url
        event = {
            "login": self._login(),
            "origin": url.partition("/api/")[0],
            "terminal": url.replace("http", "ws", 1).replace("/api/terminals/", "/terminals/websocket/"),
            "line": f"{program} && echo done-$((1000 + {self._rounds}))",  # what is typed is echoed, without the sum
            "answer": f"done-{1000 + self._rounds}",
        }
        functions, payload = self.client("lambda"), json.dumps(event).encode()
        started_at = time.time()
        answer = functions.invoke(FunctionName="bench-floor", Payload=payload)
        said = json.load(answer["Payload"])
        if "FunctionError" in answer:
            raise BenchError(f"bench-floor: {said}")
        return float(said) - started_at  # not to its return, in which the emulator waits for the function's log

    @property
    def python(self) -> Path:
        """The Python that workflows run in, of the environment that the twin builds last of those it needs."""
        lock = (self._repository / "workflows/requirements.txt").read_bytes()
        return self.home / "SageMaker/twinops/envs" / hashlib.sha256(lock).hexdigest()[:16] / "bin/python"

    @property
    def _repository(self) -> Path:
        return self.settings.home / "repository"

    def papermill(self) -> float:
        """Seconds to the first cell of the notebook, executed by papermill without twinops."""
        folder = self.settings.home / "papermill"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "notebook.ipynb").write_text(json.dumps(NOTEBOOK))
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "TWINOPS_OUTPUT": str(folder)}
        started_at = time.time()
        subprocess.run(
            [self.python, "-m", "papermill", "--log-output", "notebook.ipynb", "executed.ipynb"],
            cwd=folder, env=environment, check=True, capture_output=True, timeout=WITHIN_S,
        )  # fmt: skip
        return float((folder / "first-line").read_text()) - started_at

    # -- ours -----------------------------------------------------------------------------------------------------

    def put(self, workflow: str, count: int = 1) -> list[str]:
        """Put events of a workflow (at most 10); their ids."""
        entries = [{"Source": "twinops.bench", "DetailType": workflow, "Detail": "{}"}] * count
        answer = self.client("events").put_events(Entries=entries)
        return [str(entry["EventId"]) for entry in answer["Entries"]]

    def run(self, workflow: str) -> RunTimes:
        """One run from its event to its end, and after it nothing is at work any more."""
        calls = self.settings.home / "calls.jsonl"
        mark, put_at = calls.stat().st_size, time.time()
        (event_id,) = self.put(workflow)
        run = until(lambda: self.settled(event_id), f"end of a run of {workflow}")
        time.sleep(2)  # the dispatcher sees the acknowledgement, and deletes its terminal
        stamp = self.home / f"SageMaker/twinops/runs/{run['run_id']}/output/first-line"
        return RunTimes(
            claimed_s=parse(run["claimed_at"]).timestamp() - put_at,
            running_s=parse(run["started_at"]).timestamp() - put_at,
            first_line_s=float(stamp.read_text()) - put_at,
            ended_s=parse(run["ended_at"]).timestamp() - put_at,
            ledger_calls=ledger_calls(calls, mark),
        )

    def settled(self, event_id: str) -> Run | None:
        """The run of an event, when it has ended well, was mailed, and has left its turn to the next."""
        run = next((run for run in self.ledger.runs(limit=60) if run["event_id"] == event_id), None)
        if run is None or run["state"] not in FINISHED or "unmailed" in run:
            return None
        if run["state"] != "SUCCEEDED":
            raise BenchError(f"run {run['run_id']}: expected SUCCEEDED, it is {run['state']}: {run.get('reason')}")
        return None if self.ledger.turns.turn(run["workflow"]).get("holder") == run["run_id"] else run


def ledger_calls(log: Path, mark: int) -> dict[str, int]:
    """The calls on the ledger by functions and twin that were logged after ``mark``."""
    with log.open("rb") as file:
        file.seek(mark)
        calls = [json.loads(line) for line in file]
    ours = [call for call in calls if call["service"] == "dynamodb" and any(role in call["caller"] for role in ROLES)]
    return dict(Counter(call["action"] for call in ours))


def workflows() -> dict[str, dict[str, str]]:
    """The workflows of the benchmark: name -> file -> content."""
    found = {}
    for name, (entrypoint, concurrency) in WORKFLOWS.items():
        is_script = entrypoint.endswith(".py")
        what = "Script" if is_script else "Notebook"
        spec = SPEC.format(what=what, name=name, entrypoint=entrypoint, concurrency=concurrency)
        found[name] = {"workflow.yml": spec, entrypoint: SCRIPT if is_script else json.dumps(NOTEBOOK)}
    return found
