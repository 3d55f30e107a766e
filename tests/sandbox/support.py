"""What the sandbox's own tests share: a sandbox a test may break, policies, and bounded waiting."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sandbox.account import session
from sandbox.ports import free_port
from sandbox.settings import CLONE, Settings, load

DEVICES = 2


class OwnSandbox:
    """A sandbox that a test may break. Its home has a short path: Unix sockets live below it."""

    def __init__(self, devices: int = DEVICES) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="tw-", dir="/tmp"))
        port = free_port()
        network = f"127.{30 + port % 200}.{port // 200 % 250}.0"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SANDBOX_"))},
            "SANDBOX_HOME": str(self.home / "s"),
            "SANDBOX_PORT": str(port),
            "SANDBOX_NETWORK": network,
            "SANDBOX_DEVICES": str(devices),
        }
        self.settings: Settings = load(self.environment)

    def run(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """``python -m sandbox ...``; ``changes`` are changed environment variables."""
        return subprocess.run(
            [sys.executable, "-m", "sandbox", *arguments],
            env={**self.environment, **changes},
            cwd=CLONE,
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
        )

    def json(self, *arguments: str) -> Any:
        """The JSON that a command prints, which must succeed."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def record(self, name: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.settings.home / f"run/{name}.json").read_text())
        return document

    def client(self, service: str) -> Any:
        return session(self.settings).client(service)

    def calls(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.settings.home / "calls.jsonl").read_text().splitlines()]

    def mails(self) -> list[str]:
        return [path.read_text() for path in sorted((self.settings.home / "mail").glob("*.eml"))]

    def remove(self) -> None:
        done = self.run("clean")
        shutil.rmtree(self.home, ignore_errors=True)
        assert done.returncode == 0, done.stderr


def run_program(*argv: str, environment: Mapping[str, str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run a program in the clone to its end; everything that it printed is in ``stdout``."""
    try:
        return subprocess.run(
            argv,
            cwd=CLONE,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        printed = (error.stdout or b"").decode(errors="replace")
        raise AssertionError(f"{' '.join(argv)}: no end within {timeout_s:.0f} s\n{printed[-6000:]}") from error


def policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def eventually(check: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    """The first true value of ``check``, polled; fails when the time is up."""
    deadline = time.monotonic() + timeout_s
    while not (value := check()):
        assert time.monotonic() < deadline, f"nothing after {timeout_s:.0f} s"
        time.sleep(0.1)
    return value
