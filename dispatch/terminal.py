"""How to type one line into a Jupyter terminal, as a protocol without I/O.

:func:`ring` is a generator: it yields what to do next (:class:`Get`, :class:`Open`, :class:`Receive` ...) and is sent
what came of it. So every order of messages can be tested without a server; ``transport.py`` does the I/O.

    login -> XSRF cookie -> POST a new terminal -> WebSocket -> prompt -> one line -> close ... -> DELETE the terminal

A terminal has no exit code and no acknowledgement: nothing that it prints is interpreted, except to see that a prompt
is there, because a line sent before the prompt may be cut. Whoever calls has to look elsewhere for what came of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Union
from urllib.parse import quote, urlsplit

from twinops.errors import TwinopsError

LONGEST_LINE_BYTES = 1024
"""A terminal cuts what it is sent before its prompt at 4096 bytes; ours stays far away from that."""

MOST_MESSAGES = 1000
"""A shell that has not come to a prompt after so many messages never will."""

_XSRF_COOKIE = "_xsrf"
_XSRF_PAGES = ("/tree", "/api/kernelspecs", "/lab")
"""Pages that set the XSRF cookie, in classic Notebook, bare jupyter-server and JupyterLab."""

_HINTS = {
    0: ", no answer",
    403: "; a bare Jupyter shows its login page to a presigned URL that has expired, and refuses what comes after it",
    404: "; are terminals switched on on the twin?",
}
_PROMPT = re.compile(r"[$#%>❯➜] ?$")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_=>]|[\r\x07]")


class TerminalError(TwinopsError):
    """The terminal could not be reached or did not get to a prompt. Never contains the URL or a cookie."""


@dataclass(frozen=True)
class Get:
    """GET a page, following redirects. Answered by a :class:`Reply`."""

    url: str = field(repr=False)


@dataclass(frozen=True)
class Post:
    """POST a JSON body. Answered by a :class:`Reply`."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: str


@dataclass(frozen=True)
class Delete:
    """DELETE something. Answered by a :class:`Reply`."""

    url: str
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class Open:
    """Open a WebSocket. Answered by a :class:`Reply`; status 101 is success."""

    url: str


@dataclass(frozen=True)
class Receive:
    """Wait for a message. Answered by its text, by :data:`SILENCE` or by :data:`CLOSED`."""

    timeout_s: float


@dataclass(frozen=True)
class Send:
    """Send a message. Answered by ``None`` or :data:`CLOSED`."""

    text: str


@dataclass(frozen=True)
class Close:
    """Close the WebSocket. Answered by ``None``."""


@dataclass(frozen=True)
class Reply:
    """What a server answered; ``cookies`` is everything in the jar by now."""

    status: int
    body: str = ""
    cookies: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Terminal:
    """A terminal that was made, and what is needed to delete it."""

    name: str
    url: str
    xsrf: str = field(repr=False)


SILENCE = "<silence>"
CLOSED = "<closed>"

Step = Union[Get, Post, Delete, Open, Receive, Send, Close]
Steps = Generator[Step, Any, Any]


def create(url: str) -> Generator[Step, Any, Terminal]:
    """Log in with a presigned ``url`` and make a new terminal.

    :raises TerminalError: login refused, no XSRF cookie, terminals not available
    """
    parts = urlsplit(url)
    base = f"{parts.scheme}://{parts.netloc}"
    login = yield Get(url)
    if login.status in (401, 403):
        raise TerminalError(
            f"twin: login: expected the presigned URL to be taken, got HTTP {login.status}; it is valid for five "
            "minutes and for one twin: make a new one and try again"
        )
    _expect(login, "login", *range(200, 400), 404)  # a bare jupyter-server has no page there, but it did log us in
    xsrf = login.cookies.get(_XSRF_COOKIE)
    for page in _XSRF_PAGES:
        if xsrf:
            break
        xsrf = (yield Get(base + page)).cookies.get(_XSRF_COOKIE)
    if not xsrf:
        raise TerminalError("twin: login: expected an XSRF cookie from Jupyter, got none; is it a Jupyter server?")
    made = yield Post(f"{base}/api/terminals", {"X-XSRFToken": xsrf, "Content-Type": "application/json"}, "{}")
    _expect(made, "new terminal", 200, 201)
    name = _terminal_name(made.body)
    return Terminal(name, f"{base}/api/terminals/{quote(name, safe='')}", xsrf)


