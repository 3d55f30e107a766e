"""Brings the sandbox up, takes it down and says what it is doing.

``up`` converges from any state: nothing runs, all runs, or anything in between after a kill. The cloud lives in the
emulator's memory; a new emulator is a new *generation*, and devices of another generation are reset, because a device
that remembers newer TUF metadata than the repository has rightly refuses it.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import socket
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox import devices as fleet
from sandbox import processes
from sandbox.devices import Device
from sandbox.processes import Process
from sandbox.settings import (
    ACCOUNT,
    CLONE,
    MARKER,
    PROFILE,
    REGION,
    SSH_PORT,
    Settings,
    SettingsError,
    device_count,
    running_devices,
)

EMULATOR_PYTHON = CLONE / ".cache/envs/emulator/bin/python"
CONTROL_PYTHON = CLONE / ".venv/bin/python"
EMULATOR_TIMEOUT_S = 60
LOCK_TIMEOUT_S = 180

AWS_CONFIG = """\
# Written by `python -m sandbox up`: the sandbox's account, valid for this sandbox only.
[profile {profile}]
aws_access_key_id = {key}
aws_secret_access_key = {secret}
region = {region}
endpoint_url = {endpoint}
"""

Say = Callable[[str], None]


class SandboxError(Exception):
    """Why the sandbox cannot be brought up, and what to change."""


@dataclass
class Outcome:
    """What ``up`` or ``down`` did: ``started`` and ``ended`` name parts."""

    started: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        return bool(self.started or self.ended)


def all_devices(settings: Settings) -> list[Device]:
    return [Device(settings, number) for number in range(1, device_count(settings) + 1)]


def up(settings: Settings, say: Say) -> Outcome:
    """Start what is missing. Raises ``SandboxError``, ``SettingsError`` or ``DeviceError``; run again it goes on."""
    _check_programs()
    _claim_home(settings)
    with _exclusive(settings):
        outcome = Outcome()
        count = device_count(settings)
        emulator = _bring_up_endpoint(settings, count, say, outcome)
        _bring_up_devices(settings, count, str(emulator["generation"]), say, outcome)
        _set_up_plant(settings, say, outcome)
        return outcome


def up_endpoint(settings: Settings, say: Say) -> Outcome:
    """Start the AWS endpoint alone, without devices and plant, as benchmarks of the cloud want it. ``down`` ends it."""
    _check_programs()
    _claim_home(settings)
    with _exclusive(settings):
        outcome = Outcome()
        _bring_up_endpoint(settings, 0, say, outcome)
        return outcome


def _bring_up_endpoint(settings: Settings, devices: int, say: Say, outcome: Outcome) -> dict[str, Any]:
    """The running emulator, or a new one where its port and the addresses of ``devices`` are free."""
    emulator = _running_emulator(settings)
    if emulator is None:
        _clear_stale(settings, say, outcome)
        _check_ports(settings, devices)
        emulator = _start_emulator(settings, outcome)
        say(f"  AWS endpoint  started: {settings.endpoint_url} (account {ACCOUNT}, {REGION})")
    else:
        say(f"  AWS endpoint  running: {settings.endpoint_url}")
    return emulator


def _bring_up_devices(settings: Settings, count: int, generation: str, say: Say, outcome: Outcome) -> None:
    marker = settings.home / "devices/.generation"
    previous = marker.read_text() if marker.exists() else None
    if previous != generation:
        _end_devices(settings)
        fleet.reset(settings.home)
        processes.write_atomically(marker, generation)
    surplus = [Device(settings, number) for number in range(count + 1, running_devices(settings) + 1)]
    for device in surplus:
        fleet.power_off(device)
        shutil.rmtree(device.root, ignore_errors=True)
        outcome.ended.append(device.name)
    wanted = [Device(settings, number) for number in range(1, count + 1)]
    processes.write_atomically(settings.state_file, json.dumps({"devices": count}))
    fleet.prepare_keys(settings, wanted)
    started = fleet.power_on(wanted)
    outcome.started += started
    last = wanted[-1]
    addresses = f"{wanted[0].address}–{last.address.rpartition('.')[2]}, ssh -F {settings.home}/ssh_config {last.name}"
    say(f"  devices       {len(started)} started, {count} running: {addresses}")


def _set_up_plant(settings: Settings, say: Say, outcome: Outcome) -> None:
    """Feed the devices' sensors and load the plant's labels; a process of its own, for it needs the data libraries."""
    environment = {**os.environ, **settings.environment, "SANDBOX_DEVICES": str(device_count(settings))}
    command = [str(CONTROL_PYTHON), "-m", "sandbox.plant", "--json"]
    plant = subprocess.run(command, env=environment, cwd=CLONE, check=False, capture_output=True, text=True)
    if plant.returncode:
        raise SandboxError(f"plant: {plant.stderr.strip() or plant.stdout.strip()}")
    result = json.loads(plant.stdout)
    if result["changed"]:
        outcome.started.append("plant")
    say(f"  plant         {result['records']} sensor records for each device, {result['labels']} labels in Redshift")


def down(settings: Settings, say: Say) -> Outcome:
    """End every process of the sandbox, by id. Ends strays of a killed run too."""
    if not settings.home.exists():
        return Outcome()
    with _exclusive(settings):
        outcome = Outcome(ended=_end_everything(settings))
        if outcome.ended:
            say(f"  ended {len(outcome.ended)} processes; the cloud they held is gone, `up` starts an empty one")
        return outcome


def clean(settings: Settings, say: Say) -> Outcome:
    """``down``, then remove SANDBOX_HOME, if it is one of ours."""
    if settings.home.exists() and not (settings.home / ".sandbox").exists():
        raise SandboxError(f"SANDBOX_HOME: expected a folder that `sandbox up` made, got {settings.home}; not removed")
    outcome = down(settings, say)
    shutil.rmtree(settings.home, ignore_errors=True)
    return outcome


def running(settings: Settings) -> dict[str, Any] | None:
    """The emulator's record (pid, generation, smtp_port ...) when it runs and answers."""
    return _running_emulator(settings)


