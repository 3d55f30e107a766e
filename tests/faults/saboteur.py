"""The functions' real handlers, with faults at the steps that an event asks for. Runs in Lambda, in tests only.

The harness puts this file into the deployed package and makes it the handler. An event says in ``detail.faults`` what
goes wrong: ``{"function": "dispatch", "attempts": [1], "step": "Send", "when": "before", "do": "kill"}``. Steps are the
terminal protocol's (``Get`` ... ``Delete``), methods of the ledger and of the doorbell. Nothing else is changed.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twinops.aws.ledger import Ledger, LedgerError

from . import handler
from .doorbell import Doorbell
from .transport import Transport

FOLDER = Path(os.environ["FAULTS_FOLDER"])
PAUSE_S = 8

_faults: list[Mapping[str, Any]] = []


def dispatch(event: Mapping[str, Any], context: Any) -> Any:
    return _with_faults("dispatch", event, context)


def backup(event: Mapping[str, Any], context: Any) -> Any:
    return _with_faults("backup", event, context)


def watchdog(event: Mapping[str, Any], context: Any) -> Any:
    return _with_faults("watchdog", event, context)


def _with_faults(function: str, event: Mapping[str, Any], context: Any) -> Any:
    original = event
    while "requestPayload" in original:
        original = original["requestPayload"]
    asked = (original.get("detail") or {}).get("faults", [])
    _faults.clear()
    if asked:
        attempt = append(f"attempts/{original['event_id']}.{function}", b"x")
        _faults.extend(fault for fault in asked if fault["function"] == function and attempt in fault["attempts"])
    remember(os.environ["AWS_SESSION_TOKEN"])
    return getattr(handler, function)(event, context)


def append(name: str, data: bytes) -> int:
    """Append to a file of the harness, in one write; the file's size then."""
    descriptor = os.open(FOLDER / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, data)
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def remember(secret: str) -> None:
    """Note a secret for the test that looks for it in all logs."""
    append("secrets", f"{secret}\n".encode())


def _reach(step: str, when: str, transport: Transport | None = None) -> None:
    for fault in _faults:
        if (fault["step"], fault["when"]) != (step, when):
            continue
        if fault["do"] == "kill":
            os.kill(fault.get("pid") or os.getpid(), signal.SIGKILL)
        elif fault["do"] == "drop" and transport is not None and transport._socket is not None:
            transport._socket.sock.shutdown(socket.SHUT_RDWR)
        elif fault["do"] == "pause":
            time.sleep(PAUSE_S)
        elif fault["do"] == "away":
            raise LedgerError(f"ledger: {step}: away, says the test")


def _wrap(owner: type, name: str) -> None:
    original = getattr(owner, name)

    def wrapped(self: Any, *arguments: Any, **options: Any) -> Any:
        _reach(name, "before")
        answer = original(self, *arguments, **options)
        _reach(name, "after")
        return answer

    setattr(owner, name, wrapped)


def _wrap_transport(original: Callable[..., Any]) -> None:
    def do(self: Transport, step: Any) -> Any:
        name = type(step).__name__
        _reach(name, "before", self)
        answer = original(self, step)
        for cookie in self._cookies().values():
            remember(cookie)
        _reach(name, "after", self)
        return answer

    Transport._do = do  # type: ignore[method-assign]


def _wrap_presigned_url(original: Callable[..., str]) -> None:
    def presigned_url(self: Doorbell) -> str:
        others = (fault["do"] for fault in _faults if fault["step"] == "url")
        url = next(others, None) or original(self)
        remember(url.rpartition("authToken=")[2])
        return url

    Doorbell._presigned_url = presigned_url  # type: ignore[method-assign]


for _method in ("claim", "admit", "release", "reclaim", "run"):
    _wrap(Ledger, _method)
_wrap_transport(Transport._do)
_wrap_presigned_url(Doorbell._presigned_url)
_wrap(Doorbell, "_presigned_url")
