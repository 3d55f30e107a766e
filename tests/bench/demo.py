"""`make bench`: where the time, the AWS calls and the bytes of the demo go, from an empty sandbox of its own.

Seconds depend on the machine and on what else it does; the share of the whole is what can be compared between runs.
Calls and bytes are exact.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

CLONE = Path(__file__).resolve().parents[2]
HOME = CLONE / ".sandbox-bench"
SETTINGS = {"SANDBOX_HOME": str(HOME), "SANDBOX_PORT": "4580", "SANDBOX_NETWORK": "127.32.0.0"}
RELEASE_LOGS = {"v1": "site", "v2": "edge-v2", "v3": "edge-v3", "v4-hangs": "edge-v4"}
HOST = re.compile(r"^(?:changed|ok): \[(device-\d+)\]")
BYTES = re.compile(r"^\s+bytes_sent: (\d+)")


def sandbox(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", *arguments], cwd=CLONE, env={**os.environ, **SETTINGS}, check=True)


CALLS = ("read", "write", "upload")


def demo() -> list[dict[str, Any]]:
    """Run the demo; returns its steps, each with seconds and AWS calls."""
    sandbox("sandbox.demo")
    steps: list[dict[str, Any]] = json.loads((HOME / "demo.json").read_text())
    return steps


def total(title: str, steps: list[dict[str, Any]]) -> dict[str, Any]:
    calls = {kind: sum(step["aws_calls"][kind] for step in steps) for kind in CALLS}
    return {"step": title, "seconds": sum(step["seconds"] for step in steps), "aws_calls": calls}


def bytes_by_release() -> dict[str, dict[str, int]]:
    """release -> device -> bytes of release content that went over SSH (without protocol overhead)."""
    sent: dict[str, dict[str, int]] = defaultdict(dict)
    for release, log in RELEASE_LOGS.items():
        host = ""
        for line in (HOME / f"logs/{log}.log").read_text().splitlines():
            if found := HOST.match(line):
                host = found[1]
            elif (found := BYTES.match(line)) and int(found[1]):
                sent[release][host] = sent[release].get(host, 0) + int(found[1])
    return sent


def table(rows: Iterable[tuple[Any, ...]]) -> str:
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = ["  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:]))]) for row in cells]
    return "\n".join(lines)


def main() -> None:
    try:
        sandbox("sandbox", "clean")
        steps = demo()
        sent = bytes_by_release()
        first, again = total("first demo", steps), total("the demo again", demo())
        rows: list[tuple[Any, ...]] = [("phase", "seconds", "share", "AWS reads", "writes", "uploads of devices")]
        for step in (*steps, first, again):
            share = f"{step['seconds'] / first['seconds']:.0%}"
            rows.append((step["step"], f"{step['seconds']:.1f}", share, *(step["aws_calls"][kind] for kind in CALLS)))
        print(f"\n{table(rows)}\n")
        rows = [("release", "devices", "bytes for each device (smallest)", "(largest)")]
        rows += [(name, len(devices), min(devices.values()), max(devices.values())) for name, devices in sent.items()]
        print(table(rows))
    finally:
        sandbox("sandbox", "clean")


if __name__ == "__main__":
    main()
