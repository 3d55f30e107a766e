"""Enrolling a device: what its settings must be, what its environment is called, which wheels it lacks. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from .errors import SpecError, TwinopsError

SUPERVISORD = "supervisord"
SYSTEMD = "systemd"

SUPERVISOR_SOCKET = "run/sv.sock"
LONGEST_SOCKET_PATH = 107
"""``sun_path`` holds 108 bytes, the last of them zero."""
LONGEST_PID = ".4194304"
"""supervisord binds ``<socket>.<pid>`` first and links it afterwards."""

SENSOR_KINDS = ("csv_replay",)

# Key -> type, as device.json has them.
SETTINGS: Mapping[str, Any] = {
    "device": str,
    "env": str,
    "device_class": str,
    "address": str,
    "health_port": int,
    "sensor": {"kind": str, "path": str, "rate_hz": (int, float)},
    "upload": {"bucket": str, "prefix": str, "batch_records": int, "interval_s": (int, float)},
}


def check_settings(settings: Mapping[str, Any], where: str) -> None:
    """Check the content of ``device.json``.

    :raises SpecError: every mistake, each as ``where: key: expected …, got …``
    """
    mistakes = list(_mistakes(settings, SETTINGS, f"{where}: "))
    if not mistakes:
        if not 1 <= settings["health_port"] <= 65535:
            mistakes.append(f"{where}: health_port: expected 1–65535, got {settings['health_port']}")
        sensor, upload = settings["sensor"], settings["upload"]
        if sensor["kind"] not in SENSOR_KINDS:
            mistakes.append(f"{where}: sensor.kind: expected {' or '.join(SENSOR_KINDS)}, got {sensor['kind']!r}")
        if sensor["rate_hz"] < 0:
            mistakes.append(f"{where}: sensor.rate_hz: expected at least 0, got {sensor['rate_hz']}")
        for key in ("batch_records", "interval_s"):
            if upload[key] <= 0:
                mistakes.append(f"{where}: upload.{key}: expected more than 0, got {upload[key]}")
        if upload["prefix"] and not upload["prefix"].endswith("/"):
            mistakes.append(f"{where}: upload.prefix: expected to end in /, got {upload['prefix']!r}")
    if mistakes:
        raise SpecError(mistakes)


def check_intervals(*, pull_interval_s: int, report_interval_s: int) -> None:
    """Check how often a device asks and reports.

    :raises SpecError: every mistake; 0 is never for reports, and would be without a pause for pulls
    """
    mistakes = []
    if pull_interval_s < 1:
        mistakes.append(
            f"edge_pull_interval_s: expected at least 1 (no edge_models_bucket: never), got {pull_interval_s}"
        )
    if report_interval_s < 0:
        mistakes.append(f"edge_report_interval_s: expected at least 0 (never), got {report_interval_s}")
    if mistakes:
        raise SpecError(mistakes)


def _mistakes(content: Mapping[str, Any], expected: Mapping[str, Any], where: str) -> list[str]:
    found = [
        f"{where}{key}: unknown key; expected one of {', '.join(expected)}"
        for key in sorted(set(content) - set(expected))
    ]
    for key, kind in expected.items():
        value = content.get(key)
        if isinstance(kind, Mapping):
            if isinstance(value, Mapping):
                found += _mistakes(value, kind, f"{where}{key}.")
            else:
                found.append(f"{where}{key}: expected {', '.join(kind)}, got {value!r:.60}")
        elif not isinstance(value, kind) or isinstance(value, bool) or (value == "" and key != "prefix"):
            names = {str: "text", int: "a whole number"}.get(kind, "a number")
            found.append(f"{where}{key}: expected {names}, got {value!r:.60}")
    return found


def check_socket_path(root: str) -> None:
    """supervisord's socket must fit below ``root``.

    :raises TwinopsError: ``root`` is too long
    """
    path = f"{PurePosixPath(root, SUPERVISOR_SOCKET)}{LONGEST_PID}"
    surplus = len(path.encode()) - LONGEST_SOCKET_PATH
    if surplus > 0:
        raise TwinopsError(
            f"edge_root: {root}: expected a path shorter by {surplus} bytes or more: "
            f"supervisord's socket {path} must not exceed {LONGEST_SOCKET_PATH} bytes"
        )


def environment_digest(lock: str, python_version: str, machine: str) -> str:
    """The name of a Python environment: the same lock, Python and processor are the same environment."""
    return hashlib.sha256("\n".join((python_version, machine, lock)).encode()).hexdigest()


def locked_hashes(lock: str, package: str) -> frozenset[str]:
    """The SHA-256 digests that a requirements file with hashes allows for ``package``."""
    entry = re.search(rf"^{re.escape(package)}==[^\n]*(?:\n[ \t]+[^\n]*)*", lock, re.MULTILINE)
    return frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})", entry.group(0))) if entry else frozenset()
