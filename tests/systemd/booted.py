"""A device that is a whole Debian: systemd as process 1, an sshd, a disk and a network of its own. Needs root.

It runs in namespaces that end with the program that made them, whatever ends that: mounts, network and processes are
not named anywhere, so nothing has to be found and cleared away later. Its network has loopback only; who talks to its
sshd enters it (:attr:`BootedDevice.proxy_command`).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from pathlib import Path

from sandbox.settings import CLONE

SUITE, PYTHON = "bookworm", "3.11"
"""The release of Debian, and the version of its Python: the devices' wheels have to fit it."""

BASE = CLONE / ".cache/systemd" / SUITE
PACKAGES = "systemd,systemd-sysv,openssh-server,python3,dbus"
BUILD_TIMEOUT_S = 900
BOOT_TIMEOUT_S = 60

BOOT = """
set -e
mount -t overlay overlay -o "lowerdir=$BASE,upperdir=$HOME/upper,workdir=$HOME/work" "$HOME/disk"
mkdir -p "$HOME/disk/root/.ssh"
install -m 600 "$HOME/id_ed25519.pub" "$HOME/disk/root/.ssh/authorized_keys"
ip link set lo up
set +e
code=133  # by which systemd-nspawn says that the device wants to reboot
while [ $code = 133 ]; do
    systemd-nspawn --quiet --keep-unit --register=no --directory="$HOME/disk" --machine="$NAME" --console=pipe --boot
    code=$?
done
"""

CONNECT = "exec 3<>/dev/tcp/127.0.0.1/22 4<&0; cat <&3 & cat <&4 >&3 & wait -n; kill $(jobs -p)"
"""Ends when either side does: a shared connection would else outlive the reboot of its device, and hang who uses it."""


def why_not() -> str:
    """What keeps this machine from booting a device; empty where nothing does."""
    if os.geteuid() != 0:
        return "needs root: namespaces with a systemd of their own"
    missing = [name for name in ("systemd-nspawn", "debootstrap", "setpriv", "nsenter") if not shutil.which(name)]
    if missing:
        return f"needs {', '.join(missing)}: apt-get install systemd-container debootstrap util-linux"
    return ""


def base() -> Path:
    """The disk that all devices begin with; made once a clone, in minutes."""
    BASE.parent.mkdir(parents=True, exist_ok=True)
    with (BASE.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not BASE.exists():
            part = BASE.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(part)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False)
            assert done.returncode == 0, f"debootstrap: {done.stdout[-2000:]}{done.stderr[-2000:]}"
            part.rename(BASE)
    return BASE


class BootedDevice:
    """A device that is on until :meth:`off`. Everything of it is below ``home``, in the end its disk as well."""

    def __init__(self, home: Path, name: str) -> None:
        self.home, self.name = home, name
        for folder in ("upper", "work", "disk"):
            (home / folder).mkdir(parents=True)
        self.key = home / "id_ed25519"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True, timeout=30)
        self._log = (home / "console.log").open("w")
        namespaces = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
        self._holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *namespaces, "--propagation", "private", "sh", "-c", BOOT],
            env={"PATH": os.environ["PATH"], "HOME": str(home), "BASE": str(base()), "NAME": name},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self.wait_for_boot()

    @property
    def proxy_command(self) -> str:
        """How ssh gets to the device's sshd: through its network namespace."""
        first = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text().split()[0]
        return f"nsenter --net=/proc/{first}/ns/net bash -c '{CONNECT}'"

    @property
    def ssh_options(self) -> list[str]:
        options = ("UserKnownHostsFile=/dev/null", "GlobalKnownHostsFile=none", "StrictHostKeyChecking=no")
        return [word for option in (*options, "LogLevel=ERROR") for word in ("-o", option)]

    def ssh(self, command: str, *, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command line on the device, as root."""
        proxy = ["-o", f"ProxyCommand={self.proxy_command}", "-i", str(self.key)]
        return subprocess.run(
            ["ssh", *self.ssh_options, *proxy, f"root@{self.name}", command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def output(self, command: str) -> str:
        """What a command prints, which must succeed."""
        done = self.ssh(command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def wait_for_boot(self, other_than: str = "") -> str:
        """Wait until everything has started; the id of the boot, which is not ``other_than``."""

        def booted() -> str:
            try:
                if self.ssh("systemctl is-system-running --wait").stdout.strip() != "running":
                    return ""
                boot_id = self._boot_id()
            except (IndexError, OSError, AssertionError):  # no process yet, or it is just going down
                return ""
            return boot_id if boot_id != other_than else ""

        deadline = time.monotonic() + BOOT_TIMEOUT_S
        while not (boot_id := booted()):
            console = (self.home / "console.log").read_text()[-2000:]
            assert self._holder.poll() is None, f"{self.name} went off: {console}"
            assert time.monotonic() < deadline, f"{self.name} did not boot within {BOOT_TIMEOUT_S} s: {console}"
            time.sleep(0.3)
        return boot_id

    def _boot_id(self) -> str:
        """The kernel's own id is that of the host: when systemd was started tells boots apart as well."""
        return self.output("systemctl show --property=UserspaceTimestampMonotonic --value")

    def reboot(self) -> None:
        """Reboot as a person would, and wait until everything has started again."""
        before = self._boot_id()
        self.ssh("systemctl reboot")
        self.wait_for_boot(other_than=before)

    def off(self) -> None:
        """End everything of it at once, as a power cut does, and clear its disk away."""
        self._holder.kill()
        self._holder.wait(timeout=30)
        self._log.close()
        _forget_cgroups()
        shutil.rmtree(self.home, ignore_errors=True)


def _forget_cgroups() -> None:
    """Remove the empty control groups that systemd-nspawn made beside ours."""
    for hierarchy in ("systemd", "unified"):
        for folder, _, _ in os.walk(f"/sys/fs/cgroup/{hierarchy}/payload", topdown=False):
            try:
                Path(folder).rmdir()
            except OSError:
                continue  # somebody else's device is in it
