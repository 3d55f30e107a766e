"""What a run prints: kept in ``output.log`` on the twin, and streamed to the run's CloudWatch log stream.

Both are bounded: a script that prints without end fills neither the disk, nor CloudWatch's bill, nor our memory. What
is left out is counted and said. Neither CloudWatch being away nor a full disk ever stops a run, or keeps its output
from the other of the two.
"""

from __future__ import annotations

import collections
import io
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

FILE_LIMIT_BYTES = 20 * 2**20
LOG_LIMIT_BYTES = 20 * 2**20
"""What of one run goes to CloudWatch."""
BATCH_EVENTS = 10_000
BATCH_BYTES = 900_000
"""PutLogEvents takes 1,048,576 bytes; each event costs 26 more than its text."""
EVENT_OVERHEAD_BYTES = 26
LINE_BYTES = 85_000
"""Longer lines are split. CloudWatch takes 262,144 bytes, and a byte that is not UTF-8 becomes three."""
FLUSH_S = 1.0
QUEUE_BYTES = 10 * 2**20
"""What may wait for CloudWatch, in memory."""
HEAD_START_S = 0.05
"""Of the script before CloudWatch is called: two threads that load and call would be in each other's way."""
CLOSE_S = 60
"""How long a run may wait at its end for CloudWatch to take the rest."""


class Output:
    """Takes bytes as they are printed. Use as a context manager: leaving it delivers the rest.

    ``connect`` makes the client of CloudWatch Logs; that takes a while, in which the script may start already.
    """

    def __init__(self, file: Path, connect: Callable[[], Any], group: str, stream: str) -> None:
        self._file = BoundedFile(file)
        self._shipper = Shipper(connect, group, stream)
        self._rest = b""

    def __enter__(self) -> Output:
        self._shipper.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._rest:
            self._shipper.add(self._rest)
        if self._file.problem:
            self._shipper.add(f"[twinops] output.log is not complete: {self._file.problem}".encode(), unlimited=True)
        note = self._shipper.close()
        self._file.close(note.encode() + b"\n" if note else b"")

    def write(self, data: bytes) -> None:
        """Keep what was printed; whole lines go to CloudWatch, the last part of one waits for its end."""
        self._file.write(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_BYTES:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._shipper.add(line)

    def say(self, text: str) -> None:
        """A line of ours among those of the script; it is kept also when the script has used up all limits."""
        line = f"[twinops] {text}".encode()
        self._file.write(line + b"\n", unlimited=True)
        if self._rest:
            self._shipper.add(self._rest)
            self._rest = b""
        self._shipper.add(line, unlimited=True)


class BoundedFile:
    """A file that takes so much and no more; a disk that is full is like a limit that is reached."""

    def __init__(self, path: Path) -> None:
        self._written_bytes = 0
        self._handle: io.FileIO | None = None
        self.problem = ""
        try:
            self._handle = io.FileIO(path, "w")
        except OSError as error:
            self.problem = str(error)

    def write(self, data: bytes, *, unlimited: bool = False) -> None:
        room = FILE_LIMIT_BYTES - self._written_bytes
        if not unlimited:
            self._written_bytes += len(data)
        if unlimited or len(data) < room:
            self._put(data)
        elif room > 0:
            self._put(data[:room] + b"\n[output.log ends here: limit reached]\n")

    def close(self, last: bytes) -> None:
        self._put(last)
        if self._handle:
            self._handle.close()

    def _put(self, data: bytes) -> None:
        try:
            while data and self._handle:
                data = data[self._handle.write(data) :]
        except OSError as error:
            self.problem = str(error)


class Shipper(threading.Thread):
    """Sends lines to a log stream in batches, from a thread of its own."""

    def __init__(self, connect: Callable[[], Any], group: str, stream: str) -> None:
        super().__init__(daemon=True)
        self._connect = connect
        self._client: Any = None
        self._target = {"logGroupName": group, "logStreamName": stream}
        self._lines: collections.deque[tuple[int, str]] = collections.deque()
        self._waiting_bytes = 0
        self._taken_bytes = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._left_out = 0
        self._dropped = 0
        self._failure = ""

    def add(self, line: bytes, *, unlimited: bool = False) -> None:
        """Queue a line; invalid UTF-8 is replaced, an empty line is left out (CloudWatch refuses it)."""
        at_ms = int(time.time() * 1000)
        line = line.rstrip(b"\r")
        for start in range(0, len(line), LINE_BYTES):
            text = line[start : start + LINE_BYTES].decode("utf-8", "replace")
            size_bytes = _size_bytes(text)
            with self._lock:
                over = self._waiting_bytes + size_bytes > QUEUE_BYTES or self._taken_bytes > LOG_LIMIT_BYTES
                if over and not unlimited:
                    self._left_out += 1
                    continue
                self._waiting_bytes += size_bytes
                self._taken_bytes += size_bytes
                self._lines.append((at_ms, text))

    def close(self) -> str:
        """Deliver what is queued; a sentence about what could not be delivered, or nothing."""
        if self._left_out:
            self.add(f"[twinops] {self._left_out} lines are not here: too many, or too fast".encode(), unlimited=True)
        self._closing.set()
        self.join(CLOSE_S)
        undelivered = self._left_out + self._dropped + len(self._lines)
        if not undelivered and not self._failure:
            return ""
        return f"[twinops] not in CloudWatch: {undelivered} lines. {self._failure}".strip()

    def run(self) -> None:
        self._closing.wait(HEAD_START_S)
        try:
            self._client = self._connect()
            self._client.create_log_stream(**self._target)
        except (BotoCoreError, ClientError) as error:
            if "ResourceAlreadyExists" not in str(error):
                self._failure = str(error)
        while not (self._closing.is_set() and not self._lines):
            batch = self._batch()
            if batch:
                self._send(batch)
            if not self._closing.is_set():
                self._closing.wait(FLUSH_S)

    def _batch(self) -> list[tuple[int, str]]:
        batch: list[tuple[int, str]] = []
        size_bytes = 0
        while len(batch) < BATCH_EVENTS and size_bytes < BATCH_BYTES - 3 * LINE_BYTES:
            if not self._lines:
                break
            event = self._lines.popleft()
            batch.append(event)
            size_bytes += _size_bytes(event[1])
        with self._lock:
            self._waiting_bytes -= size_bytes
        return batch

    def _send(self, batch: list[tuple[int, str]]) -> None:
        events = [{"timestamp": at_ms, "message": text} for at_ms, text in sorted(batch, key=lambda event: event[0])]
        if self._client is None:
            self._dropped += len(batch)
            return
        try:
            self._client.put_log_events(**self._target, logEvents=events)
        except (BotoCoreError, ClientError) as error:
            self._dropped += len(batch)
            self._failure = str(error)


def _size_bytes(text: str) -> int:
    """What an event costs of a batch."""
    return len(text.encode()) + EVENT_OVERHEAD_BYTES
