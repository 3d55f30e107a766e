"""The log of AWS calls: one JSON line for every request that reaches the endpoint (``calls.jsonl``)."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from ministack import app as ministack_app
from ministack.core import iam_actions, iam_evaluator, router

from sandbox.settings import ACCOUNT

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

# The name of a query's action is in the body; the rest of a large upload is not needed to tell what it is.
BODY_KEPT_BYTES = 64 * 1024

RPC_PATH = re.compile(r"^/service/[^/]+/operation/(\w+)$")
READS = re.compile(
    r"(Get|List|Describe|Head|BatchGet|Query|Scan|Search|Lookup|Select|Simulate|Test|Validate|Check|Filter|StartQuery"
    r"|StopQuery|TransactGet|AssumeRole|DecodeAuthorizationMessage)"
)
THROTTLED = "twinops.throttled"
"""Key of a request's scope: it was above a rate, whatever status its service answers then."""

READING_SQL = ("select", "with", "show", "explain")


class CallLog:
    """Wraps an ASGI application and writes a line for each AWS call it answers."""

    def __init__(self, application: Application, path: Path) -> None:
        self._application = application
        self._file = path.open("w", buffering=1)  # a new cloud begins a new log

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/_"):
            await self._application(scope, receive, send)
            return
        at, body, size, written = time.time(), bytearray(), 0, False

        async def receive_and_keep() -> Message:
            nonlocal size
            message = await receive()
            chunk = message.get("body", b"")
            size += len(chunk)
            body.extend(chunk[: BODY_KEPT_BYTES - len(body)])
            return message

        async def write_and_send(message: Message) -> None:
            nonlocal written
            if message["type"] == "http.response.start" and not written:
                # Before the answer leaves: who got it finds its call in the log.
                self._write(at, scope, bytes(body), size, message["status"])
                written = True
            await send(message)

        try:
            await self._application(scope, receive_and_keep, write_and_send)
        finally:
            if not written:
                self._write(at, scope, bytes(body), size, 0)

    def _write(self, at: float, scope: Message, body: bytes, size: int, status: int) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        service, action = identify(scope["method"], scope["path"], headers, body, query)
        line = {
            "at": datetime.fromtimestamp(at, tz=timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "service": service,
            "action": action,
            "write": is_write(service, action, scope["method"], body),
            "status": status,
            "throttled": scope.get(THROTTLED, False),
            "bytes_in": size,
            "caller": _caller(router.extract_access_key_id(headers, query)),
        }
        self._file.write(json.dumps(line) + "\n")


def identify(
    method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, list[str]]
) -> tuple[str, str]:
    """The service a request was signed for, and the operation it asks for."""
    parameters = ministack_app._routing_params(method, path, headers, body, query)
    service = router.detect_service(method, path, headers, parameters)
    rpc = RPC_PATH.match(path)
    if rpc:
        return service, rpc.group(1)
    if "x-amz-target" in headers:
        return service, headers["x-amz-target"].rpartition(".")[2]
    action = iam_actions.extract_iam_action(service, method, path, headers, body, parameters)
    return service, action.partition(":")[2] if action else method


def is_write(service: str, action: str, method: str, body: bytes) -> bool:
    """Whether a call may change something. In doubt it does: what must not write is checked by this."""
    if service == "s3":
        return method not in ("GET", "HEAD")
    if service == "redshift-data" and action == "ExecuteStatement":
        try:
            return not str(json.loads(body).get("Sql", "")).lstrip(" \n\t(").lower().startswith(READING_SQL)
        except ValueError:
            return True
    return READS.match(action) is None


def _caller(access_key_id: str) -> str:
    credential = iam_evaluator.resolve_credential(access_key_id, ACCOUNT) if access_key_id else None
    return getattr(credential, "principal_arn", "") or access_key_id or "anonymous"
