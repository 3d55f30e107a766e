"""Simulated edge devices: each is a real sshd on a loopback address of its own, with its own host key and tree.

A device differs from a real one in what ``inventories/sandbox`` says, and in nothing else a role can see. It runs as
the user who started the sandbox, root or not.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sandbox import processes
from sandbox.processes import Process
from sandbox.settings import MARKER, SSH_PORT, Settings, device_name

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEVICE_MARKER = "TWINOPS_DEVICE"

# One SetEnv line: sshd ignores all but the first. SHLVL keeps bash from reading a .bashrc (0.1 s a command).
SSHD_CONFIG = """\
ListenAddress {address}:{port}
HostKey {host_key}
PidFile none
AuthorizedKeysFile {authorized_keys}
StrictModes no
UsePAM {use_pam}
PasswordAuthentication no
KbdInteractiveAuthentication no
PubkeyAuthentication yes
PermitRootLogin prohibit-password
UseDNS no
PrintMotd no
PrintLastLog no
X11Forwarding no
MaxStartups 100
MaxSessions 100
LogLevel ERROR
Subsystem sftp internal-sftp
SetEnv {environment}
"""

SSH_CONFIG = """\
Host {name}
    HostName {address}
    Port {port}
    User {user}
    IdentityFile {identity}
    IdentitiesOnly yes
    UserKnownHostsFile {known_hosts}
    GlobalKnownHostsFile none
    StrictHostKeyChecking yes
"""


class DeviceError(Exception):
    """A device that did not come up."""


@dataclass(frozen=True)
class Device:
    """Where the parts of device ``number`` (from 1) are."""

    settings: Settings
    number: int

    @property
    def name(self) -> str:
        return device_name(self.number)

    @property
    def address(self) -> str:
        return self.settings.device_address(self.number)

    @property
    def root(self) -> Path:
        return self.settings.device_root(self.name)

    @property
    def edge_root(self) -> Path:
        return self.settings.edge_root(self.name)

    @property
    def record(self) -> Path:
        return self.settings.home / "run" / f"{self.name}.json"

    @property
    def host_key(self) -> Path:
        return self.settings.home / "keys" / self.name / "ssh_host_ed25519_key"

    @property
    def sshd_config(self) -> Path:
        return self.root / "etc/ssh/sshd_config"

    @property
    def environment(self) -> dict[str, str]:
        """What a process on the device sees; nothing of the caller's environment."""
        return {
            "HOME": str(self.root / "home"),
            "TMPDIR": str(self.root / "tmp"),
            "PATH": f"{self.edge_root / 'bin'}:{SYSTEM_PATH}",
            "LANG": "C.UTF-8",
            "SHLVL": "1",
            MARKER: str(self.settings.home),
            DEVICE_MARKER: self.name,
        }

    @property
    def is_on(self) -> bool:
        recorded = processes.read_record(self.record)
        return recorded is not None and recorded[0].alive

    def sshd(self) -> list[Process]:
        """Its sshd, with or without a record. sshd overwrites its environment with its title: no marker there."""
        return processes.with_command("sshd", f" -f {self.sshd_config} ") + processes.with_command(
            "sshd", f"\0-f\0{self.sshd_config}\0"
        )


def login_user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def _account_is_locked() -> bool:
    """Whether the user has no password at all, as root on Ubuntu: without PAM sshd refuses even such a user's key.

    Only a sshd that may read the shadow file looks, so for everybody else the answer is no.
    """
    try:
        lines = Path("/etc/shadow").read_text().splitlines()
    except OSError:
        return False
    return any(line.startswith(f"{login_user()}:!") for line in lines)


def prepare_keys(settings: Settings, devices: list[Device]) -> None:
    """Host keys, the login key and what clients need to check and use them. Keys outlive a reset, as a device's do."""
    identity = settings.home / "id_ed25519"
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(_ensure_key, [identity, *(device.host_key for device in devices)]))
    processes.write_atomically(settings.home / "keys/authorized_keys", Path(f"{identity}.pub").read_text())
    known = "".join(f"[{d.address}]:{SSH_PORT} {_public_key(d.host_key)}\n" for d in devices)
    processes.write_atomically(settings.home / "known_hosts", known)
    aliases = [
        SSH_CONFIG.format(
            name=device.name,
            address=device.address,
            port=SSH_PORT,
            user=login_user(),
            identity=identity,
            known_hosts=settings.home / "known_hosts",
        )
        for device in devices
    ]
    processes.write_atomically(settings.home / "ssh_config", "\n".join(aliases))


