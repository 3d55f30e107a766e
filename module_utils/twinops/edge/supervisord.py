"""supervisord, spoken to over its socket: what ``supervisorctl`` does, which takes longer to start than to do it."""

from __future__ import annotations

import http.client
import re
import socket
from pathlib import Path

from .. import devices
from ..errors import TwinopsError

ALREADY_STARTED, NOT_RUNNING = 60, 70
"""Faults of starting what is started, and of stopping what is stopped (``supervisor/xmlrpc.py``, ``Faults``)."""
CALL = """<?xml version="1.0"?>
<methodCall><methodName>supervisor.{method}</methodName><params>
<param><value><string>{name}</string></value></param><param><value><boolean>1</boolean></value></param>
</params></methodCall>"""
FAULT = re.compile(r"<int>(\d+)</int>.*<string>(.*)</string>", re.DOTALL)


class Supervisord:
    """The supervisord of the device at ``root``. Each call waits until it is done."""

    def __init__(self, root: Path, timeout_s: float) -> None:
        self._socket, self._timeout_s = root / devices.SUPERVISOR_SOCKET, timeout_s

    def restart(self, name: str) -> None:
        """Stop it where it runs, and start it.

        What has exited does not run, so it cannot be stopped, and supervisord may start it by itself before this does:
        then it runs, and can be.

        :raises TwinopsError: no answer, or the program did not stay up for a second
        """
        for may_fail_with in (ALREADY_STARTED, ALREADY_STARTED, None):
            self.stop(name)
            if self._call("startProcess", name, may_fail_with):
                return

    def stop(self, name: str) -> None:
        """:raises TwinopsError: no answer, or no such program"""
        self._call("stopProcess", name, may_fail_with=NOT_RUNNING)

    def _call(self, method: str, name: str, may_fail_with: int | None = None) -> bool:
        """Whether it was done; false where it failed with the fault that it may fail with."""
        connection = _Connection(self._socket, self._timeout_s)
        try:
            connection.request("POST", "/RPC2", CALL.format(method=method, name=name), {"Content-Type": "text/xml"})
            response = connection.getresponse()
            answer = response.read(1 << 16).decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise TwinopsError(
                f"{self._socket}: {error or type(error).__name__}; expected supervisord to answer"
            ) from error
        finally:
            connection.close()
        if response.status == http.client.OK and "<fault>" not in answer:
            return True
        fault = FAULT.search(answer)
        if fault is None or int(fault[1]) != may_fail_with:
            said = fault[2] if fault else f"HTTP {response.status} {answer[:200]}"
            raise TwinopsError(f"supervisord: {method} {name}: {said}")
        return False


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
