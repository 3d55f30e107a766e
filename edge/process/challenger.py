"""The challenger's process: answers batches of records with labels, for as long as its socket is open.

Started by ``shadow.py`` with one end of a socket. It has a process of its own so that whatever it does – crash, hang,
eat memory – is only its own: it yields the processor to everybody, and is the first that the kernel ends when memory is
short.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import socket
import sys
from pathlib import Path

import numpy as np
from errors import ModelError
from model import Model
from sensor import FEATURES

NICE = 10
LARGEST_MESSAGE_BYTES = 1 << 24
LONGEST_LOG_BYTES = 1 << 20
PR_SET_PDEATHSIG = 1


def step_back(memory_mb: int) -> None:
    """Yield to the champion in everything, and end with it."""
    with contextlib.suppress(OSError):  # a sandboxed service may not be allowed to; the rest still holds
        os.nice(NICE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (memory_mb << 20, memory_mb << 20))
    resource.setrlimit(resource.RLIMIT_FSIZE, (LONGEST_LOG_BYTES, LONGEST_LOG_BYTES))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def answer(connection: socket.socket, model: Model) -> None:
    """One message in, one out: a number of 8 bytes, then float32 records; the number, then a byte for each label."""
    while message := connection.recv(LARGEST_MESSAGE_BYTES):
        records = np.frombuffer(message, dtype=np.float32, offset=8).reshape(-1, FEATURES)
        labels = model.decide(records).labels.astype(np.uint8)
        connection.send(message[:8] + labels.tobytes())


def main(arguments: list[str]) -> int:
    """0 the champion has ended; 1 the model is no model, said as the last line of standard error."""
    descriptor, path, sha256, memory_mb = arguments
    step_back(int(memory_mb))
    connection = socket.socket(fileno=int(descriptor))
    try:
        model = Model(Path(path), sha256)
        connection.send(bytes(8))  # ready
        answer(connection, model)
    except ModelError as error:
        print(error, file=sys.stderr)
        return 1
    except (ConnectionError, MemoryError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