def _ensure_key(path: Path) -> None:
    """Make a key pair unless there is one; a pair torn by an interruption is made anew."""
    if path.exists() and Path(f"{path}.pub").exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "twinops-sandbox", "-f", temporary], check=True
    )
    Path(f"{temporary}.pub").replace(f"{path}.pub")
    temporary.replace(path)


def _public_key(path: Path) -> str:
    return " ".join(Path(f"{path}.pub").read_text().split()[:2])


def power_on(devices: list[Device], *, timeout_s: float = 30.0) -> list[str]:
    """Start the sshd of every device that is off, and, as a boot does, its services. Returns who was started.

    Raises ``DeviceError`` naming the device and the end of its log when one does not answer in time.
    """
    off = [device for device in devices if not device.is_on]
    processes.end([sshd for device in off for sshd in device.sshd()], grace_s=2)
    for device in off:
        _start_sshd(device)
    for device in off:
        if not processes.wait_until(lambda device=device: _answers(device), timeout_s=timeout_s):  # type: ignore[misc]
            raise DeviceError(f"{device.name}: sshd did not answer in {timeout_s:.0f} s; {_log_tail(device)}")
        _start_services(device)
    return [device.name for device in off]


def _start_sshd(device: Device) -> None:
    for folder in (device.sshd_config.parent, device.edge_root, device.root / "home", device.root / "tmp"):
        folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's privilege separation needs it as root
    text = SSHD_CONFIG.format(
        address=device.address,
        port=SSH_PORT,
        host_key=device.host_key,
        use_pam="yes" if _account_is_locked() else "no",
        authorized_keys=device.settings.home / "keys/authorized_keys",
        environment=" ".join(f"{name}={value}" for name, value in device.environment.items()),
    )
    processes.write_atomically(device.sshd_config, text)
    _, sshd = processes.start(
        [_sshd(), "-D", "-e", "-f", str(device.sshd_config)],
        environment=device.environment,
        log=_log(device),
        directory=device.root,
    )
    processes.write_record(device.record, sshd, address=device.address, port=SSH_PORT)


def _start_services(device: Device) -> None:
    """What init does at boot: start supervisord, if the device has been set up and it is not running."""
    supervisord, config = device.edge_root / "venv/bin/supervisord", device.edge_root / "supervisord.conf"
    if supervisord.exists() and config.exists() and not processes.with_command("supervisord", str(config)):
        subprocess.run(
            [supervisord, "-c", config], env=device.environment, cwd=device.root, stdin=subprocess.DEVNULL, check=True
        )


def power_off(device: Device) -> int:
    """End every process of the device by id, as a power cut does. Returns how many there were."""
    found = {process.pid: process for process in _processes(device)}
    processes.end(found.values(), grace_s=0)
    device.record.unlink(missing_ok=True)
    return len(found)


def _processes(device: Device) -> list[Process]:
    marked = processes.with_environment(f"{MARKER}={device.settings.home}", f"{DEVICE_MARKER}={device.name}")
    return [*device.sshd(), *sessions([device]), *marked]


def sessions(devices: list[Device]) -> list[Process]:
    """The sshd processes of open connections: known by their sockets, as their title hides everything else.

    An address where somebody else's sshd listens (another sandbox with the same network) is left alone.
    """
    by_socket = {(device.address, SSH_PORT): device for device in devices}
    listeners = processes.socket_owners(by_socket, listening=True)
    foreign = {at for pid, at in listeners.items() if str(by_socket[at].sshd_config) not in processes.command_line(pid)}
    owners = processes.socket_owners(by_socket.keys() - foreign, listening=False)
    return [
        process
        for pid in owners
        if processes.command_line(pid).startswith("sshd") and (process := processes.find(pid)) is not None
    ]


def reset(home: Path) -> None:
    """Forget every device's file tree. Renamed first, so that an interrupted reset leaves no half device."""
    devices = home / "devices"
    if devices.exists():
        devices.rename(home / f".devices-{uuid.uuid4().hex}")
    for old in home.glob(".devices-*"):
        shutil.rmtree(old)


def _sshd() -> str:
    """sshd wants to be called by its absolute path: it executes itself again for each connection."""
    path = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")
    if path is None:
        raise DeviceError("sshd: expected the OpenSSH server to be installed, found none; run: make setup")
    return str(Path(path).absolute())


def _answers(device: Device) -> bool:
    try:
        with socket.create_connection((device.address, SSH_PORT), timeout=2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _log(device: Device) -> Path:
    return device.settings.home / "logs" / f"{device.name}-sshd.log"


def _log_tail(device: Device) -> str:
    lines = _log(device).read_text(errors="replace").splitlines()[-3:]
    return f"the end of {_log(device)}: {' / '.join(lines)}" if lines else f"{_log(device)} is empty"
