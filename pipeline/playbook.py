"""Runs ``ansible-playbook`` for a job: in the job's role, its output without secrets, and kept."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from twinops.approval import lines_without_secrets

from pipeline import access
from pipeline.tools import CLONE


def run(name: str, env: str, *arguments: str, role: str, log: Path, variables: Mapping[str, str] | None = None) -> int:
    """The exit code of playbook ``name`` on environment ``env``. Output goes to standard output and to ``log``.

    A request to end (SIGTERM, as a cancelled job gets) goes on to Ansible, which is waited for.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="twinops-access-") as folder:
        environment = {**access.environment(env, role, folder=Path(folder)), **(variables or {})}
        argv = [str(CLONE / ".venv/bin/ansible-playbook"), name, "-l", env, *arguments]
        with (
            log.open("a", encoding="utf-8") as kept,
            subprocess.Popen(
                argv,
                cwd=CLONE,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
            ) as process,
        ):
            before = signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGINT))
            try:
                for clean in lines_without_secrets(process.stdout or ()):
                    kept.write(clean)
                    sys.stdout.write(clean)
                    sys.stdout.flush()
            finally:
                signal.signal(signal.SIGTERM, before)
        return process.returncode
