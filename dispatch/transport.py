"""Does what the terminal protocol asks for: HTTP with urllib, WebSocket with websocket-client (the Lambda's layer).

URLs and cookies are secrets here. No exception leaves this file: failures become a :class:`Reply` or a marker, so that
nothing of a library's message (which may quote a URL or headers) is ever logged.
"""

from __future__ import annotations

import http.client
import http.cookiejar
import urllib.error
import urllib.request
from collections.abc import Generator
from typing import Any, TypeVar
from urllib.parse import urlsplit

import websocket

from .terminal import CLOSED, SILENCE, Delete, Get, Open, Post, Receive, Reply, Send, Step

HTTP_TIMEOUT_S = 10

Result = TypeVar("Result")


class Transport:
    """One visitor of one Jupyter server: a cookie jar and at most one WebSocket."""

    def __init__(self) -> None:
        self._jar = http.cookiejar.CookieJar()
        self._http = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self._jar))
        self._socket: websocket.WebSocket | None = None

    def run(self, steps: Generator[Step, Any, Result]) -> Result:
        """Carry out a protocol to its end; its result, or its error."""
        try:
            step = next(steps)
            while True:
                step = steps.send(self._do(step))
        except StopIteration as end:
            result: Result = end.value
            return result

    def _do(self, step: Step) -> Reply | str | None:
        if isinstance(step, (Get, Post, Delete)):
            return self._request(step)
        if isinstance(step, Open):
            return self._open(step.url)
        if isinstance(step, Receive):
            return self._receive(step.timeout_s)
        if isinstance(step, Send):
            return self._send(step.text)
        self._close()
        return None

    def _request(self, step: Get | Post | Delete) -> Reply:
        request = urllib.request.Request(step.url, method=type(step).__name__.upper())  # noqa: S310
        if isinstance(step, Post):
            request.data = step.body.encode()
        for name, value in () if isinstance(step, Get) else step.headers.items():
            request.add_header(name, value)
        try:
            with self._http.open(request, timeout=HTTP_TIMEOUT_S) as answer:
                return Reply(answer.status, answer.read().decode("utf-8", "replace"), self._cookies())
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, "", self._cookies())
        except (OSError, http.client.HTTPException):
            return Reply(0, "", self._cookies())

    def _open(self, url: str) -> Reply:
        parts = urlsplit(url)
        origin = f"{'https' if parts.scheme == 'wss' else 'http'}://{parts.netloc}"
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies().items())
        try:
            self._socket = websocket.create_connection(url, cookie=cookies, origin=origin, timeout=HTTP_TIMEOUT_S)
        except websocket.WebSocketBadStatusException as error:
            return Reply(error.status_code)
        except (websocket.WebSocketException, OSError):
            return Reply(0)
        return Reply(101)

    def _receive(self, timeout_s: float) -> str:
        if self._socket is None:
            return CLOSED
        try:
            self._socket.settimeout(timeout_s)
            message = self._socket.recv()
        except (websocket.WebSocketTimeoutException, TimeoutError):
            return SILENCE
        except (websocket.WebSocketException, OSError):
            return CLOSED
        text = message.decode("utf-8", "replace") if isinstance(message, bytes) else message
        return text if self._socket.connected else CLOSED

    def _send(self, text: str) -> str | None:
        if self._socket is None:
            return CLOSED
        try:
            self._socket.send(text)
        except (websocket.WebSocketException, OSError):
            return CLOSED
        return None

    def _close(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.close(timeout=2)

    def _cookies(self) -> dict[str, str]:
        return {cookie.name: cookie.value or "" for cookie in self._jar}
