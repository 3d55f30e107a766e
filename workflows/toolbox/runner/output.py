"""What a run prints: kept in ``output.log`` on the twin, and streamed to the run's CloudWatch log stream.

Both are bounded: a script that prints without end fills neither the disk nor CloudWatch's bill. What is left out is
counted and said. CloudWatch being away never stops a run; the file has everything that was printed up to its limit.
"""

from __future__ import annotations

import queue
import threading
import time
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

FILE_LIMIT_BYTES = 20 * 2**20
BATCH_EVENTS = 10_000
BATCH_BYTES = 900_000
"""PutLogEvents takes 1,048,576 bytes; each event costs 26 more than its text."""
EVENT_OVERHEAD_BYTES = 26
LINE_BYTES = 200_000
"""Longer lines are split."""
FLUSH_S = 1.0
QUEUE_LINES = 50_000
CLOSE_S = 60
"""How long a run may wait at its end for CloudWatch to take the rest."""


class Output:
    """Takes bytes as they are printed. Use as a context manager: leaving it delivers the rest."""

    def __init__(self, file: Path, client: Any, group: str, stream: str) -> None:
        self._file = file.open("wb", buffering=0)
        self._written_bytes = 0
        self._shipper = Shipper(client, group, stream)
        self._rest = b""

    def __enter__(self) -> Output:
        self._shipper.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._rest:
            self._shipper.add(self._rest)
        note = self._shipper.close()
        if note:
            self._file.write(note.encode() + b"\n")
        self._file.close()

    def write(self, data: bytes) -> None:
        """Keep what was printed; whole lines go to CloudWatch, the last part of one waits for its end."""
        room = FILE_LIMIT_BYTES - self._written_bytes
        if room > 0:
            self._file.write(data[:room])
            if len(data) >= room:
                self._file.write(b"\n[output.log ends here: limit reached]\n")
        self._written_bytes += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_BYTES:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._shipper.add(line)

    def say(self, text: str) -> None:
        """A line of ours among those of the script."""
        self.write(f"[twinops] {text}\n".encode())


class Shipper(threading.Thread):
    """Sends lines to a log stream in batches, from a thread of its own."""

    def __init__(self, client: Any, group: str, stream: str) -> None:
        super().__init__(daemon=True)
        self._client = client
        self._target = {"logGroupName": group, "logStreamName": stream}
        self._lines: queue.Queue[tuple[int, str]] = queue.Queue(QUEUE_LINES)
        self._closing = threading.Event()
        self._dropped = 0
        self._failure = ""

    def add(self, line: bytes) -> None:
        """Queue a line; invalid UTF-8 is replaced, an empty line is left out (CloudWatch refuses it)."""
        at_ms = int(time.time() * 1000)
        line = line.rstrip(b"\r")
        for start in range(0, len(line), LINE_BYTES):
            try:
                self._lines.put_nowait((at_ms, line[start : start + LINE_BYTES].decode("utf-8", "replace")))
            except queue.Full:
                self._dropped += 1

    def close(self) -> str:
        """Deliver what is queued; a sentence about what could not be delivered, or nothing."""
        self._closing.set()
        self.join(CLOSE_S)
        undelivered = self._dropped + self._lines.qsize()
        if not undelivered and not self._failure:
            return ""
        return f"[twinops] not in CloudWatch: {undelivered} lines. {self._failure}".strip()

    def run(self) -> None:
        try:
            self._client.create_log_stream(**self._target)
        except (BotoCoreError, ClientError) as error:
            if "ResourceAlreadyExists" not in str(error):
                self._failure = str(error)
        while not (self._closing.is_set() and self._lines.empty()):
            batch = self._batch()
            if batch:
                self._send(batch)
            if not self._closing.is_set():
                self._closing.wait(FLUSH_S)

    def _batch(self) -> list[tuple[int, str]]:
        batch: list[tuple[int, str]] = []
        size_bytes = 0
        while len(batch) < BATCH_EVENTS and size_bytes < BATCH_BYTES - LINE_BYTES:
            try:
                event = self._lines.get_nowait()
            except queue.Empty:
                break
            batch.append(event)
            size_bytes += len(event[1].encode()) + EVENT_OVERHEAD_BYTES
        return batch

    def _send(self, batch: list[tuple[int, str]]) -> None:
        events = [{"timestamp": at_ms, "message": text} for at_ms, text in sorted(batch, key=lambda event: event[0])]
        try:
            self._client.put_log_events(**self._target, logEvents=events)
        except (BotoCoreError, ClientError) as error:
            self._dropped += len(batch)
            self._failure = str(error)