# ---- the emulator


def _record_file(settings: Settings) -> Path:
    return settings.home / "run/emulator.json"


def _running_emulator(settings: Settings) -> dict[str, Any] | None:
    recorded = processes.read_record(_record_file(settings))
    if recorded is None or not recorded[0].alive:
        return None
    process, details = recorded
    if (details["port"], details["network"]) != (settings.port, settings.network):
        raise SettingsError(
            f"SANDBOX_PORT, SANDBOX_NETWORK: the sandbox in {settings.home} runs with {details['port']} and "
            f"{details['network']}, got {settings.port} and {settings.network}; run `python -m sandbox down` first"
        )
    health = _health(settings)
    if health is None or health["generation"] != details["generation"]:
        return None
    return {"pid": process.pid, **details, **health}


def _health(settings: Settings) -> dict[str, Any] | None:
    try:
        with urllib.request.urlopen(f"{settings.endpoint_url}/_sandbox/health", timeout=5) as answer:  # noqa: S310
            document: dict[str, Any] = json.load(answer)
            return document
    except (OSError, ValueError):
        return None


def _start_emulator(settings: Settings, outcome: Outcome) -> dict[str, Any]:
    generation = uuid.uuid4().hex
    _write_aws_config(settings)
    _link_tools(settings)
    log = settings.home / "logs/emulator.log"
    environment = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "LANG": "C.UTF-8",
        MARKER: str(settings.home),
        "SANDBOX_GENERATION": generation,
        **settings.environment,
    }
    popen, process = processes.start(
        [str(EMULATOR_PYTHON), "-m", "sandbox.emulator"], environment=environment, log=log, directory=CLONE
    )
    details = {"generation": generation, "port": settings.port, "network": settings.network}
    processes.write_record(_record_file(settings), process, **details)

    def settled() -> bool:
        return popen.poll() is not None or _health(settings) is not None

    processes.wait_until(settled, timeout_s=EMULATOR_TIMEOUT_S, interval_s=0.05)
    health = _health(settings)
    if popen.poll() is not None or health is None or health["generation"] != generation:
        processes.end([process], grace_s=2)
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
        raise SandboxError(f"AWS endpoint: did not answer on {settings.endpoint_url}; the end of {log}:\n{tail}")
    outcome.started.append("emulator")
    return {"pid": process.pid, **details, **health}


def _write_aws_config(settings: Settings) -> None:
    """The profile of the sandbox's account, its keys made for each cloud. ``credentials`` keeps the caller's out."""
    text = AWS_CONFIG.format(
        profile=PROFILE,
        key=f"AKIA{secrets.token_hex(8).upper()}",
        secret=secrets.token_urlsafe(30),
        region=REGION,
        endpoint=settings.endpoint_url,
    )
    processes.write_atomically(settings.home / "aws/config", text, mode=0o600)
    processes.write_atomically(settings.home / "aws/credentials", "# see config\n", mode=0o600)


