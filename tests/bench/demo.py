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
RELEASE_LOGS = {"v1": "site", "v2": "edge-v2", "v3": "edge-v3"}
HOST = re.compile(r"^(?:changed|ok): \[(device-\d+)\]")
BYTES = re.compile(r"^\s+bytes_sent: (\d+)")


def sandbox(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", *arguments], cwd=CLONE, env={**os.environ, **SETTINGS}, check=True)


def demo() -> list[dict[str, Any]]:
    """Run the demo twice; returns the steps of the first run, and the second, a no-op, as one row."""
    sandbox("sandbox.demo")
    steps: list[dict[str, Any]] = json.loads((HOME / "demo.json").read_text())
    sandbox("sandbox.demo")
    again = json.loads((HOME / "demo.json").read_text())
    calls = {kind: sum(step["aws_calls"][kind] for step in again) for kind in ("read", "write")}
    return [*steps, {"step": "the whole demo again", "seconds": sum(s["seconds"] for s in again), "aws_calls": calls}]


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
        whole_s = sum(step["seconds"] for step in steps[:-1])
        rows: list[tuple[Any, ...]] = [("phase", "seconds", "share", "AWS reads", "AWS writes")]
        for step in steps:
            share = f"{step['seconds'] / whole_s:.0%}"
            calls = step["aws_calls"]
            rows.append((step["step"], f"{step['seconds']:.1f}", share, calls["read"], calls["write"]))
        rows.append(("first demo", f"{whole_s:.1f}", "100%", *sums(steps[:-1])))
        print(f"\n{table(rows)}\n")
        rows = [("release", "devices", "bytes for each device (smallest)", "(largest)")]
        rows += [(r, len(sent), min(sent.values()), max(sent.values())) for r, sent in bytes_by_release().items()]
        print(table(rows))
    finally:
        sandbox("sandbox", "clean")


def sums(steps: list[dict[str, Any]]) -> tuple[int, int]:
    return tuple(sum(step["aws_calls"][kind] for step in steps) for kind in ("read", "write"))  # type: ignore[return-value]


if __name__ == "__main__":
    main()
