"""The machine behind a notebook instance: a real jupyter-server, and the lifecycle scripts that run before it.

As in AWS, the volume ``$HOME/SageMaker`` persists over stop and start and everything else in the home does not; a
lifecycle script that fails or takes longer than five minutes fails the instance; stopping it ends all its processes.
"""

from __future__ import annotations

import base64
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sandbox import processes
from sandbox.ports import free_port
from sandbox.settings import CLONE, MARKER, REGION, Settings

LIFECYCLE_TIMEOUT_S = 300
SERVER_TIMEOUT_S = 180
NOTEBOOK_MARKER = "TWINOPS_NOTEBOOK"
JUPYTER_PYTHON = CLONE / ".cache/envs/jupyter/bin/python"


class InstanceError(Exception):
    """Why an instance failed, as its FailureReason."""


@dataclass(frozen=True)
class Script:
    """One lifecycle script: ``OnCreate`` or ``OnStart``."""

    hook: str
    content: bytes


class Instance:
    """One notebook instance's processes. ``report`` is told every change of status: (status, reason)."""

    def __init__(
        self, settings: Settings, name: str, role: str, key_file: Path, report: Callable[[str, str], None]
    ) -> None:
        self.name = name
        self.port = 0
        self._settings = settings
        self._role = role
        self._key_file = key_file
        self._report = report
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def home(self) -> Path:
        return self._settings.home / "notebooks" / self.name

    @property
    def log(self) -> Path:
        return self._settings.home / "logs" / f"notebook-{self.name}.log"

    @property
    def marker(self) -> str:
        return f"{NOTEBOOK_MARKER}={self.name}"

    def start(self, scripts: list[Script]) -> None:
        """Run the scripts, then Jupyter, in the background; reports InService or Failed."""
        self._thread = threading.Thread(target=self._start, args=(scripts,), name=f"start {self.name}", daemon=True)
        self._thread.start()

    def _start(self, scripts: list[Script]) -> None:
        try:
            self._forget_all_but_the_volume()
            for script in scripts:
                self._run(script)
            self._serve()
        except (InstanceError, OSError) as error:
            self._end_processes()
            if not self._stopping.is_set():
                self._report("Failed", str(error))
            return
        self._report("InService", "")

    def _forget_all_but_the_volume(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        for entry in self.home.iterdir():
            if entry.name != "SageMaker":
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        (self.home / "SageMaker").mkdir(exist_ok=True)
        (self.home / "tmp").mkdir()

    def _run(self, script: Script) -> None:
        """Run one lifecycle script as AWS does: a file, in the foreground, with a time limit."""
        path = self.home / "tmp" / script.hook
        path.write_bytes(script.content)
        path.chmod(0o700)
        log = self.log.with_name(f"notebook-{self.name}-{script.hook}.log")
        command = [str(path)] if script.content.startswith(b"#!") else ["/bin/sh", str(path)]
        try:
            popen, process = processes.start(command, environment=self._environment(), log=log, directory=self.home)
        except OSError as error:
            raise InstanceError(f"lifecycle script {script.hook}: {error}") from error
        deadline = time.monotonic() + LIFECYCLE_TIMEOUT_S
        while popen.poll() is None and time.monotonic() < deadline and not self._stopping.is_set():
            time.sleep(0.05)
        if popen.poll() is None:
            processes.end([process], grace_s=2)
            popen.wait(5)
            raise InstanceError(f"lifecycle script {script.hook}: took longer than {LIFECYCLE_TIMEOUT_S} s; see {log}")
        if popen.returncode:
            raise InstanceError(f"lifecycle script {script.hook}: exit code {popen.returncode}; see {log}")

    def _serve(self) -> None:
        self.port = free_port()
        popen, _ = processes.start(
            [
                str(JUPYTER_PYTHON),
                str(Path(__file__).with_name("jupyter_identity.py")),
                "--notebook",
                self.name,
                "--key-file",
                str(self._key_file),
                "--allow-root",
                "--no-browser",
                "--ServerApp.ip=127.0.0.1",
                f"--ServerApp.port={self.port}",
                "--ServerApp.port_retries=0",
                f"--ServerApp.root_dir={self.home / 'SageMaker'}",
                "--ServerApp.terminado_settings=shell_command=['/bin/bash']",
            ],
            environment=self._environment(),
            log=self.log,
            directory=self.home / "SageMaker",
        )
        deadline = time.monotonic() + SERVER_TIMEOUT_S
        while not _answers(f"http://127.0.0.1:{self.port}/api"):
            if popen.poll() is not None:
                raise InstanceError(f"Jupyter ended with exit code {popen.returncode}; see {self.log}")
            if time.monotonic() > deadline or self._stopping.is_set():
                raise InstanceError(f"Jupyter did not answer in {SERVER_TIMEOUT_S} s; see {self.log}")
            time.sleep(0.05)
        threading.Thread(target=popen.wait, name=f"reap {self.name}", daemon=True).start()

    def stop(self) -> None:
        """End every process of the instance, background jobs too. Waits until they are gone."""
        self._stopping.set()
        self._end_processes()
        if self._thread is not None:
            self._thread.join(30)
        self._end_processes()  # what a start under way began meanwhile

    def delete_volume(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)

    def _end_processes(self) -> None:
        marked = processes.with_environment(f"{MARKER}={self._settings.home}", self.marker)
        processes.end(marked, grace_s=5)

    def _environment(self) -> dict[str, str]:
        """What scripts, terminals and kernels of the instance see; nothing of the caller's environment."""
        tools = f"{JUPYTER_PYTHON.parent}:{self._settings.home / 'bin'}"
        return {
            "HOME": str(self.home),
            "USER": "ec2-user",
            "SHELL": "/bin/bash",
            "LANG": "C.UTF-8",
            "TMPDIR": str(self.home / "tmp"),
            "PATH": f"{tools}:/usr/local/bin:/usr/bin:/bin",
            "UV_CACHE_DIR": str(CLONE / ".cache/uv"),
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": self._settings.credentials_url(self._role),
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self._settings.endpoint_url,
            "AWS_EC2_METADATA_DISABLED": "true",
            MARKER: str(self._settings.home),
            NOTEBOOK_MARKER: self.name,
        }


def scripts_of(config: object, *, first_start: bool) -> list[Script]:
    """The scripts of a lifecycle configuration (moto's record) that run now: OnCreate only the first time."""
    hooks = [("OnCreate", "on_create")] if first_start else []
    return [
        Script(hook, base64.b64decode(step["Content"]))
        for hook, attribute in [*hooks, ("OnStart", "on_start")]
        for step in getattr(config, attribute, None) or []
    ]


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310 (our own loopback URL)
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
