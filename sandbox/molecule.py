"""Runs Molecule's scenarios (``molecule/``) in a sandbox of their own: ``python -m sandbox.molecule [SCENARIO ...]``.

However this program ends, the sandbox ends with it: a keeper holds the other end of a pipe of ours. When we are gone,
the kernel closes our end; then the keeper ends what is left of the run and removes the sandbox.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox import lifecycle, processes
from sandbox.ports import free_port
from sandbox.settings import CLONE, HOME_LENGTH_MAX, Settings, load

SCENARIOS = CLONE / "molecule"
STATE = CLONE / "build/molecule"
"""Molecule's own notes, which would otherwise lie in the caller's home."""

OPTIONS = ("--report", "--no-command-borders")
SCENARIO_TIMEOUT_S = 600

OWNER = "TWINOPS_MOLECULE_HOME"
"""In the environment of every process of a run: whose they are, and the home of its sandbox."""


def main(scenarios: list[str]) -> int:
    """Run the scenarios, by default all, and say how each ended. A failure does not keep the others from running."""
    known = sorted(path.parent.name for path in SCENARIOS.glob("*/converge.yml"))
    unknown = sorted(set(scenarios) - set(known))
    if unknown:
        print(f"scenario: expected one of {', '.join(known)}, got {', '.join(unknown)}", file=sys.stderr)
        return 2
    with _exclusive() as lock:
        shutil.rmtree(STATE, ignore_errors=True)  # notes of a run that was killed say what is no longer so
        environment = _environment()
        with _kept(environment, lock):
            chosen = scenarios or known
            failed = [] if _passes("create", "default", environment) else ["default"]
            failed = failed or [name for name in chosen if not _passes("test", name, environment)]
            _passes("destroy", "default", environment)
    print(f"  failed: {', '.join(failed)}" if failed else f"  all {len(chosen)} passed")
    return 1 if failed else 0


def _passes(verb: str, scenario: str, environment: dict[str, str]) -> bool:
    """Run one scenario, or start or end the sandbox; say how it ended and, if it failed, all that it said."""
    started = time.monotonic()
    done = _molecule(environment, verb, scenario)
    passed = done.returncode == 0
    title = scenario if verb == "test" else f"{verb} the sandbox"
    print(f"  {title:19} {'passed' if passed else 'FAILED'} {time.monotonic() - started:6.1f} s", flush=True)
    if not passed:
        print(done.stdout, flush=True)
    return passed


def _molecule(environment: dict[str, str], verb: str, scenario: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(CLONE / ".venv/bin/molecule"), verb, "--scenario-name", scenario, "--no-command-borders"],
        env=environment,
        cwd=CLONE,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=SCENARIO_TIMEOUT_S,
        check=False,
    )


def sandbox_home(run: int) -> Path:
    """SANDBOX_HOME of the run whose process id is ``run``: in the clone, where its path is not too long for that."""
    in_clone = CLONE / ".sandbox-molecule"
    return in_clone if len(os.fsencode(in_clone)) <= HOME_LENGTH_MAX else Path(f"/tmp/tw-m{run}")  # noqa: S108


def _environment() -> dict[str, str]:
    """That of a new sandbox and of our tools, and nothing of the caller's AWS account."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SANDBOX_", "ANSIBLE_"))}
    home = sandbox_home(os.getpid())
    port = free_port()
    return {
        **mine,
        "PATH": f"{CLONE / '.venv/bin'}{os.pathsep}{mine.get('PATH', os.defpath)}",
        "ANSIBLE_HOME": str(STATE),
        "ANSIBLE_NOCOLOR": "1",
        "NO_COLOR": "1",
        OWNER: str(home),
        "SANDBOX_HOME": str(home),
        "SANDBOX_PORT": str(port),
        "SANDBOX_NETWORK": f"127.{30 + port % 200}.{port // 200 % 250}.0",
        "SANDBOX_DEVICES": "3",  # one for each wave
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
    for _ in range(3):  # what is being ended may have started another one
        processes.end(processes.with_environment(f"{OWNER}={settings.home}"))
    lifecycle.clean(settings, lambda line: None)
    shutil.rmtree(STATE, ignore_errors=True)
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--keep"]:
        sys.exit(keep(int(sys.argv[2]), load()))
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)  # by now, nothing of the run is left
