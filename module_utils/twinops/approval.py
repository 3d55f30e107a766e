"""Only what was approved is applied: changes as plain data, and what of them nobody has approved. Pure.

Rules:

1. A change is approved if the approved plan has it with the same values before and after.
2. What is left of an approved change after an interruption is approved: some of its fields, or fields of a resource
   that was to be created. The rest of the world may not have moved: values before must be the approved ones.
3. Nothing else is. That a change has become unnecessary is no reason to stop.

Secrets never are in a plan: what looks like one is replaced by the beginning of its SHA-256, so that another secret is
another change.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .plan import CREATE, DELETE, Change, diff

Plain = Mapping[str, Any]
"""A change: ``action kind name fields before after``, and ``steps`` where a machine is stopped for it."""

_SECRET_NAME = re.compile(r"(?i)(secret|password|passwd|token|private_?key|api_?key|access_?key)$")
_SECRETS = (
    re.compile(r"(?s)(?P<secret>-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z))"),
    re.compile(r"\b(?P<secret>(?:AKIA|ASIA)[A-Z2-7]{16})\b"),
    re.compile(r"(?i)aws_?(?:secret_?access_?key|session_?token)[\"']?\s*[:=]\s*[\"']?(?P<secret>[A-Za-z0-9/+=]{40,})"),
    re.compile(r"\b(?P<secret>gl(?:pat|rt|dt|cbt|soat)-[\w-]{20,})"),
    re.compile(r"\b(?P<secret>eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,})"),
    re.compile(r"://[^\s:/@]+:(?P<secret>[^\s@/]+)@"),
)
"""Private keys, keys of AWS, tokens of GitLab, JSON Web Tokens, passwords in URLs."""

_OF_KEY = re.compile(r"[\s+>|\"'-]*(?:[A-Za-z0-9+/=\\]*|(?:Proc-Type|DEK-Info): .*|-----END [A-Z ]*KEY-----)[\s\"',]*")
"""A line of a private key after its first, as it is or in a diff; so are a blank one and one of a single word."""
_KEY_BEGINS, _KEY_ENDS = "PRIVATE KEY-----", "-----END"
KEY_LINES_MAX = 200
"""More than any private key has: where one has no end, what comes is not kept back for ever."""

_WITHHELD = re.compile(r"\(withheld, [0-9a-f]{12}\)")
"""As a plan has it, for the comparison. Whoever reads it could try words: it is in no text for people."""


def plain(changes: Sequence[Change]) -> list[dict[str, Any]]:
    """The changes with their values before and after, without secrets."""
    shown = diff(changes)
    described = []
    for change in changes:
        title = f"{change.kind} {change.name}"
        values = {when: dict(shown[when].get(title, {})) for when in ("before", "after")}
        values["after"].pop("(steps)", None)
        described.append(without_secrets({**change.as_dict(), **values}))
    return described


def digest(document: Any) -> str:
    """SHA-256 of plain data, whatever the order of its members."""
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def unapproved(changes: Iterable[Plain], approved: Iterable[Plain]) -> list[str]:
    """What would be done without anybody's approval, a line for each change."""
    known = {(each["kind"], each["name"]): each for each in approved}
    lines = []
    for change in changes:
        obstacle = _obstacle(change, known.get((change["kind"], change["name"])))
        if obstacle:
            lines.append(f"{change['action']} {change['kind']} {change['name']}: {obstacle}")
    return lines


def _obstacle(change: Plain, approved: Plain | None) -> str:
    """Why nobody has approved it; empty for what was approved."""
    if approved is None:
        return "is not in the approved plan"
    if DELETE in (change["action"], approved["action"]):
        return "" if change["action"] == approved["action"] else f"approved was to {approved['action']} it"
    return next(filter(None, (_obstacle_of_field(name, change, approved) for name in change["fields"])), "")


def _obstacle_of_field(name: str, change: Plain, approved: Plain) -> str:
    if name not in approved["after"]:
        return f"{name}: the approved plan leaves it as it is"
    if change["after"][name] != approved["after"][name]:
        return f"{name}: approved was another value"
    if approved["action"] != CREATE and change["before"].get(name) != approved["before"].get(name):
        return f"{name}: somebody has changed it since the plan was made"
    return ""


def without_secrets(value: Any, name: str = "") -> Any:
    """Plain data, with what looks like a secret, or is called one, replaced."""
    if isinstance(value, Mapping):
        return {key: without_secrets(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return _of_list(value, name)
    if not isinstance(value, str) or not value:
        return value
    return _withheld(value) if _SECRET_NAME.search(name) else _marked(value)


def _of_list(values: Sequence[Any], name: str) -> list[Any]:
    """Members of a list; a list of lines is a text, whose secrets may span lines."""
    if values and all(isinstance(each, str) for each in values) and "PRIVATE KEY" in "\n".join(values):
        return _marked("\n".join(values)).split("\n")
    return [without_secrets(each, name) for each in values]


def text_without_secrets(text: str) -> str:
    """A text for people, with what looks like a secret replaced, and nothing by which it could be guessed."""
    return _WITHHELD.sub("(withheld)", _marked(text))


def lines_without_secrets(lines: Iterable[str]) -> Iterator[str]:
    """Lines for people as they come, as above. Those of a private key are kept back until it has ended."""
    key: list[str] = []
    for line in lines:
        if key and not _OF_KEY.fullmatch(line):  # it was cut off
            yield text_without_secrets("".join(key))
            key = []
        if not key and (_KEY_BEGINS not in line or _KEY_ENDS in line):
            yield text_without_secrets(line)
            continue
        key.append(line)
        if _KEY_ENDS in line or len(key) == KEY_LINES_MAX:
            yield text_without_secrets("".join(key))
            key = []
    if key:
        yield text_without_secrets("".join(key))


def _marked(text: str) -> str:
    for pattern in _SECRETS:
        text = pattern.sub(_replaced, text)
    return text


def _replaced(match: re.Match[str]) -> str:
    start, end = match.start("secret") - match.start(), match.end("secret") - match.start()
    return match[0][:start] + _withheld(match["secret"]) + match[0][end:]


def _withheld(secret: str) -> str:
    return f"(withheld, {hashlib.sha256(secret.encode()).hexdigest()[:12]})"
