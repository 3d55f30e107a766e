"""The replayed sensor: paces, stamps, loops, and continues where it is told to."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from errors import SensorError
from sensor import CsvReplay, open_sensor

HEADER = "record_id,f1,f2,f3,f4,f5,f6,f7,f8,f9\n"


def feed(tmp_path: Path, rows: list[str]) -> Path:
    path = tmp_path / "records.csv"
    path.write_text(HEADER + "".join(f"{row}\n" for row in rows))
    return path


def numbered(count: int) -> list[str]:
    return [f"r{row}," + ",".join(str(row + number) for number in range(9)) for row in range(count)]


Replay = Callable[..., CsvReplay]


@pytest.fixture
def replay() -> Iterator[Replay]:
    """Opens a sensor; closes all of them in the end."""
    with contextlib.ExitStack() as opened:
        yield lambda *arguments: opened.enter_context(contextlib.closing(CsvReplay(*arguments)))


def test_reads_in_order_and_loops_at_the_end(tmp_path: Path, replay: Replay) -> None:
    sensor = replay(feed(tmp_path, numbered(3)), 0, None)
    records = sensor.read(5)
    assert records is not None
    assert records.ids == ["r0", "r1", "r2", "r0", "r1"]
    assert records.features.tolist()[2] == list(range(2, 11))
    assert records.features.dtype.name == "float32"


@pytest.mark.parametrize("taken", range(1, 8))
def test_continues_after_a_position(taken: int, tmp_path: Path, replay: Replay) -> None:
    path = feed(tmp_path, numbered(3))
    first = replay(path, 0, None).read(taken)
    assert first is not None
    rest = replay(path, 0, first.position).read(1)
    assert rest is not None
    assert rest.ids == [f"r{taken % 3}"]


@pytest.mark.parametrize("position", ["", "x", "-1", "0", "50", "100000"])
def test_a_position_that_is_no_row_means_the_first_row(position: str, tmp_path: Path, replay: Replay) -> None:
    records = replay(feed(tmp_path, numbered(3)), 0, position).read(1)
    assert records is not None
    assert records.ids == ["r0"]


def test_delivers_at_its_rate_and_stamps_the_time_it_was_due(tmp_path: Path, replay: Replay) -> None:
    started_s = time.time()
    sensor = replay(feed(tmp_path, numbered(100)), 200, None)
    assert sensor.read(100) is None
    time.sleep(0.1)
    records = sensor.read(100)
    elapsed_s = time.time() - started_s
    assert records is not None
    assert 20 <= len(records.ids) <= elapsed_s * 200
    seconds = [float(at[17:26]) for at in records.recorded_at]
    gaps = {round((later - earlier) % 60, 3) for earlier, later in zip(seconds, seconds[1:])}
    assert gaps == {0.005}


def test_unreadable_rows_are_counted_and_skipped(tmp_path: Path, replay: Replay) -> None:
    good = numbered(2)
    bad = [
        "b,1,2,3",
        "b,1,2,3,4,5,6,7,8,nan",
        "b,1,2,3,4,5,6,7,8,1e999",
        "b,1,2,3,4,5,6,7,8,-1e39",
        "b,1,2,3,4,5,6,7,8,x",
        ",1,2,3,4,5,6,7,8,9",
        "b",
    ]
    records = replay(feed(tmp_path, [good[0], *bad, good[1]]), 0, None).read(len(bad) + 2)
    assert records is not None
    assert (records.ids, records.unreadable, len(records.features)) == (["r0", "r1"], len(bad), 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "radio"}, "sensor.kind: expected csv_replay"),
        ({"kind": "csv_replay", "path": "/nowhere", "rate_hz": -1}, "rate_hz from 0"),
        ({"kind": "csv_replay", "path": "/nowhere/records.csv", "rate_hz": 1}, "/nowhere/records.csv: No such file"),
    ],
)
def test_wrong_settings_say_what_was_expected(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SensorError, match=message):
        open_sensor(settings, None)


def test_a_file_without_rows_is_an_error(tmp_path: Path, replay: Replay) -> None:
    with pytest.raises(SensorError, match="expected rows"):
        replay(feed(tmp_path, []), 0, None)


def test_a_file_that_is_replaced_is_read_from_then_on(tmp_path: Path, replay: Replay) -> None:
    path = feed(tmp_path, numbered(3))
    sensor = replay(path, 0, None)
    sensor.read(1)
    later = path.with_suffix(".new")
    later.write_text(HEADER + "".join(f"{row}\n" for row in ["x0,9,9,9,9,9,9,9,9,9", "x1,8,8,8,8,8,8,8,8,8"]))
    later.replace(path)
    records = sensor.read(2)
    assert records is not None
    assert records.ids[0].startswith("x")
    path.unlink()
    records = sensor.read(1)
    assert records is not None, "without a file there the open one goes on"
    assert records.ids[0].startswith("x")