def _link_tools(settings: Settings) -> None:
    """The programs of the notebooks' machine image that set-up brought or the machine has elsewhere."""
    folder = settings.home / "bin"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    git = shutil.which("git")
    for name, path in (("uv", str(CLONE / ".venv/bin/uv")), ("git", git)):
        if path:
            (folder / name).symlink_to(path)


# ---- what is left of an earlier run


def _clear_stale(settings: Settings, say: Say, outcome: Outcome) -> None:
    ended = _end_everything(settings)
    outcome.ended += ended
    if ended:
        say(f"  cleaned up after an earlier run that did not end properly: ended {len(ended)} processes")


def _end_everything(settings: Settings) -> list[str]:
    """End the emulator (it ends its notebooks and functions), the devices, and whatever carries our marker."""
    ended = []
    recorded = processes.read_record(_record_file(settings))
    if recorded is not None and recorded[0].alive:
        _end([recorded[0]])
        ended.append(str(recorded[0].pid))
    ended += _end_devices(settings)
    strays = processes.with_environment(f"{MARKER}={settings.home}")
    _end(strays)
    ended += [str(process.pid) for process in strays]
    for record in (settings.home / "run").glob("*.json"):
        if record != settings.state_file:
            record.unlink()
    return ended


def _end_devices(settings: Settings) -> list[str]:
    """End every device's processes: sshds by record or by the configuration they were started with, and the marked."""
    marked = processes.with_environment(f"{MARKER}={settings.home}")
    on_devices = [process for process in marked if b"TWINOPS_DEVICE=" in processes.environment_of(process.pid)]
    sshds = processes.with_command("sshd", f"{settings.home}/devices/", "/etc/ssh/sshd_config")
    known = [
        Device(settings, number) for number in range(1, 1 + max(device_count(settings), running_devices(settings)))
    ]
    found = {process.pid: process for process in [*on_devices, *fleet.sessions(known), *sshds]}
    _end(list(found.values()))
    for device in known:
        device.record.unlink(missing_ok=True)
    return [str(pid) for pid in found]


def _end(ending: list[Process]) -> None:
    survivors = processes.end(ending)
    if survivors:
        listed = ", ".join(f"{process.pid} ({processes.command_line(process.pid)})" for process in survivors)
        raise SandboxError(f"processes: expected to end within 15 s, still there: {listed}")


# ---- checks and small files


def _check_programs() -> None:
    environments = {"AWS emulator": EMULATOR_PYTHON, "control": CONTROL_PYTHON}
    environments["Jupyter"] = CLONE / ".cache/envs/jupyter/bin/python"
    missing = [f"the {title} environment ({path})" for title, path in environments.items() if not path.exists()]
    missing += [name for name in ("ssh-keygen", "bash") if not shutil.which(name)]
    if missing:
        raise SandboxError(f"expected to be installed: {', '.join(missing)}; run: make setup")


def _claim_home(settings: Settings) -> None:
    """Make SANDBOX_HOME ours; somebody else's folder is refused, for ``clean`` removes it."""
    marker = settings.home / ".sandbox"
    if settings.home.exists() and not marker.exists() and any(settings.home.iterdir()):
        raise SandboxError(f"SANDBOX_HOME: expected a new or empty folder, got {settings.home} with other files in it")
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        marker.touch()
        (settings.home / "run").mkdir(exist_ok=True)
    except OSError as error:
        raise SandboxError(f"SANDBOX_HOME: expected a folder that can be written: {error}") from error


def _check_ports(settings: Settings, count: int) -> None:
    """Refuse to start half: every address must be free, or one error names who has it and what to change."""
    _check_free("127.0.0.1", settings.port, "AWS endpoint", "SANDBOX_PORT")
    for number in range(1, count + 1):
        _check_free(settings.device_address(number), SSH_PORT, "devices", "SANDBOX_NETWORK")


def _check_free(address: str, port: int, what: str, variable: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            owners = processes.socket_owners({(address, port)}, listening=True)
            who = ", ".join(f"{processes.command_line(pid)} (process {pid})" for pid in owners) or "another program"
            raise SandboxError(
                f"{what}: {address}:{port} is in use by {who}: {error.strerror}; end it, or set {variable}"
            ) from error


@contextmanager
def _exclusive(settings: Settings) -> Iterator[None]:
    """One ``up`` or ``down`` at a time. The kernel releases the lock of a killed one."""
    lock = settings.home / "run/lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+") as file:
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    file.seek(0)
                    raise SandboxError(
                        f"{lock}: process {file.read().strip() or 'unknown'} has been starting or stopping this "
                        f"sandbox for more than {LOCK_TIMEOUT_S} s"
                    ) from None
                time.sleep(0.1)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
