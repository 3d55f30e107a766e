"""What a device reports of itself: its status, and what somebody who cannot get there needs to find out what is wrong.

:func:`facts` reads, and never raises for what may be broken: what could not be read is in ``problems``. Everything is
bounded, and what looks like a secret is taken out (docs/interfaces.md, "Facts").
"""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .device_status import device_status
from .digests import file_sha256
from .service import NAME

SCHEMA = 1
LOG_LINES = 20
LOG_TAIL_BYTES = 1 << 15
HISTORY_ENTRIES = 10
LONGEST_TEXT = 300
READINGS_TIMEOUT_S = 5.0
LARGEST_READINGS_BYTES = 1 << 18
JOURNAL_TIMEOUT_S = 10

HIDDEN = "[hidden]"
KEY_ID = re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b")
LOGIN_IN_URL = re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")
NAMED_SECRET = re.compile(
    r"""(?ix) (
      (?: password | passwd | secret | token | api[_-]?key | access[_-]?key | signature | credential | authorization )
      [a-z0-9_-]* ["']? \s* [=:] \s* ["']? (?: bearer \s+ | basic \s+ )?
    ) [^\s"',;&]+"""
)
SECRET_VARIABLE = re.compile(r"(?i)secret|token|password|key")
SHORTEST_SECRET = 6


def facts(root: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of the device below ``root``; ``settings`` is ``report.json``."""
    status = device_status(root)
    problems: list[str] = status["problems"]
    device = _json(root / "device.json")
    found = {
        "schema": SCHEMA,
        "reported_at": status["clock"],
        "interval_s": settings.get("interval_s"),
        "env": device.get("env") if isinstance(device, dict) else None,
        **status,
        "history": status["history"][-HISTORY_ENTRIES:],
        "model_file_sha256": _sha256(root / "current/model.onnx"),
        "memory": _memory(status["health"]),
        "uptime_s": _uptime_s(),
        "starts": _json(root / "run/starts.json"),
        "readings": _readings(device, problems) if status["health"] else None,
        "log": _log(root, str(settings.get("service_manager")), problems),
    }
    return dict(without_secrets(found, settings.get("aws_environment") or {}))


def without_secrets(value: Any, environment: Mapping[str, str]) -> Any:
    """``value`` with every text bounded, and without what is, or looks like, a secret.

    ``environment`` are variables of the service: the values of those that are named as secrets are taken out as such.
    """
    known = [text for name, text in environment.items() if SECRET_VARIABLE.search(name) and len(text) > SHORTEST_SECRET]

    def clean(part: Any) -> Any:
        if isinstance(part, Mapping):
            return {key: clean(one) for key, one in part.items()}
        if isinstance(part, (list, tuple)):
            return [clean(one) for one in part]
        if not isinstance(part, str):
            return part
        for secret in known:
            part = part.replace(secret, HIDDEN)
        part = NAMED_SECRET.sub(rf"\1{HIDDEN}", LOGIN_IN_URL.sub(HIDDEN, KEY_ID.sub(HIDDEN, part)))
        return part if len(part) <= LONGEST_TEXT else f"{part[: LONGEST_TEXT - 1]}…"

    return clean(value)


def _json(path: Path) -> Any:
    """What the file has, None where it has nothing that can be read."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _sha256(path: Path) -> str | None:
    """Of the file as it is on the disk now: what the service loaded may have been another one."""
    try:
        return file_sha256(path)
    except OSError:
        return None


def _memory(health: Mapping[str, Any] | None) -> dict[str, int | None]:
    """Bytes of the device's memory, what is available of it, and what the service has of it."""
    machine = _kibibytes(Path("/proc/meminfo"))
    service = _kibibytes(Path(f"/proc/{health.get('pid')}/status")) if health else {}
    return {
        "total_bytes": machine.get("MemTotal"),
        "available_bytes": machine.get("MemAvailable"),
        "service_bytes": service.get("VmRSS"),
    }


def _kibibytes(path: Path) -> dict[str, int]:
    """Name -> bytes, of the lines ``Name:   123 kB``."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return {}
    parts = [line.split() for line in lines if line.endswith(" kB")]
    return {name.rstrip(":"): int(number) * 1024 for name, number, _ in parts}


def _uptime_s() -> float | None:
    try:
        return float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return None


def _readings(device: Mapping[str, Any], problems: list[str]) -> Any:
    """What the service says about its sensor; None of a release that does not know how (before ``/readings``)."""
    address, port = device.get("address"), device.get("health_port")
    connection = http.client.HTTPConnection(str(address), int(str(port)), timeout=READINGS_TIMEOUT_S)
    try:
        connection.request("GET", "/readings")
        answer = connection.getresponse()
        body = answer.read(LARGEST_READINGS_BYTES)
        return json.loads(body) if answer.status == http.client.OK else None
    except (OSError, http.client.HTTPException, ValueError) as error:
        problems.append(f"http://{address}:{port}/readings: {error or type(error).__name__}")
        return None
    finally:
        connection.close()


def _log(root: Path, service_manager: str, problems: list[str]) -> list[str]:
    """The last lines that the service wrote."""
    try:
        text = _journal(problems) if service_manager == "systemd" else _tail(root / "log/inference.log")
    except (OSError, subprocess.TimeoutExpired) as error:
        problems.append(f"log: {error}")
        return []
    return [line for line in text.splitlines() if line.strip()][-LOG_LINES:]


def _tail(path: Path) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
        return file.read().decode(errors="replace")


def _journal(problems: list[str]) -> str:
    command = ["journalctl", "--unit", NAME, "--lines", str(LOG_LINES), "--output", "cat", "--no-pager", "--quiet"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=JOURNAL_TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        problems.append(f"log: journalctl: exit code {done.returncode}: {said}")
    return done.stdout.decode(errors="replace")
