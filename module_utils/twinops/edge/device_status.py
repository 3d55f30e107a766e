#!/usr/bin/env python3
"""What a device says about itself. This file is both the core of the module ``edge_status`` and, copied to
``<edge_root>/bin/twinops-edge``, the program a person runs on the device: so it stands alone, without imports of ours.

    twinops-edge status     state.json plus the health answer, as one JSON object
    twinops-edge version    the release that is running
    twinops-edge facts      the status and more, as it is reported
    twinops-edge pull       follow the environment's release now; with --every SECONDS for ever, about that often
    twinops-edge report     upload the facts now; with --every SECONDS for ever, and when another release runs
"""

from __future__ import annotations

import http.client
import json
import random
import shutil
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

HEALTH_TIMEOUT_S = 5.0
FIRST_SHARE, JITTER = 0.05, 0.1
"""Of the interval between pulls or reports: how long the first may wait, and how much the others differ."""
LOOK_EVERY_S, SETTLED_AFTER_S = 5.0, 15.0
"""How often a device looks whether another release runs, and how long that must have been so to be reported."""
LARGEST_ANSWER_BYTES = 1 << 20


def device_status(root: Path) -> dict[str, Any]:
    """The status of the device below ``root``. Never raises for what may be broken: ``problems`` says it."""
    problems: list[str] = []
    settings = _read(root / "device.json", problems)
    # Before its first release a device has no state; that is no problem.
    state = _read(root / "state.json", problems) if (root / "state.json").exists() else {}
    manifest = _read(root / "current/manifest.json", problems) if state.get("release") else {}
    usage = shutil.disk_usage(root if root.is_dir() else "/")
    return {
        "device": settings.get("device"),
        "release": state.get("release"),
        "release_digest": state.get("release_digest"),
        "model_sha256": (manifest.get("model") or {}).get("sha256"),
        "git_sha": manifest.get("git_sha"),
        "data_version": manifest.get("data_version"),
        "slot": state.get("slot"),
        "phase": state.get("phase", "idle" if settings else "not enrolled"),
        "reason": state.get("reason"),
        "rollout_id": state.get("rollout_id"),
        "previous": state.get("previous"),
        "target": state.get("target"),
        "waiting": state.get("waiting"),
        "pull": _read(root / "run/pull.json", problems) if (root / "run/pull.json").exists() else None,
        "history": state.get("history", []),
        "health": _health(settings, problems),
        "disk": {"total_bytes": usage.total, "free_bytes": usage.free},
        "clock": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "problems": problems,
    }


def _read(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        problems.append(f"{path}: {error.strerror}")
    except ValueError as error:
        problems.append(f"{path}: expected JSON: {error}")
    else:
        if isinstance(content, dict):
            return content
        problems.append(f"{path}: expected an object, got {type(content).__name__}")
    return {}


def _health(settings: dict[str, Any], problems: list[str]) -> dict[str, Any] | None:
    address, port = settings.get("address"), settings.get("health_port")
    if not isinstance(address, str) or not isinstance(port, int):
        return None
    connection = http.client.HTTPConnection(address, port, timeout=HEALTH_TIMEOUT_S)
    try:
        connection.request("GET", "/health")
        answer = json.loads(connection.getresponse().read(LARGEST_ANSWER_BYTES))
    except (OSError, http.client.HTTPException, ValueError) as error:
        problems.append(f"http://{address}:{port}/health: {error or type(error).__name__}")
        return None
    finally:
        connection.close()
    return answer if isinstance(answer, dict) else None


def run(root: Path, command: str) -> int:
    """Run the program that pulls and reports; its exit code."""
    program = [str(root / "venv/bin/python"), "-I", str(root / "bin/twinops-edge.zip"), command]
    return subprocess.run(program, stdin=subprocess.DEVNULL, check=False).returncode


def keep_running(root: Path, command: str, every_s: float) -> None:
    """Run it soon after the start, then about every ``every_s``, never all devices of a fleet at once."""
    time.sleep(random.uniform(0, every_s * FIRST_SHARE))  # noqa: S311
    while True:
        seen = _changed_at(root)
        run(root, command)
        give_up = time.monotonic() + every_s * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311
        while (left_s := give_up - time.monotonic()) > 0:
            time.sleep(min(left_s, LOOK_EVERY_S))
            if command == "report" and _changed_at(root) != seen and time.time() - _changed_at(root) > SETTLED_AFTER_S:
                break


def _changed_at(root: Path) -> float:
    """When the state last changed, by the file system's clock; 0 before the first release."""
    try:
        return (root / "state.json").stat().st_mtime
    except OSError:
        return 0.0


def main(arguments: list[str], root: Path) -> int:
    """0 done; 1 nothing is running (``version``), or the pull or report failed; 2 wrong arguments."""
    command, options = arguments[:1], arguments[1:]
    every_s = int(options[1]) if len(options) == 2 and options[0] == "--every" and options[1].isdecimal() else 0
    if command in (["pull"], ["report"]) and every_s:
        keep_running(root, command[0], every_s)
    if arguments in (["facts"], ["pull"], ["report"]):
        return run(root, arguments[0])
    if arguments not in (["status"], ["version"]):
        sys.stderr.write("usage: twinops-edge status | version | facts | (pull | report) [--every SECONDS]\n")
        return 2
    status = device_status(root)
    if arguments == ["status"]:
        sys.stdout.write(json.dumps(status, indent=2) + "\n")
        return 0
    if status["health"] is None:
        sys.stderr.write(f"no release is running: {'; '.join(status['problems'])}\n")
        return 1
    sys.stdout.write(f"{status['health'].get('release')}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path(__file__).resolve().parents[1]))
