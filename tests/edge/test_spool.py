"""The spool: what was appended is there once, whatever happens, and leaves only when confirmed."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from errors import SpoolError
from spool import Spool


def lines(first: int, count: int) -> bytes:
    return b"".join(b'{"seq": %d}\n' % seq for seq in range(first, first + count))


def append(spool: Spool, count: int) -> None:
    spool.append(lines(spool.next_seq, count), count, f"after {spool.next_seq + count - 1}")


Open = Callable[..., Spool]


@pytest.fixture
def open_spool() -> Iterator[Open]:
    """Opens a spool; closes all of them in the end, and not before: until then each is as its process was killed."""
    with contextlib.ExitStack() as opened:
        yield lambda *arguments: opened.enter_context(contextlib.closing(Spool(*arguments)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool/decisions.db"


def test_numbers_and_position_outlive_a_restart(path: Path, open_spool: Open) -> None:
    spool = open_spool(path, 1000)
    assert (spool.next_seq, spool.position, spool.depth) == (1, None, 0)
    append(spool, 5)
    append(spool, 3)
    again = open_spool(path, 1000)  # without closing: as after a kill
    assert (again.next_seq, again.position, again.depth) == (9, "after 8", 8)


def test_numbers_go_on_after_everything_left(path: Path, open_spool: Open) -> None:
    spool = open_spool(path, 1000)
    append(spool, 5)
    batch = spool.offer(100)
    assert batch is not None
    spool.confirm(batch)
    assert (spool.depth, spool.offer(100)) == (0, None)
    assert open_spool(path, 1000).next_seq == 6


def test_an_offer_stays_the_same_until_confirmed(path: Path, open_spool: Open) -> None:
    spool = open_spool(path, 1000)
    for _ in range(3):
        append(spool, 4)
    offered = spool.offer(6)
    assert offered == (1, 8, lines(1, 8))
    append(spool, 4)
    assert spool.offer(6) == offered
    again = open_spool(path, 1000)
    assert again.offer(100) == offered  # even if a new release has other ideas of a batch
    again.confirm(offered)
    assert again.offer(100) == (9, 16, lines(9, 8))
    assert again.depth == 8


def test_beyond_the_limit_the_oldest_go_and_are_counted(path: Path, open_spool: Open) -> None:
    spool = open_spool(path, 10)
    for _ in range(5):
        append(spool, 3)
    assert (spool.depth, spool.dropped) == (9, 6)
    again = open_spool(path, 10)
    assert (again.depth, again.dropped, again.next_seq) == (9, 6, 16)
    assert again.offer(100) == (7, 15, lines(7, 9))


def test_what_is_being_uploaded_is_never_dropped(path: Path, open_spool: Open) -> None:
    spool = open_spool(path, 6)
    append(spool, 3)
    append(spool, 3)
    offered = spool.offer(3)
    append(spool, 3)
    append(spool, 3)
    assert spool.offer(3) == offered == (1, 3, lines(1, 3))
    assert (spool.depth, spool.dropped) == (6, 6)
    spool.confirm(offered)
    assert spool.offer(3) == (10, 12, lines(10, 3))


def test_a_full_disk_takes_nothing_and_loses_nothing(path: Path, open_spool: Open) -> None:
    spool = open_spool(path, 10**9)
    append(spool, 10)
    spool._database.execute("PRAGMA max_page_count = 20")  # SQLite's own "database or disk is full"
    big = b"x" * 50_000
    with pytest.raises(SpoolError, match="full"):
        while True:
            spool.append(big, 1, "somewhere")
    before = (spool.next_seq, spool.position, spool.depth)
    spool._database.execute("PRAGMA max_page_count = 2000")
    again = open_spool(path, 10**9)
    assert (again.next_seq, again.position, again.depth) == before
    append(spool, 1)
    assert spool.next_seq == before[0] + 1


def test_decisions_and_position_come_together_or_not_at_all(path: Path, open_spool: Open) -> None:
    spool = open_spool(path, 1000)
    append(spool, 2)
    # The second of the transaction's writes fails, and the first is already made.
    spool._database.execute("CREATE TEMP TRIGGER t BEFORE UPDATE ON state BEGIN SELECT RAISE(FAIL, 'bad sector'); END")
    with pytest.raises(SpoolError, match=r"decisions\.db: bad sector"):
        append(spool, 3)
    again = open_spool(path, 1000)
    assert (again.next_seq, again.position, again.depth) == (3, "after 2", 2)
    assert again.offer(100) == (1, 2, lines(1, 2))


def test_a_broken_file_is_said_with_its_path(path: Path, open_spool: Open) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this is not a database, however long one looks at it" * 100)
    with pytest.raises(SpoolError, match=r"decisions\.db: file is not a database"):
        open_spool(path, 10)


def test_appending_and_uploading_at_once_loses_nothing(path: Path, open_spool: Open) -> None:
    spool, sent, done = open_spool(path, 10**6), [], threading.Event()

    def upload() -> None:
        while not (done.is_set() and spool.depth == 0):
            batch = spool.offer(20)
            if batch:
                sent.append(batch)
                spool.confirm(batch)

    uploader = threading.Thread(target=upload)
    uploader.start()
    for _ in range(500):
        append(spool, 3)
    done.set()
    uploader.join(30)
    assert not uploader.is_alive()
    assert b"".join(batch.lines for batch in sent) == lines(1, 1500)
    assert spool.depth == 0
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT COUNT(*) FROM chunk").fetchone() == (0,)
    database.close()