def ring(terminal: Terminal, line: str, *, prompt_s: float = 15, quiet_s: float = 1) -> Generator[Step, Any, None]:
    """Type ``line`` at the prompt of ``terminal`` and close the connection; the terminal itself stays.

    ``prompt_s``: how long the shell may take to say anything; ``quiet_s``: a shell that has spoken and then keeps
    silent for so long is taken to be waiting, whatever its prompt looks like.

    :raises TerminalError: connection refused or lost, shell ended, no prompt
    """
    if "\n" in line or "\r" in line or len(line.encode()) > LONGEST_LINE_BYTES:
        raise ValueError(f"expected one line of at most {LONGEST_LINE_BYTES} bytes, got {len(line.encode())}")
    parts = urlsplit(terminal.url)
    scheme = "wss" if parts.scheme == "https" else "ws"
    opened = yield Open(f"{scheme}://{parts.netloc}/terminals/websocket/{quote(terminal.name, safe='')}")
    _expect(opened, "terminal connection", 101)
    try:
        yield from _await_prompt(prompt_s, quiet_s)
        if (yield Send(json.dumps(["stdin", line + "\r"]))) == CLOSED:
            raise TerminalError("twin: terminal: expected to send a line, the connection was closed")
    finally:
        yield Close()


def hang_up(terminal: Terminal) -> Generator[Step, Any, None]:
    """Delete a terminal. Ends what runs in it, except in a session of its own: only once the run is known to run."""
    deleted = yield Delete(terminal.url, {"X-XSRFToken": terminal.xsrf})
    _expect(deleted, "delete terminal", 204, 404)


def _await_prompt(prompt_s: float, quiet_s: float) -> Generator[Step, Any, None]:
    output = ""
    for _ in range(MOST_MESSAGES):
        message = yield Receive(quiet_s if output else prompt_s)
        if message == CLOSED:
            raise TerminalError("twin: terminal: expected a prompt, the connection was closed")
        if message == SILENCE:
            if output:
                return
            raise TerminalError(f"twin: terminal: expected a prompt within {prompt_s:g} s, got nothing")
        kind, text = _message(message)
        if kind == "disconnect":
            raise TerminalError("twin: terminal: expected a prompt, the shell ended")
        if kind == "stdout":
            output = (output + text)[-500:]
            if _PROMPT.search(_ESCAPES.sub("", output)):
                return
    raise TerminalError(f"twin: terminal: expected a prompt, got {MOST_MESSAGES} messages without one")


def _message(text: str) -> tuple[str, str]:
    """Kind and text of a message; what is not of the protocol has kind ''."""
    try:
        message = json.loads(text)
    except ValueError:
        return "", ""
    if not isinstance(message, list) or not message or not isinstance(message[0], str):
        return "", ""
    return message[0], message[1] if len(message) > 1 and isinstance(message[1], str) else ""


def _terminal_name(body: str) -> str:
    try:
        name = json.loads(body)["name"]
    except (ValueError, KeyError, TypeError):
        name = None
    if not isinstance(name, str) or not name:
        raise TerminalError('twin: new terminal: expected JSON with a "name", got something else')
    return name


def _expect(reply: Reply, what: str, *statuses: int) -> None:
    if reply.status not in statuses:
        hint = _HINTS.get(reply.status, "")
        raise TerminalError(f"twin: {what}: expected HTTP {statuses[0]}, got {reply.status or 'nothing'}{hint}")
