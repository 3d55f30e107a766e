"""Faults inside ``run-once``: a ``.pth`` file in the runner's environment imports this. Tests only.

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
    os.environ["AWS_ENDPOINT_URL_DYNAMODB"] = (FOLDER / "ledger_url").read_text()
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
        killed.touch()
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


if "toolbox.run_once" in sys.orig_argv:
    install(*sys.orig_argv[sys.orig_argv.index("toolbox.run_once") + 1 :][:2])
