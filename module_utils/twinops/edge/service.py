"""The inference service as the service manager and its health endpoint show it."""

from __future__ import annotations

import http.client
import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import devices
from ..errors import TwinopsError
from .supervisord import Supervisord

NAME = "twinops-inference"
POLL_S = 0.25
MANAGER_TIMEOUT_S = 60
FAILED_FOR_S = 2.0
"""So long the service must say `failed` to be believed: it tries again by itself, a spool may be busy for a moment."""
MIN_EXPECTED_RECORDS = 5
"""A probe so short that the sensor delivers fewer records says nothing about whether they are processed."""


class Service:
    """``twinops-inference`` on this device. ``settings`` is ``device.json``."""

    def __init__(self, root: Path, manager: str, settings: Mapping[str, Any]) -> None:
        self._supervisord = Supervisord(root, MANAGER_TIMEOUT_S) if manager == devices.SUPERVISORD else None
        self._address = str(settings["address"])
        self._port = int(settings["health_port"])
        self._rate_hz = float(settings.get("sensor", {}).get("rate_hz") or 0)

    def restart(self) -> None:
        """(Re)start it with what ``current`` points to.

        :raises TwinopsError: the service manager refused or did not answer
        """
        if self._supervisord:
            self._supervisord.restart(NAME)
        else:
            self._systemctl("restart")

    def stop(self) -> None:
        if self._supervisord:
            self._supervisord.stop(NAME)
        else:
            self._systemctl("stop")

    def health(self, timeout_s: float = 2.0) -> dict[str, Any] | None:
        """The health answer, or ``None`` when there is none."""
        connection = http.client.HTTPConnection(self._address, self._port, timeout=timeout_s)
        try:
            connection.request("GET", "/health")
            answer = json.loads(connection.getresponse().read(1 << 20))
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()
        return answer if isinstance(answer, dict) else None

    def wait_until_ok(self, release_digest: str, timeout_s: float) -> dict[str, Any]:
        """Wait for ``ok`` of exactly this release.

        :raises TwinopsError: it reported a failure, or ``timeout_s`` passed
        """
        give_up = time.monotonic() + timeout_s
        failed_since_s: float | None = None
        while True:
            health = self.health()
            mine = health if health and health.get("release_digest") == release_digest else {}
            if mine.get("status") == "ok":
                return mine
            failed_since_s = (failed_since_s or time.monotonic()) if mine.get("status") == "failed" else None
            if failed_since_s and time.monotonic() - failed_since_s >= FAILED_FOR_S:
                raise TwinopsError(f"the service failed: {mine.get('reason') or 'no reason given'}")
            if time.monotonic() >= give_up:
                raise TwinopsError(f"the service was not ok within {timeout_s:g} s: {_describe(health)}")
            time.sleep(POLL_S)

    def probe(self, release_digest: str, start_timeout_s: float, probe_s: float) -> None:
        """Watch the service: it must become ok, stay ok in one process for ``probe_s``, and process records.

        :raises TwinopsError: what it did instead
        """
        first = last = self.wait_until_ok(release_digest, start_timeout_s)
        began = time.monotonic()
        while time.monotonic() - began < probe_s:
            time.sleep(POLL_S)
            health = self.health()
            if health is None or health.get("status") != "ok" or health.get("release_digest") != release_digest:
                raise TwinopsError(f"the service did not stay ok for {probe_s:g} s: {_describe(health)}")
            if health.get("pid") != first.get("pid"):
                raise TwinopsError(
                    f"the service restarted during the probe: pid {first.get('pid')}, then {health['pid']}"
                )
            last = health
        if self._rate_hz * probe_s >= MIN_EXPECTED_RECORDS and last.get("records") == first.get("records"):
            raise TwinopsError(
                f"the service says ok but processed no record in {probe_s:g} s; "
                f"the sensor delivers {self._rate_hz:g} a second"
            )

    def _systemctl(self, verb: str) -> None:
        command = ["systemctl", verb, NAME]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=MANAGER_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TwinopsError(f"{' '.join(command)}: {error}; expected a service manager that answers") from error
        if done.returncode != 0 and verb != "stop":  # a stop of what is stopped is no failure
            said = (done.stdout + done.stderr).decode(errors="replace").strip()
            raise TwinopsError(f"{' '.join(command)}: exit code {done.returncode}: {said[-300:]}")


def _describe(health: Mapping[str, Any] | None) -> str:
    if health is None:
        return "no answer from its health endpoint"
    digest = str(health.get("release_digest"))[:12]
    return f"{health.get('status')} ({health.get('reason') or 'no reason'}), release {health.get('release')} {digest}"
