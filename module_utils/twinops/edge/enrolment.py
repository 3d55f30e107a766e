"""What a device has before its first release: folders, settings, root of trust, program and service definition."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import devices
from ..errors import TwinopsError
from . import agent, durable
from .service import NAME

FOLDERS = ("bin", "incoming", "log", "run", "slots", "spool", "tuf", "tuf/metadata")
SERVICE_FOLDERS = ("log", "run", "spool")
"""The only ones the service writes to."""
APPLIED = "run/service.applied"
"""SHA-256 of the service definition that the service manager has loaded."""
UNITS = ("twinops-pull.timer", "twinops-pull.service", "twinops-report.service")
"""Those of systemd that a device may have besides its service, in the order in which they are ended."""
MANAGER_TIMEOUT_S = 30
PROGRAM_TIMEOUT_S = 120
"""For a slow device to compile and import python-tuf and all that a push needs."""


@dataclass(frozen=True)
class Wanted:
    """The device as it shall be. ``service_user`` owns what the service writes; None leaves it to who enrols."""

    root: Path
    settings: Mapping[str, Any]
    tuf_root: str
    program: str
    service_manager: str
    service_definition: str
    service_path: Path
    service_user: str | None = None
    pull: Mapping[str, Any] | None = None
    report: Mapping[str, Any] | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    pull_interval_s: int = 3600
    report_interval_s: int = 600

    @property
    def definitions(self) -> str:
        """Everything that the service manager reads."""
        return "\n".join([self.service_definition, *(self.units[path] for path in sorted(self.units))])


@dataclass(frozen=True)
class File:
    """A file of the device: replaced when it differs, unless it is ``pinned``, which is written once.

    One without content shall not be there. The content of a ``secret`` one is not shown, nor that of a program.
    """

    path: Path
    content: bytes | None
    mode: int = 0o644
    pinned: bool = False
    secret: bool = False

    @property
    def before(self) -> bytes | None:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None

    def is_due(self) -> bool:
        before = self.before
        if before is None or self.content is None:
            return before != self.content
        if self.pinned:
            return False
        return before != self.content or self.path.stat().st_mode & 0o777 != self.mode

    @property
    def diff(self) -> dict[str, str]:
        before, after = (None if content is None else self._shown(content) for content in (self.before, self.content))
        return _diff(str(self.path), before, after or "")

    def write(self) -> None:
        if self.content is None:
            self.path.unlink()
            return
        durable.write_file(self.path, self.content)
        self.path.chmod(self.mode)

    def _shown(self, content: bytes) -> str:
        if self.secret:
            return f"sha256 {hashlib.sha256(content).hexdigest()}\n" if content else ""
        return content.decode(errors="replace")


@dataclass(frozen=True)
class PushProgram:
    """The folder of the program for pushes (:mod:`.agent`): built aside, renamed, earlier ones removed."""

    root: Path

    @property
    def path(self) -> Path:
        return self.root / agent.push_program()[0]

    def is_due(self) -> bool:
        """Also where a file of it is not what it was: nothing else looks at it before it is run."""
        try:
            return any((self.path / name).read_bytes() != content for name, content in agent.push_program()[1].items())
        except FileNotFoundError:
            return True

    @property
    def diff(self) -> dict[str, str]:
        return _diff(str(self.path), None, "program\n")

    def write(self) -> None:
        aside = self.path.with_name(f".{self.path.name}.new")
        for interrupted in self.path.parent.glob(f".{Path(agent.PUSHED_TO).name}*.new"):
            shutil.rmtree(interrupted)
        for name, content in agent.push_program()[1].items():
            place = aside / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        # Compiles what a push imports, and proves that this environment can run it.
        imports = "import sys; sys.path.insert(0, sys.argv[1]); from twinops.edge import push, verify"
        command = [str(self.root / "venv/bin/python"), "-I", "-c", imports, str(aside)]
        _run(command, timeout_s=PROGRAM_TIMEOUT_S, expected="an environment that can run it")
        durable.sync_tree(aside)
        for other in self.root.glob(f"{agent.PUSHED_TO}*"):
            shutil.rmtree(other)
        aside.rename(self.path)
        durable.sync_folder(self.path.parent)


def ensure(wanted: Wanted, *, apply: bool) -> dict[str, Any]:
    """Make the device as ``wanted``; ``apply`` False only says what that would be.

    :raises TwinopsError: a setting is impossible (nothing was written), or the service manager did not answer
    """
    devices.check_settings(wanted.settings, "device.json")
    devices.check_intervals(pull_interval_s=wanted.pull_interval_s, report_interval_s=wanted.report_interval_s)
    if wanted.service_manager == devices.SUPERVISORD:
        devices.check_socket_path(str(wanted.root))
    folders = [wanted.root / name for name in FOLDERS if not (wanted.root / name).is_dir()]
    due = [file for file in _files(wanted) if file.is_due()]
    program = PushProgram(wanted.root)
    is_program_due = program.is_due()
    manager = _MANAGERS[wanted.service_manager](wanted)
    service = manager.due()
    diff = [_diff(str(folder), None, "folder\n") for folder in folders] + [file.diff for file in due]
    diff += [program.diff] * is_program_due
    if service:
        diff.append(_diff(wanted.service_manager, None, f"{NAME}: {service}\n"))
    if apply:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        _give_to(wanted.service_user, [wanted.root / name for name in SERVICE_FOLDERS])
        for file in due:
            file.write()
        if is_program_due:
            program.write()
        if service:
            manager.load()
    return {"changed": bool(diff), "diff": diff}


def _files(wanted: Wanted) -> list[File]:
    root = wanted.root
    files = [
        File(root / "device.json", _json(wanted.settings)),
        File(root / "tuf/metadata/root.json", wanted.tuf_root.encode(), pinned=True),
        File(root / "bin/twinops-edge", wanted.program.encode(), mode=0o755),
        # edge_aws_environment is in it
        File(wanted.service_path, wanted.service_definition.encode(), mode=0o600, secret=True),
    ]
    files += [File(Path(path), content.encode()) for path, content in wanted.units.items()]
    of_agent = {agent.SETTINGS: wanted.pull, agent.REPORT_SETTINGS: wanted.report}
    files += [
        File(root / name, None if settings is None else _json(settings), mode=0o600, secret=True)  # in these, too
        for name, settings in of_agent.items()
    ]
    return [*files, File(root / agent.PROGRAM, agent.program(), secret=True)]


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def _diff(header: str, before: str | None, after: str) -> dict[str, str]:
    return {"before_header": header, "after_header": header, "before": before or "", "after": after}


def _give_to(user: str | None, folders: Sequence[Path]) -> None:
    if user is None:
        return
    for folder in folders:
        if folder.owner() != user:
            for path in [*folder.rglob("*"), folder]:  # the folder last: an interrupted run finds it and goes on
                shutil.chown(path, user)


class Supervisord:
    """supervisord below the device's folder, for devices without systemd. Restarted when its file changes."""

    def __init__(self, wanted: Wanted) -> None:
        self._root, self._path = wanted.root, wanted.service_path
        self._definition = wanted.definitions
        self._socket = wanted.root / devices.SUPERVISOR_SOCKET

    def due(self) -> str | None:
        """What has to be done, in words; None when it runs with this definition."""
        if not self._answers():
            return "started"
        return None if _applied(self._root) == _digest(self._definition) else "restarted"

    def load(self) -> None:
        """Start it, or end it and start it anew. It outlives the SSH session that started it."""
        if self._answers():
            _manage([str(self._root / "venv/bin/supervisorctl"), "-c", str(self._path), "shutdown"])
            self._wait(False)
        _manage([str(self._root / "venv/bin/supervisord"), "-c", str(self._path)], cwd=self._root)
        self._wait(True)
        durable.write_file(self._root / APPLIED, _digest(self._definition).encode())

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            connection.connect(str(self._socket))
            return True
        return False

    def _wait(self, answering: bool) -> None:
        give_up = time.monotonic() + MANAGER_TIMEOUT_S
        while self._answers() != answering:
            if time.monotonic() >= give_up:
                state = "answer" if answering else "end"
                raise TwinopsError(
                    f"{self._socket}: expected supervisord to {state} within {MANAGER_TIMEOUT_S} s; "
                    f"its log is {self._root}/log/supervisord.log"
                )
            time.sleep(0.05)


