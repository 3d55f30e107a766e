"""Decisions that are made and not yet in the cloud: a SQLite file that survives the process, the power and the network.

Rules:

- The sensor's position and the decisions on what it gave are one transaction: a killed service neither skips nor
  repeats a record.
- ``seq`` grows by one per decision, for ever.
- What is offered for upload is fixed before the first attempt, so a retry writes the same object again. That one
  transaction is forced to the disk, and with it all earlier ones: a power cut may cost the decisions of the last upload
  interval, but never takes back a ``seq`` that has left the device.
- Beyond ``limit_records`` the oldest decisions that are not being uploaded are dropped, and counted: what a person
  looks at after a long outage is the present.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from errors import SpoolError

SCHEMA = """
CREATE TABLE IF NOT EXISTS chunk (first_seq INTEGER PRIMARY KEY, last_seq INTEGER NOT NULL, lines BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS state (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    next_seq INTEGER NOT NULL,
    position TEXT,
    dropped INTEGER NOT NULL,
    offered_until INTEGER
);
INSERT OR IGNORE INTO state VALUES (1, 1, NULL, 0, NULL);
"""


class Batch(NamedTuple):
    """Decisions offered for upload: JSON lines, and the numbers of the first and the last."""

    first_seq: int
    last_seq: int
    lines: bytes


class Spool:
    """Used by the loop, which appends, and by the uploader, which takes and confirms; safe for both at once."""

    def __init__(self, path: Path, limit_records: int) -> None:
        self._path, self._limit_records = path, limit_records
        self._lock = threading.Lock()
        with _explained(path), contextlib.ExitStack() as if_it_fails:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
            if_it_fails.callback(self._database.close)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.executescript(SCHEMA)
            self.next_seq, self.position, self.dropped, self._offered_until = self._database.execute(
                "SELECT next_seq, position, dropped, offered_until FROM state"
            ).fetchone()
            (self.depth,) = self._database.execute(
                "SELECT COALESCE(SUM(last_seq - first_seq + 1), 0) FROM chunk"
            ).fetchone()
            if_it_fails.pop_all()

    def append(self, lines: bytes, count: int, position: str) -> None:
        """Stores ``count`` decisions, numbered from ``next_seq``, and the sensor's position after them."""
        with self._lock:
            last_seq = self.next_seq + count - 1
            with self._transaction() as database:
                if count:
                    database.execute("INSERT INTO chunk VALUES (?, ?, ?)", (self.next_seq, last_seq, lines))
                dropped = self._drop(self.depth + count - self._limit_records)
                database.execute(
                    "UPDATE state SET next_seq = ?, position = ?, dropped = dropped + ?",
                    (last_seq + 1, position, dropped),
                )
            self.next_seq, self.position = last_seq + 1, position
            self.depth += count - dropped
            self.dropped += dropped

    def _drop(self, surplus: int) -> int:
        """Makes room for ``surplus`` decisions, in whole chunks; returns how many went."""
        dropped = 0
        if surplus <= 0:
            return 0
        oldest = "SELECT first_seq, last_seq FROM chunk WHERE first_seq > ? ORDER BY first_seq"
        for first_seq, last_seq in self._database.execute(oldest, (self._offered_until or 0,)).fetchall():
            if dropped >= surplus:
                break
            self._database.execute("DELETE FROM chunk WHERE first_seq = ?", (first_seq,))
            dropped += last_seq - first_seq + 1
        return dropped

    def offer(self, batch_records: int) -> Batch | None:
        """The oldest decisions, about ``batch_records``; the same ones until they are confirmed. None when empty."""
        with self._lock, _explained(self._path):
            if self._offered_until is None:
                self._fix_offer(batch_records)
            rows = self._database.execute(
                "SELECT first_seq, last_seq, lines FROM chunk WHERE first_seq <= ? ORDER BY first_seq",
                (self._offered_until or 0,),
            ).fetchall()
        if not rows:
            return None
        return Batch(rows[0][0], rows[-1][1], b"".join(lines for _, _, lines in rows))

    def _fix_offer(self, batch_records: int) -> None:
        count, until = 0, None
        for first_seq, last_seq in self._database.execute("SELECT first_seq, last_seq FROM chunk ORDER BY first_seq"):
            count, until = count + last_seq - first_seq + 1, last_seq
            if count >= batch_records:
                break
        if until is None:
            return
        self._database.execute("PRAGMA synchronous=FULL")
        try:
            self._database.execute("UPDATE state SET offered_until = ?", (until,))
        finally:
            self._database.execute("PRAGMA synchronous=NORMAL")
        self._offered_until = until

    def confirm(self, batch: Batch) -> None:
        """Deletes ``batch``, which the cloud has."""
        with self._lock:
            with self._transaction() as database:
                database.execute("DELETE FROM chunk WHERE first_seq <= ?", (batch.last_seq,))
                database.execute("UPDATE state SET offered_until = NULL")
            self._offered_until = None
            self.depth -= batch.last_seq - batch.first_seq + 1

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with _explained(self._path):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:  # a full disk has already rolled it back
                    self._database.execute("ROLLBACK")
                raise

    def close(self) -> None:
        with self._lock:
            self._database.close()


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise SpoolError(f"{path}: {error}; expected a writable SQLite file on a disk with space") from error
