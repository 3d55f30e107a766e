"""Runs ansible-playbook against the sandbox: output in a log, progress and the end of the log for a person."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from sandbox.estate import Estate
from sandbox.settings import CLONE

RECAP = re.compile(
    r"^(?P<host>\S+)\s+: ok=\d+\s+changed=(?P<changed>\d+)\s+unreachable=(?P<unreachable>\d+)\s+failed=(?P<failed>\d+)"
)
HEADING = re.compile(r"^(?:TASK|PLAY) \[(.*?)\]")


class PlaybookError(Exception):
    """A playbook ended otherwise than expected."""


@dataclass(frozen=True)
class Result:
    """What a playbook run did. ``changed`` counts changed tasks over all hosts."""

    exit_code: int
    changed: int
    log: Path


def run(estate: Estate, name: str, *variables: str, log: str, expect_failure: bool = False) -> Result:
    """Run playbook ``name`` with ``-e`` variables on the sandbox.

    Raises PlaybookError when it fails (with its messages), or when ``expect_failure`` and it does not.
    """
    path = estate.settings.home / "logs" / f"{log}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    argv = [str(CLONE / ".venv/bin/ansible-playbook"), name, "-l", "sandbox", "-v"]
    for variable in variables:
        argv += ["-e", variable]
    exit_code = _follow(argv, path, {**estate.environment, "ANSIBLE_NOCOLOR": "1"})
    text = path.read_text(errors="replace")
    result = Result(
        exit_code, sum(int(match["changed"]) for match in map(RECAP.match, text.splitlines()) if match), path
    )
    if (exit_code != 0) != expect_failure:
        raise PlaybookError(f"{' '.join(argv[1:])} exited with {exit_code}\n{_reason(text)}\nThe whole output: {path}")
    return result


def _follow(argv: list[str], path: Path, environment: dict[str, str]) -> int:
    """Run a program into a log, on a terminal with its latest heading; Ctrl-C reaches it and is waited for."""
    with (
        path.open("w") as log,
        subprocess.Popen(
            argv,
            cwd=CLONE,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        try:
            for line in process.stdout or ():
                log.write(line)
                _show(line)
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            process.wait(30)
            raise
        finally:
            _show("")
    return process.returncode


def _show(line: str) -> None:
    if not sys.stdout.isatty():
        return
    heading = HEADING.match(line)
    if heading or not line:
        width = os.get_terminal_size().columns - 8
        text = heading[1][:width] if heading else ""
        sys.stdout.write(f"\r\033[K      {text}" if text else "\r\033[K")
        sys.stdout.flush()


def _reason(text: str) -> str:
    """The lines a person needs of a failed run: Ansible's errors, or the end of the output."""
    lines = text.splitlines()
    errors = [line for line in lines if line.startswith(("[ERROR]", "ERROR!", "fatal:"))]
    return "\n".join(errors[:10] or lines[-20:])
