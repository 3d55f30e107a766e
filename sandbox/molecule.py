"""Runs Molecule's scenarios (``molecule/``) in a sandbox of their own: ``python -m sandbox.molecule [SCENARIO ...]``.

However this program ends, the sandbox ends with it: a keeper holds the other end of a pipe of ours. When we are gone,
the kernel closes our end; then the keeper ends what is left of the run and removes the sandbox.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox import lifecycle, processes
from sandbox.settings import CLONE, HOME_LENGTH_MAX, Settings, load

SCENARIOS = CLONE / "molecule"
STATE = CLONE / "build/molecule"
"""Molecule's own notes, which would otherwise lie in the caller's home."""

OPTIONS = ("--report", "--no-command-borders")
OWNER = "TWINOPS_MOLECULE_HOME"
"""In the environment of every process of a run: whose they are, and the home of its sandbox."""


def main(scenarios: list[str]) -> int:
    known = sorted(path.parent.name for path in SCENARIOS.glob("*/converge.yml"))
    unknown = sorted(set(scenarios) - set(known))
    if unknown:
        print(f"scenario: expected one of {', '.join(known)}, got {', '.join(unknown)}", file=sys.stderr)
        return 2
    with _exclusive() as lock:
        shutil.rmtree(STATE, ignore_errors=True)  # notes of a run that was killed say what is no longer so
        environment = _environment()
        with _kept(environment, lock):
            chosen = [argument for name in scenarios for argument in ("--scenario-name", name)]
            argv = [
                str(CLONE / ".venv/bin/molecule"),
                "test",
                "--report",
                "--no-command-borders",
                *(chosen or ["--all"]),
            ]
            return subprocess.run(argv, env=environment, cwd=CLONE, stdin=subprocess.DEVNULL, check=False).returncode


def _environment() -> dict[str, str]:
    """That of a new sandbox and of our tools, and nothing of the caller's AWS account."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SANDBOX_", "ANSIBLE_"))}
    in_clone = CLONE / ".sandbox-molecule"
    home = in_clone if len(os.fsencode(in_clone)) <= HOME_LENGTH_MAX else Path(f"/tmp/tw-m{os.getpid()}")  # noqa: S108
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return {
        **mine,
        "PATH": f"{CLONE / '.venv/bin'}{os.pathsep}{mine.get('PATH', os.defpath)}",
        "ANSIBLE_HOME": str(STATE),
        OWNER: str(home),
        "SANDBOX_HOME": str(home),
        "SANDBOX_PORT": str(port),
        "SANDBOX_NETWORK": f"127.{30 + port % 200}.{port // 200 % 250}.0",
        "SANDBOX_DEVICES": "1",
    }


@contextmanager
def _exclusive() -> Iterator[int]:
    """One run at a time in a clone. Yields the lock's file descriptor; whoever inherits it holds the lock, too."""
    lock = os.open(SCENARIOS, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit("make molecule: runs already in this clone, or is being cleaned up; try again later") from None
    try:
        yield lock
    finally:
        os.close(lock)


@contextmanager
def _kept(environment: dict[str, str], lock: int) -> Iterator[None]:
    """Nothing of ``environment`` is left after the block, and after our own end within it."""
    watched, ours = os.pipe()
    unmarked = {name: value for name, value in environment.items() if name != OWNER}
    keeper = subprocess.Popen(
        [sys.executable, "-m", "sandbox.molecule", "--keep", str(watched)],
        env=unmarked,
        cwd=CLONE,
        stdin=subprocess.DEVNULL,
        pass_fds=(watched, lock),
        start_new_session=True,  # a Ctrl-C in our terminal is not for it
    )
    os.close(watched)
    try:
        yield
    finally:
        os.close(ours)
        keeper.wait()


def keep(watched: int, settings: Settings) -> int:
    """Wait until nobody holds the other end of ``watched``, then end and remove all of the run."""
    os.read(watched, 1)
    processes.end(processes.with_environment(f"{OWNER}={settings.home}"))
    lifecycle.clean(settings, lambda line: None)
    shutil.rmtree(STATE, ignore_errors=True)
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--keep"]:
        sys.exit(keep(int(sys.argv[2]), load()))
    sys.exit(main(sys.argv[1:]))
