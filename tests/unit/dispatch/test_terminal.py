"""The terminal protocol without a server: each case is a conversation, what it does and what it is answered."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dispatch.terminal import (
    CLOSED,
    MOST_MESSAGES,
    SILENCE,
    Close,
    Delete,
    Get,
    Open,
    Post,
    Receive,
    Reply,
    Send,
    Steps,
    Terminal,
    TerminalError,
    create,
    hang_up,
    ring,
)

URL = "https://twin.example.com?authToken=SECRET"
BASE = "https://twin.example.com"
XSRF = {"_xsrf": "COOKIE"}
TERMINAL = Terminal("1", f"{BASE}/api/terminals/1", "COOKIE")
LINE = "setsid run-once abc 1 def &"
TYPED = Send(json.dumps(["stdin", LINE + "\r"]))

LOGIN = (Get(URL), Reply(200, cookies=XSRF))
NEW = Post(f"{BASE}/api/terminals", {"X-XSRFToken": "COOKIE", "Content-Type": "application/json"}, "{}")
OPEN = (Open("wss://twin.example.com/terminals/websocket/1"), Reply(101))
SETUP = (Receive(15), '["setup", {}]')
PROMPT = (Receive(15), '["stdout", "sh-4.2$ "]')
SENT = (TYPED, None)
CLOSE = (Close(), None)

Conversation = list[tuple[Any, Any]]


def talk(steps: Steps, conversation: Conversation) -> Any:
    """Hold a conversation; the result of the protocol. Every step has to be the expected one, and none be missing."""
    answer = None
    for expected, answered in conversation:
        assert steps.send(answer) == expected
        answer = answered
    with pytest.raises(StopIteration) as end:
        steps.send(answer)
    return end.value.value


def talk_until_error(steps: Steps, conversation: Conversation) -> str:
    """Hold a conversation that ends in an error; its message."""
    answer = None
    for expected, answered in conversation:
        assert steps.send(answer) == expected
        answer = answered
    with pytest.raises(TerminalError) as caught:
        steps.send(answer)
    message = str(caught.value)
    assert "SECRET" not in message
    assert "COOKIE" not in message
    return message


CREATED = {
    "SageMaker: login sets the cookie": [LOGIN, (NEW, Reply(200, '{"name": "1"}'))],
    "jupyter-server answers 201": [LOGIN, (NEW, Reply(201, '{"name": "1"}'))],
    "a bare server has no page to log in to, and its kernel specs set the cookie": [
        (Get(URL), Reply(404)),
        (Get(f"{BASE}/tree"), Reply(404)),
        (Get(f"{BASE}/api/kernelspecs"), Reply(200, "{}", XSRF)),
        (NEW, Reply(200, '{"name": "1"}')),
    ],
    "JupyterLab sets the cookie": [
        (Get(URL), Reply(302)),
        (Get(f"{BASE}/tree"), Reply(404)),
        (Get(f"{BASE}/api/kernelspecs"), Reply(200, "{}")),
        (Get(f"{BASE}/lab"), Reply(200, "", XSRF)),
        (NEW, Reply(200, '{"name": "1"}')),
    ],
}


@pytest.mark.parametrize("conversation", CREATED.values(), ids=CREATED.keys())
def test_create(conversation: Conversation) -> None:
    assert talk(create(URL), conversation) == TERMINAL


NOT_CREATED = {
    "expired or forged URL": ([(Get(URL), Reply(403))], "login: expected the presigned URL to be taken, got HTTP 403"),
    "twin away": ([(Get(URL), Reply(0))], "login: expected HTTP 200, got nothing"),
    "twin broken": ([(Get(URL), Reply(502))], "login: expected HTTP 200, got 502"),
    "no cookie anywhere": (
        [(Get(URL), Reply(200)), *((Get(BASE + page), Reply(404)) for page in ("/tree", "/api/kernelspecs", "/lab"))],
        "expected an XSRF cookie",
    ),
    "terminals switched off": ([LOGIN, (NEW, Reply(404))], "new terminal: expected HTTP 200, got 404; are terminals"),
    "XSRF refused": ([LOGIN, (NEW, Reply(403))], "got 403; a bare Jupyter shows its login page"),
    "no JSON": ([LOGIN, (NEW, Reply(200, "<html>"))], 'expected JSON with a "name"'),
    "no name": ([LOGIN, (NEW, Reply(200, "{}"))], 'expected JSON with a "name"'),
    "a name that is none": ([LOGIN, (NEW, Reply(200, '{"name": 1}'))], 'expected JSON with a "name"'),
}


@pytest.mark.parametrize(("conversation", "message"), NOT_CREATED.values(), ids=NOT_CREATED.keys())
def test_not_created(conversation: Conversation, message: str) -> None:
    assert message in talk_until_error(create(URL), conversation)


def later(text: str) -> tuple[Receive, str]:
    """A message after the first output, when silence is waited for for a second only."""
    return Receive(1), text


RUNG = {
    "prompt after set-up": [OPEN, SETUP, PROMPT, SENT, CLOSE],
    "prompt before set-up": [OPEN, PROMPT, SENT, CLOSE],
    "a terminal that is in use replays its output": [
        OPEN, SETUP, (Receive(15), '["stdout", "motd\\r\\n"]'), later('["stdout", "[root@twin ~]# "]'), SENT, CLOSE
    ],
    "prompt in pieces": [
        OPEN, SETUP, (Receive(15), '["stdout", "sh-4."]'), later('["stdout", "2$"]'), SENT, CLOSE
    ],
    "coloured prompt with title": [
        OPEN, SETUP, (Receive(15), json.dumps(["stdout", "\x1b]0;twin\x07\x1b[?2004h\x1b[01;32mroot\x1b[0m$ "])),
        SENT, CLOSE,
    ],
    "prompt that looks like nothing, then silence": [
        OPEN, SETUP, (Receive(15), '["stdout", "ready"]'), later(SILENCE), SENT, CLOSE
    ],
    "messages that are not of the protocol": [
        OPEN, (Receive(15), "nonsense"), (Receive(15), "[]"), (Receive(15), '{"a": 1}'), (Receive(15), "[1, 2]"),
        (Receive(15), '["new_kind", 3]'), (Receive(15), '["stdout"]'), PROMPT, SENT, CLOSE
    ],
}  # fmt: skip


@pytest.mark.parametrize("conversation", RUNG.values(), ids=RUNG.keys())
def test_ring(conversation: Conversation) -> None:
    assert talk(ring(TERMINAL, LINE), conversation) is None


NOT_RUNG = {
    "connection refused": ([(OPEN[0], Reply(403))], "terminal connection: expected HTTP 101, got 403"),
    "twin away": ([(OPEN[0], Reply(0))], "terminal connection: expected HTTP 101, got nothing"),
    "no word from the shell": ([OPEN, (Receive(15), SILENCE), CLOSE], "expected a prompt within 15 s, got nothing"),
    "set-up, then nothing": ([OPEN, SETUP, (Receive(15), SILENCE), CLOSE], "expected a prompt within 15 s"),
    "dropped before the prompt": ([OPEN, SETUP, (Receive(15), CLOSED), CLOSE], "the connection was closed"),
    "dropped after some output": (
        [OPEN, (Receive(15), '["stdout", "motd"]'), later(CLOSED), CLOSE],
        "expected a prompt, the connection was closed",
    ),
    "the shell ends": ([OPEN, SETUP, (Receive(15), '["disconnect", 1]'), CLOSE], "the shell ended"),
    "dropped while the line is sent": (
        [OPEN, SETUP, PROMPT, (TYPED, CLOSED), CLOSE],
        "expected to send a line, the connection was closed",
    ),
    "a shell that never stops talking": (
        [
            OPEN,
            (Receive(15), '["stdout", "a\\n"]'),
            *[later('["stdout", "a\\n"]')] * (MOST_MESSAGES - 1),
            CLOSE,
        ],
        f"got {MOST_MESSAGES} messages without one",
    ),
}


@pytest.mark.parametrize(("conversation", "message"), NOT_RUNG.values(), ids=NOT_RUNG.keys())
def test_not_rung(conversation: Conversation, message: str) -> None:
    assert message in talk_until_error(ring(TERMINAL, LINE), conversation)


@pytest.mark.parametrize("line", ["two\nlines", "two\rlines", "x" * 1025])
def test_one_short_line_only(line: str) -> None:
    with pytest.raises(ValueError, match="expected one line of at most 1024 bytes"):
        next(ring(TERMINAL, line))


@pytest.mark.parametrize("status", [204, 404])
def test_hang_up(status: int) -> None:
    assert talk(hang_up(TERMINAL), [(Delete(TERMINAL.url, {"X-XSRFToken": "COOKIE"}), Reply(status))]) is None


def test_not_hung_up() -> None:
    conversation: Conversation = [(Delete(TERMINAL.url, {"X-XSRFToken": "COOKIE"}), Reply(403))]
    assert "delete terminal: expected HTTP 204, got 403" in talk_until_error(hang_up(TERMINAL), conversation)


def test_names_are_quoted() -> None:
    made = talk(create(URL), [LOGIN, (NEW, Reply(200, '{"name": "a/b"}'))])
    assert made.url == f"{BASE}/api/terminals/a%2Fb"
    assert next(ring(made, LINE)) == Open("wss://twin.example.com/terminals/websocket/a%2Fb")


def test_plain_http_means_plain_websocket() -> None:
    plain = Terminal("1", "http://127.0.0.1:8888/api/terminals/1", "COOKIE")
    assert next(ring(plain, LINE)) == Open("ws://127.0.0.1:8888/terminals/websocket/1")


def test_secrets_are_not_shown() -> None:
    shown = [repr(thing) for thing in (Get(URL), TERMINAL, Reply(200, cookies=XSRF), NEW, Delete(BASE, XSRF))]
    assert not [text for text in shown if "SECRET" in text or "COOKIE" in text]
