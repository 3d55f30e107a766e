"""``resource_group``: one job at a time. Whoever cannot be sure to be alone does not begin.

The kernel's lock tells who lives; the record beside it tells who had it. A record that its holder has not cleared means
that he was killed: whatever he left running is ended first, then the next one goes on. What cannot be read is an error.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.tools import PipelineError

POLL_S = 0.2


@contextmanager
def held(
    folder: Path,
    name: str,
    holder: str,
    *,
    timeout_s: float,
    clear: Callable[[str], None],
    is_turn: Callable[[], bool] = lambda: True,
) -> Iterator[str]:
    """Hold lock ``name`` for ``holder``. ``clear`` ends what a lost holder has left. Yields a word about the wait.

    Nobody takes it before ``is_turn`` says that it is his turn. Raises PipelineError where it is not free in time, or
    cannot be told to be.
    """
    path = folder / f"locks/{re.sub(r'[^A-Za-z0-9_-]', '_', name)}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise PipelineError(f"lock {name}: {error}; nothing was started") from error
    with file:
        message = _wait(file, name, timeout_s, is_turn)
        lost = _holder(file.fileno(), path, name)
        if lost:
            clear(lost)
            message = f"lock {name}: {lost} was lost while it had it; what it left was ended, going on"
        _write(file.fileno(), json.dumps({"holder": holder, "process": os.getpid()}))
        try:
            yield message
        finally:
            _write(file.fileno(), "")


def _wait(file: object, name: str, timeout_s: float, is_turn: Callable[[], bool]) -> str:
    began = time.monotonic()
    while not (is_turn() and _is_taken(file)):
        if time.monotonic() - began > timeout_s:
            raise PipelineError(
                f"lock {name}: another job has had it for more than {timeout_s:g} s; nothing was started"
            )
        time.sleep(POLL_S)
    waited_s = time.monotonic() - began
    return f"lock {name}: waited {waited_s:.1f} s" if waited_s > POLL_S else ""


def _is_taken(file: object) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[arg-type]
    except BlockingIOError:
        return False
    return True


def _holder(descriptor: int, path: Path, name: str) -> str:
    """Who had it last and has not given it back; empty where nobody did."""
    text = os.pread(descriptor, 4096, 0).decode(errors="replace")
    if not text:
        return ""
    try:
        return str(json.loads(text)["holder"])
    except (ValueError, KeyError, TypeError):
        raise PipelineError(
            f"lock {name}: {path}: expected who had it, got {text[:80]!r}; nothing was started. "
            "Make sure that no deployment is at work, then remove the file"
        ) from None


def _write(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)
    os.fsync(descriptor)
