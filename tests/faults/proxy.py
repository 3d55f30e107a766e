"""A door in front of the ledger that can be shut: a TCP proxy that forwards, refuses, or answers as if throttled."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

OPEN = "open"
AWAY = "away"
THROTTLED = "throttled"

_THROTTLE = (
    b'{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"Slow down."}'
)
_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/x-amz-json-1.0\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_THROTTLE), _THROTTLE)
)


class Proxy:
    """Listens on loopback until :meth:`close`. ``mode`` is one of OPEN, AWAY, THROTTLED."""

    def __init__(self, target_port: int) -> None:
        self._target = ("127.0.0.1", target_port)
        self._mode = OPEN
        self.refused = 0
        """How many connections found it shut, since it was made."""
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def switch(self, mode: str) -> None:
        """From now on; connections that are open are cut."""
        with self._lock:
            self._mode = mode
            for connection in self._connections:
                _cut(connection)
            self._connections.clear()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.switch(AWAY)

    def _accept(self) -> None:
        while True:
            try:
                visitor, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(visitor,), daemon=True).start()

    def _serve(self, visitor: socket.socket) -> None:
        if self._mode == OPEN:
            self._forward(visitor)
            return
        self.refused += 1
        if self._mode == AWAY:
            _cut(visitor)
        else:
            _throttle(visitor)

    def _forward(self, visitor: socket.socket) -> None:
        try:
            ledger = socket.create_connection(self._target)
        except OSError:  # the sandbox is going down
            _cut(visitor)
            return
        with self._lock:
            self._connections |= {visitor, ledger}
        back = threading.Thread(target=_pump, args=(ledger, visitor), daemon=True)
        back.start()
        _pump(visitor, ledger)
        back.join()
        with self._lock:
            self._connections -= {visitor, ledger}
        visitor.close()
        ledger.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _throttle(visitor: socket.socket) -> None:
    with visitor, contextlib.suppress(OSError):
        visitor.settimeout(5)
        request = b""
        while b"\r\n\r\n" not in request and (data := visitor.recv(65536)):
            request += data
        visitor.sendall(_ANSWER)
        visitor.shutdown(socket.SHUT_WR)
        while visitor.recv(65536):  # what is left of the request: closing before would reset the answer away
            pass


def _cut(connection: socket.socket) -> None:
    """Close with a reset, as a machine that is gone."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
