"""AWS's request rates and answering times, for benchmarks; off unless the settings ask for them.

A token bucket for each rate, filled for one second at the start. A request above it is answered as its service does:
clients that AWS would throttle are throttled here, and ``calls.jsonl`` says so.
"""

from __future__ import annotations

import asyncio
import time
from urllib.parse import parse_qs

from sandbox.emulator import answers
from sandbox.emulator.answers import Answer
from sandbox.emulator.calls import THROTTLED, Application, Message, Receive, Send, identify

MESSAGE = "Rate exceeded"


class Limits:
    """Wraps an ASGI application: waits, and answers for it what is above a rate."""

    def __init__(self, application: Application, rates: dict[str, float], latency_ms: int) -> None:
        self._application = application
        self._buckets = {operation: Bucket(rate) for operation, rate in rates.items()}
        self._latency_s = latency_ms / 1000

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/_"):
            await self._application(scope, receive, send)
            return
        if self._latency_s:
            await asyncio.sleep(self._latency_s)
        if not self._buckets:
            await self._application(scope, receive, send)
            return
        body = await _read(receive)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        service, action = identify(scope["method"], scope["path"], headers, body, query)
        bucket = self._buckets.get(f"{service}:{action}") or self._buckets.get(f"{service}:*")
        if bucket is None or bucket.take():
            await self._application(scope, _replay(body, receive), send)
            return
        scope[THROTTLED] = True
        status, answer_headers, content = throttled(service, headers)
        raw = [(name.lower().encode(), value.encode()) for name, value in answer_headers.items()]
        raw.append((b"content-length", str(len(content)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": content})


class Bucket:
    """``rate`` calls a second on average, and as many at once."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._tokens = max(rate, 1.0)
        self._filled_at = time.monotonic()

    def take(self) -> bool:
        """Take a token; False when there is none."""
        now = time.monotonic()
        self._tokens = min(max(self._rate, 1.0), self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def throttled(service: str, headers: dict[str, str]) -> Answer:
    """What a service answers to a call above its rate: code and status differ."""
    if service == "lambda":
        return answers.error(service, headers, "TooManyRequestsException", MESSAGE, 429)
    if service == "ec2":
        return answers.error(service, headers, "RequestLimitExceeded", MESSAGE, 503)
    if service == "s3":
        return answers.error(service, headers, "SlowDown", MESSAGE, 503)
    code = "Throttling" if headers.get("content-type", "").startswith(answers.FORM) else "ThrottlingException"
    return answers.error(service, headers, code, MESSAGE, 400)


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body.extend(message.get("body", b""))
        if not message.get("more_body"):
            return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A body that was read already, once more."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return pending.pop() if pending else await receive()

    return again
