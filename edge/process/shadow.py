"""Shadow mode: a challenger sees what the champion sees, its labels are recorded and compared, and nobody acts on them.

Rules that keep the champion undisturbed:

- The challenger is a process of its own (``challenger.py``). Nothing it does raises here.
- A batch is handed over without ever waiting. While the challenger is at work on one, it is not given another: it
  misses those, and they are counted as ``skipped``.
- The champion waits for an answer at most ``wait_s`` after it has decided itself, and only for a batch that was handed
  over just now: so a hanging challenger costs ``wait_s`` once, not once a batch.
- Without an answer in ``stall_s`` it is killed. It is started again after a pause that doubles, up to an hour.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from settings import Challenger

CODE = Path(__file__).with_name("challenger.py")
FIRST_PAUSE_S, LONGEST_PAUSE_S = 10.0, 3600.0
START_TIMEOUT_S = 60.0


class Shadow:
    """The challenger of a release, as the loop uses it: :meth:`offer` before deciding, :meth:`labels` after."""

    def __init__(self, challenger: Challenger, model: Path, wait_s: float, stall_s: float, memory_mb: int) -> None:
        self._challenger, self._model = challenger, model
        self._wait_s, self._stall_s, self._memory_mb = wait_s, stall_s, memory_mb
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._errors = os.fdopen(os.memfd_create("challenger's last words"), "w+b")
        self._number = 0
        self._pending: tuple[int, np.ndarray | None] | None = None
        self._deadline_s, self._retry_s, self._pause_s = 0.0, 0.0, FIRST_PAUSE_S
        self._state, self._reason = "starting", "loading the model"
        self.records = self.agreed = self.alarms = self.champion_alarms = self.skipped = self.failures = 0

    def as_dict(self) -> dict[str, Any]:
        """For ``/health``. ``records`` are those that both have decided; ``agreed`` of them with the same label."""
        return {
            "status": self._state,
            "reason": self._reason,
            "version": self._challenger.version,
            "model_sha256": self._challenger.sha256,
            "records": self.records,
            "agreed": self.agreed,
            "alarms": self.alarms,
            "champion_alarms": self.champion_alarms,
            "skipped": self.skipped,
            "failures": self.failures,
        }

    # -- what the loop does ---------------------------------------------------------------------------------------

    def offer(self, features: np.ndarray) -> None:
        """Hand ``features`` over, if the challenger is idle. Never waits, never raises."""
        try:
            self._receive(0.0)
            self._tend()
            if self._socket is None or self._state != "ok" or self._pending is not None:
                self.skipped += len(features)
                return
            self._number += 1
            self._socket.send(self._number.to_bytes(8, "little") + features.tobytes(), socket.MSG_DONTWAIT)
            self._pending = (self._number, None)
            self._deadline_s = time.monotonic() + self._stall_s
        except BlockingIOError:
            self.skipped += len(features)
        except OSError as error:
            self.skipped += len(features)
            self._fail(self._last_words(error))

    def labels(self, decided: np.ndarray) -> np.ndarray | None:
        """The challenger's labels of the batch that was just offered, or ``None`` if they do not come in time.

        ``decided``: the champion's, to compare with; an answer that comes later is still compared.
        """
        if self._pending is None or self._pending[1] is not None or self._pending[0] != self._number:
            return None
        self._pending = (self._number, decided)
        try:
            return self._receive(self._wait_s)
        except OSError as error:
            self._fail(self._last_words(error))
            return None

    def close(self) -> None:
        """End the challenger."""
        self._end()
        self._errors.close()

    # -- within ---------------------------------------------------------------------------------------------------

    def _receive(self, wait_s: float) -> np.ndarray | None:
        """The answer to the pending batch, if it is here within ``wait_s``; compares it."""
        if self._socket is None or not select.select([self._socket], [], [], wait_s)[0]:
            return None
        message = self._socket.recv(1 << 24)
        if not message:
            self._fail(self._last_words())
            return None
        number = int.from_bytes(message[:8], "little")
        if number == 0:
            self._state, self._reason = "ok", ""
            return None
        pending, self._pending = self._pending, None
        labels = np.frombuffer(message, dtype=np.uint8, offset=8)
        if pending is None or pending[0] != number or pending[1] is None or len(labels) != len(pending[1]):
            return None  # the champion could not decide that batch: there is nothing to compare with
        self._pause_s = FIRST_PAUSE_S
        self.records += len(labels)
        self.agreed += int(np.count_nonzero(labels == pending[1]))
        self.alarms += int(np.count_nonzero(labels))
        self.champion_alarms += int(np.count_nonzero(pending[1]))
        return labels

    def _tend(self) -> None:
        """Start it when it is due, end it when it hangs."""
        now_s = time.monotonic()
        if self._process is None:
            if now_s >= self._retry_s:
                self._start(now_s)
        elif self._state == "starting" and now_s > self._deadline_s:
            self._fail(f"it did not start within {START_TIMEOUT_S:g} s")
        elif self._pending is not None and now_s > self._deadline_s:
            self._fail(f"it did not answer within {self._stall_s:g} s")

    def _start(self, now_s: float) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._errors.seek(0)
        self._errors.truncate()
        command = [sys.executable, str(CODE), str(theirs.fileno()), str(self._model)]
        try:
            self._process = subprocess.Popen(
                [*command, self._challenger.sha256, str(self._memory_mb)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=(theirs.fileno(),),
            )
        finally:
            theirs.close()
        self._state, self._reason = "starting", "loading the model"
        self._deadline_s = now_s + START_TIMEOUT_S

    def _fail(self, reason: str) -> None:
        self._end()
        self._state, self._reason = "failed", reason
        self.failures += 1
        self._retry_s = time.monotonic() + self._pause_s
        self._pause_s = min(LONGEST_PAUSE_S, 2 * self._pause_s)

    def _last_words(self, error: OSError | None = None) -> str:
        """Why it ended, as it said or as the kernel did; ``error`` is what we noticed."""
        code = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(0.1) if self._process else None
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()[-1:]
        if code is None:  # it is still on its way out
            how = f" ({error})" if error else ""
        else:
            how = f" with signal {signal.Signals(-code).name}" if code < 0 else f" with exit code {code}"
        return f"it ended{how}{': ' if said else ''}{''.join(said)[-300:]}"

    def _end(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # the disk may keep it for a while
                self._process.wait(1.0)
        self._socket = self._process = self._pending = None
