"""Faults inside ``run-once``: a ``.pth`` file in the runner's environment imports this. Tests only.

It does its work in a Python that is started for one run, and in a runner that has stood by when that gets its run.

What goes wrong in an attempt is in ``<FOLDER>/runs/<run id>.<epoch>``, JSON: ``stop`` = [operation, n, before|after]:
it is killed at that AWS call; ``skew_s`` = how far the twin's clock is ahead; ``heartbeat_s`` = pause between
heartbeats.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

FOLDER = Path("@FOLDER@")


def install(run_id: str, epoch: str) -> None:
    file = FOLDER / "runs" / f"{run_id}.{epoch}"
    plan = json.loads(file.read_text()) if file.exists() else {}
    _wrap_aws(plan.get("stop", ["", 0, ""]), file.with_name(f"{file.name}.killed"))
    if "skew_s" in plan:
        _skew(plan["skew_s"])
    if "heartbeat_s" in plan:
        _hurry(plan["heartbeat_s"])


def _wrap_aws(stop: list[Any], killed: Path) -> None:
    from botocore.client import BaseClient

    original, calls = BaseClient._make_api_call, Counter()
    operation, number, when = stop

    def die() -> None:
        killed.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)

    def call(self: Any, name: str, request: Any) -> Any:
        calls[name] += 1
        due = (name, calls[name]) == (operation, number)
        if due and when == "before":
            die()
        answer = original(self, name, request)
        _remember(self._request_signer._credentials.get_frozen_credentials().token)
        if due:
            die()
        return answer

    BaseClient._make_api_call = call


def _remember(token: str | None) -> None:
    if token:
        with (FOLDER / "secrets").open("a") as secrets:
            secrets.write(f"{token}\n")


def _skew(seconds: float) -> None:
    from datetime import datetime, timedelta, timezone

    from twinops import runs

    runs.now = lambda: runs.timestamp(datetime.now(timezone.utc) + timedelta(seconds=seconds))


def _hurry(pause_s: float) -> None:
    import threading

    wait = threading.Event.wait
    threading.Event.wait = lambda self, timeout=None: wait(self, pause_s if timeout == 30 else timeout)


def _reach_the_ledger_by_the_proxy() -> None:
    """Not by a variable: who stands by compares its variables with those of who asks for a run."""
    from botocore.session import Session

    original = Session.create_client

    def create_client(self: Session, service: str, **options: Any) -> Any:
        if service == "dynamodb":
            options["endpoint_url"] = (FOLDER / "ledger_url").read_text()
        return original(self, service, **options)

    Session.create_client = create_client


def _install_when_a_run_comes() -> None:
    from toolbox import run_once

    original = run_once.main

    def main(arguments: list[str]) -> int:
        install(*arguments[:2])
        return original(arguments)

    run_once.main = main


if "toolbox.run_once" in sys.orig_argv:
    _reach_the_ledger_by_the_proxy()
    install(*sys.orig_argv[sys.orig_argv.index("toolbox.run_once") + 1 :][:2])
elif "toolbox.standby" in sys.orig_argv:
    _reach_the_ledger_by_the_proxy()
    _install_when_a_run_comes()
