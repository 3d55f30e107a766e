"""The loop: read what the sensor has, decide, make the decisions durable; again."""

from __future__ import annotations

import itertools
import sys
import threading
import time
import traceback
from collections.abc import Callable
from json.encoder import encode_basestring_ascii as quoted

import clock
import numpy as np
from errors import EdgeError
from health import Status
from model import Decisions, Model
from sensor import Records, Sensor
from settings import Config, Release
from shadow import Shadow
from spool import Spool

RETRY_S = 1.0


class Formatter:
    """Decisions as JSON lines. Written by hand, because a line costs a tenth of what ``json.dumps`` takes."""

    def __init__(self, device: str, release: Release) -> None:
        self._start = f'{{"device": {quoted(device)}, "seq": '
        self._middle = (
            f', "release": {quoted(release.release)}, "model_sha256": {quoted(release.model_sha256)}, "label": '
        )

    def lines(
        self, first_seq: int, records: Records, decisions: Decisions, shadow_labels: np.ndarray | None = None
    ) -> bytes:
        """A line a record; with ``shadow_labels`` where the challenger answered in time."""
        start, middle = self._start, self._middle
        labels = shadow_labels.tolist() if shadow_labels is not None else ()
        ends = [f', "shadow_label": {label}}}\n' for label in labels] or itertools.repeat("}\n")
        rows = zip(records.ids, records.recorded_at, decisions.labels.tolist(), decisions.scores.tolist(), ends)
        return "".join(
            f'{start}{seq}, "record_id": {quoted(record_id)}, "recorded_at": "{recorded_at}"{middle}{label}, '
            f'"score": {score:.6g}{end}'
            for seq, (record_id, recorded_at, label, score, end) in enumerate(rows, first_seq)
        ).encode()


class Parts:
    """What a step needs. Opening them can fail, and is then tried again."""

    def __init__(
        self,
        model: Model,
        spool: Spool,
        sensor: Sensor,
        formatter: Formatter,
        config: Config,
        *,
        shadow: Shadow | None,
    ) -> None:
        self.model, self.spool, self.sensor, self.formatter, self.config = model, spool, sensor, formatter, config
        self.shadow = shadow


class Loop(threading.Thread):
    """Runs steps until stopped. A step that fails is repeated with the *same* records once a second.

    So a bad release decides nothing and loses nothing: the release that replaces it starts with the very record that
    its predecessor could not decide.
    """

    def __init__(self, open_parts: Callable[[], Parts], status: Status, stop: threading.Event) -> None:
        super().__init__(name="loop", daemon=True)
        self._open_parts, self._status, self._stopping = open_parts, status, stop
        self._parts: Parts | None = None
        self._undecided: Records | None = None
        self._logged = ""

    def run(self) -> None:
        wait_s = 0.0
        while not self._stopping.wait(wait_s):
            self._status.beat()
            try:
                wait_s = self._step()
            except EdgeError as error:
                self._fail(str(error))
                wait_s = RETRY_S
            except Exception as error:  # a mistake in this program must show, and must not end in silence
                self._fail(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
                wait_s = RETRY_S
        if self._parts:
            self._parts.sensor.close()
            if self._parts.shadow:
                self._parts.shadow.close()

    def _fail(self, reason: str) -> None:
        if reason != self._logged:
            print(f"{clock.now()} {reason}", file=sys.stderr, flush=True)
        self._logged = reason
        self._status.fail(reason.partition("\n")[0])

    def _step(self) -> float:
        """Decides what is due; returns the seconds until there can be more."""
        if self._parts is None:
            self._status.beat(is_loading=True)
            self._parts = self._open_parts()
            self._status.beat()
        parts, status = self._parts, self._status
        records = self._undecided or parts.sensor.read(parts.config.max_batch_records)
        if records:
            self._undecided = records
            self._decide(parts, records)
            self._undecided = None
        status.ok()
        full = records is not None and len(records.ids) >= parts.config.max_batch_records
        return 0.0 if full else parts.config.commit_interval_ms / 1000

    def _decide(self, parts: Parts, records: Records) -> None:
        started_s = time.perf_counter()
        count, lines, alarms, decisions = len(records.ids), b"", 0, None
        if count:
            if parts.shadow:
                parts.shadow.offer(records.features)
            decisions = parts.model.decide(records.features)
            shadow_labels = parts.shadow.labels(decisions.labels) if parts.shadow else None
            lines = parts.formatter.lines(parts.spool.next_seq, records, decisions, shadow_labels)
            alarms = int(np.count_nonzero(decisions.labels))
        parts.spool.append(lines, count, records.position)
        status = self._status
        status.readings.add(records, decisions)
        status.records += count
        status.alarms += alarms
        status.errors += records.unreadable
        status.spool_depth, status.spool_dropped = parts.spool.depth, parts.spool.dropped
        if count:
            status.latency.add(time.perf_counter() - started_s, count)
