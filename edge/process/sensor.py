"""Where records come from. A real sensor implements ``Sensor``; ``CsvReplay`` replays a file as if it were one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np
from clock import iso
from errors import SensorError

FEATURES = 9
LARGEST = float(np.finfo(np.float32).max)


class Records(NamedTuple):
    """What one read gave, oldest first.

    ``position`` is the sensor's place *after* these records, to be stored with the decisions on them.
    ``unreadable`` counts the records that were skipped because they are not ``FEATURES`` finite numbers; those of them
    that lack single numbers are ``incomplete``, with NaN for what is missing.
    """

    ids: list[str]
    recorded_at: list[str]
    features: np.ndarray
    position: str
    unreadable: int
    incomplete: np.ndarray = np.empty((0, FEATURES))


class Sensor(Protocol):
    """A source of records that remembers nothing: the service stores the position and hands it back after a restart."""

    def read(self, limit: int) -> Records | None:
        """At most ``limit`` records that are there by now, None if there are none. Never waits. Raises SensorError."""

    def close(self) -> None:
        """Lets the device go."""


class CsvReplay:
    """Replays ``record_id,f1..f9`` rows at ``rate_hz``, each stamped with the time it is due, for ever.

    ``rate_hz`` 0 means as fast as they are read. A service that falls behind gets what it missed, as from a sensor with
    a buffer. The position is the byte offset of the next row; one that is not the start of a row (the file was
    replaced) means the first row. A file that is replaced meanwhile is read from then on, as a sensor that changes is.
    """

    def __init__(self, path: Path, rate_hz: float, position: str | None) -> None:
        self._path, self._rate_hz = path, rate_hz
        self._file, self._first_row = self._open(position)
        self._started_s = time.monotonic()
        self._read = 0

    def _open(self, position: str | None) -> tuple[BinaryIO, int]:
        """The file at the row that ``position`` says, and where its first row begins."""
        try:
            file = self._path.open("rb")
        except OSError as error:
            raise SensorError(f"{self._path}: {error.strerror}; expected the sensor's records") from error
        first_row = len(file.readline())
        if not file.readline():
            file.close()
            raise SensorError(f"{self._path}: expected rows of record_id,f1..f{FEATURES}, got none")
        file.seek(_start(file, first_row, position))
        return file, first_row

    def _follow(self) -> None:
        """Opens the file that has replaced the open one; without a file there the open one goes on."""
        try:
            replaced = not os.path.samestat(os.fstat(self._file.fileno()), self._path.stat())
        except FileNotFoundError:
            return
        if replaced:
            file, self._first_row = self._open(str(self._file.tell()))
            self._file.close()
            self._file = file

    def read(self, limit: int) -> Records | None:
        elapsed_s = time.monotonic() - self._started_s
        due = limit if not self._rate_hz else min(limit, int(elapsed_s * self._rate_hz) - self._read)
        if due <= 0:
            return None
        self._follow()
        wall_start_s = time.time() - elapsed_s
        ids, recorded_at, readings, incomplete = [], [], [], []
        for row in self._rows(due):
            self._read += 1
            record_id, _, values = row.partition(b",")
            numbers = _numbers(values)
            if record_id and numbers:
                due_s = self._read / self._rate_hz if self._rate_hz else elapsed_s
                ids.append(record_id.decode("utf-8", "replace"))
                recorded_at.append(iso(wall_start_s + due_s))
                readings.append(numbers)
            elif record_id and (numbers := _with_gaps(values)):
                incomplete.append(numbers)
        features = np.array(readings, dtype=np.float32).reshape(len(ids), FEATURES)
        gaps = np.array(incomplete).reshape(len(incomplete), FEATURES)
        return Records(ids, recorded_at, features, str(self._file.tell()), due - len(ids), gaps)

    def _rows(self, count: int) -> Iterator[bytes]:
        for _ in range(count):
            row = self._file.readline()
            if not row:
                self._file.seek(self._first_row)
                row = self._file.readline()
            yield row

    def close(self) -> None:
        self._file.close()


def _start(file: BinaryIO, first_row: int, position: str | None) -> int:
    if position is None or not position.isdigit() or int(position) <= first_row:
        return first_row
    file.seek(int(position) - 1)
    return int(position) if file.read(1) == b"\n" else first_row


def _numbers(values: bytes) -> list[float] | None:
    """``FEATURES`` numbers that a float32 can hold, or None."""
    try:
        numbers = list(map(float, values.split(b",")))
    except ValueError:
        return None
    # One comparison for all of them: a sum with an infinity or a NaN in it is not below anything.
    fits = len(numbers) == FEATURES and sum(map(abs, numbers)) < LARGEST
    return numbers if fits else None


def _with_gaps(values: bytes) -> list[float] | None:
    """``FEATURES`` numbers, NaN for each that is no finite one; None where there is another number of fields."""
    fields = values.split(b",")
    return [_number(field) for field in fields] if len(fields) == FEATURES else None


def _number(field: bytes) -> float:
    try:
        number = float(field)
    except ValueError:
        return float("nan")
    return number if abs(number) < LARGEST else float("nan")


def open_sensor(settings: Mapping[str, Any], position: str | None) -> Sensor:
    """The sensor of ``device.json``, continuing after ``position``."""
    kind, path, rate_hz = settings.get("kind"), settings.get("path"), settings.get("rate_hz")
    if kind != "csv_replay":
        raise SensorError(f"device.json: sensor.kind: expected csv_replay, got {kind!r}")
    if not isinstance(path, str) or not isinstance(rate_hz, (int, float)) or rate_hz < 0:
        raise SensorError(f"device.json: sensor: expected a path and a rate_hz from 0, got {path!r} and {rate_hz!r}")
    return CsvReplay(Path(path), rate_hz, position)