class Systemd:
    """A unit of the system manager. It only starts once there is a release (``ConditionPathExists``)."""

    def __init__(self, wanted: Wanted) -> None:
        self._root, self._definition = wanted.root, wanted.definitions
        self._units = (NAME, *(Path(path).name for path, text in wanted.units.items() if _is_installed(text)))
        places = [wanted.service_path.parent / name for name in UNITS]
        self._unwanted = [path for path in places if str(path) not in wanted.units and path.exists()]

    def due(self) -> str | None:
        if self._unwanted:
            return f"without {', '.join(path.name for path in self._unwanted)}"
        if _applied(self._root) != _digest(self._definition):
            return "loaded, enabled and restarted"
        enabled = _manage(["systemctl", "is-enabled", *self._units], codes=(0, 1, 4)).split()
        return None if enabled == ["enabled"] * len(self._units) else "enabled"

    def load(self) -> None:
        for path in self._unwanted:
            if _is_installed(path.read_text(encoding="utf-8")):
                _manage(["systemctl", "disable", "--now", path.name])
            # One whose last run failed would be listed as failed for ever. 1: it did not fail.
            _manage(["systemctl", "reset-failed", path.name], codes=(0, 1))
            path.unlink()  # only now: an interrupted run finds it and goes on
        _manage(["systemctl", "daemon-reload"])
        _manage(["systemctl", "enable", *self._units])
        _manage(["systemctl", "restart", *self._units])
        durable.write_file(self._root / APPLIED, _digest(self._definition).encode())


def _is_installed(unit: str) -> bool:
    """Whether a unit is enabled and started by itself; others are started by such a one."""
    return "[Install]" in unit


_MANAGERS: Mapping[str, type[Supervisord] | type[Systemd]] = {
    devices.SUPERVISORD: Supervisord,
    devices.SYSTEMD: Systemd,
}


def _applied(root: Path) -> str:
    try:
        return (root / APPLIED).read_text(encoding="ascii")
    except FileNotFoundError:
        return ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _manage(command: Sequence[str], codes: Sequence[int] = (0,), cwd: Path | None = None) -> str:
    expected = "a service manager that answers"
    return _run(command, timeout_s=MANAGER_TIMEOUT_S, expected=expected, codes=codes, cwd=cwd)


def _run(
    command: Sequence[str], *, timeout_s: float, expected: str, codes: Sequence[int] = (0,), cwd: Path | None = None
) -> str:
    """What a command prints.

    :raises TwinopsError: it ended with none of ``codes``, or not in time
    """
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            text=True,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TwinopsError(f"{' '.join(command)}: {error}; expected {expected}") from error
    if done.returncode not in codes:
        said = (done.stderr or done.stdout).strip()[-500:]
        raise TwinopsError(f"{' '.join(command)}: exit code {done.returncode}: {said}")
    return done.stdout
