"""Lock files of Python environments, as ``uv pip compile --generate-hashes`` writes them. Pure.

The environment of a lock is known by the digest of the file, and built again on another day on another machine. So
every line must name one version and the digests of its files, and nothing may come from another file.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass

_PACKAGE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(\[[^\]]*\])?\s*==\s*[A-Za-z0-9.!+_-]+(\s*;.*)?")
_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_INDEX_OPTIONS = ("--index-url", "--extra-index-url")
"""Where packages come from may be said: their hashes are checked all the same."""
RENEW = "`make lock` writes it"


@dataclass(frozen=True)
class Lock:
    """What a lock file says. ``mistakes`` are ``<line>: expected ..., got ...``."""

    packages: frozenset[str]
    """Normalised names (PEP 503)."""
    mistakes: tuple[str, ...]


@functools.lru_cache(maxsize=4)  # all workflows without a lock of their own have the same one
def parse_lock(text: str) -> Lock:
    """Read a lock; what is wrong with it is in its ``mistakes``."""
    packages, mistakes = set(), []
    for number, line in _logical_lines(text):
        requirement, *hashes = re.split(r"\s--hash=", line)
        match = _PACKAGE.fullmatch(requirement.strip())
        if match:
            packages.add(re.sub(r"[-_.]+", "-", match[1]).lower())
            mistakes += [f"{number}: {requirement.strip()}: {mistake}" for mistake in _hash_mistakes(hashes)]
        elif not line.startswith(_INDEX_OPTIONS):
            mistakes.append(f"{number}: expected a package and its version, like numpy==2.1.0, got {requirement!r}")
    return Lock(frozenset(packages), tuple(mistakes))


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their number, without comments, and with those joined that end in a backslash."""
    start = 0
    parts: list[str] = []
    for number, line in enumerate([*text.splitlines(), ""], 1):
        start = start if parts else number
        content = re.sub(r"(^|\s)#.*", "", line).strip()
        parts.append(content.rstrip("\\").strip())
        if not content.endswith("\\"):
            joined = " ".join(part for part in parts if part)
            if joined:
                yield start, joined
            parts = []


def _hash_mistakes(hashes: list[str]) -> Iterator[str]:
    if not hashes:
        yield f"expected --hash=sha256:<64 hexadecimal digits>, there is none ({RENEW})"
    for given in hashes:
        if not _HASH.fullmatch(given.strip()):
            yield f"expected --hash=sha256:<64 hexadecimal digits>, got {given.strip()!r}"
