"""The Python environment of a device, made of wheels: without internet, compiler or pip, by uv from its own wheel.

Environments are not relocatable, so each is built where it stays, ``<root>/venvs/<digest>``, and is complete when it
has its marker, which is written last. ``<root>/venv`` is a link that is switched by one rename: what runs keeps its
environment until it is restarted, and there is no moment without one.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import devices
from ..errors import TwinopsError
from . import durable
from .digests import file_sha256

MARKER = "twinops.json"
STEP_TIMEOUT_S = 600


@dataclass(frozen=True)
class Wanted:
    """What is to be installed. ``wheels``: names of those the control host can push."""

    root: Path
    python: str
    lock: str
    wheelhouse: Path
    wheels: Sequence[str]
    cache: Path
    imports: Sequence[str]


def ensure(wanted: Wanted, *, apply: bool) -> dict[str, Any]:
    """Make the environment and link it, or say that it is there, or which wheels are missing to make it.

    :raises TwinopsError: a step failed; the environment that was linked before still is
    """
    python_version = _python_version(wanted.python)
    digest = devices.environment_digest(wanted.lock, python_version, platform.machine())
    folder = wanted.root / "venvs" / digest[:16]
    link = wanted.root / "venv"
    linked = link.readlink().name if link.is_symlink() else None
    result = {"digest": digest, "environment": str(folder), "python_version": python_version, "missing_wheels": []}
    diff = {"before": f"environment: {linked}\n", "after": f"environment: {folder.name}\n"}
    if linked == folder.name and (folder / MARKER).is_file():
        return {**result, "changed": False}
    if not (folder / MARKER).is_file():
        missing = [name for name in sorted(wanted.wheels) if not _is_intact(wanted.wheelhouse / name, wanted.lock)]
        if missing or not apply:
            return {**result, "changed": not apply, "missing_wheels": missing, "diff": diff}
        _build(wanted, folder, {"digest": digest, "python_version": python_version})
    if apply:
        _link(link, folder)
    return {**result, "changed": True, "diff": diff}


def _link(link: Path, folder: Path) -> None:
    if link.is_dir() and not link.is_symlink():
        raise TwinopsError(f"{link}: expected a link to an environment, found a folder; remove it and run again")
    previous = link.readlink().name if link.is_symlink() else None
    durable.point_link(link, f"venvs/{folder.name}")
    # The previous environment stays: the service that runs may still load a module from it.
    for old in folder.parent.iterdir():
        if old.name not in (folder.name, previous):
            shutil.rmtree(old, ignore_errors=True)


def _build(wanted: Wanted, folder: Path, marker: Mapping[str, str]) -> None:
    """Leave ``folder`` with a marker, or, however this ends, without one."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    uv = _uv(wanted)
    _run([wanted.python, "-m", "venv", "--without-pip", str(folder)])
    python = str(folder / "bin/python")
    with tempfile.NamedTemporaryFile("w", suffix=".txt", dir=folder, encoding="utf-8") as requirements:
        requirements.write(wanted.lock)
        requirements.flush()
        _run(
            [
                *(str(uv), "pip", "install", "--quiet", "--no-config", "--python", python),
                *("--offline", "--no-index", "--find-links", str(wanted.wheelhouse), "--only-binary", ":all:"),
                *("--require-hashes", "--link-mode", "hardlink", "--cache-dir", str(wanted.cache)),
                *("--requirements", requirements.name),
            ]
        )
    # Wheels for another processor or C library install well and fail here. It also leaves the bytecode of what the
    # service loads, which the service itself may not be allowed to write.
    _run([python, "-c", "".join(f"import {name}\n" for name in wanted.imports)])
    os.sync()  # before the marker says that all of it is there
    durable.write_file(folder / MARKER, json.dumps(marker, sort_keys=True).encode() + b"\n")


def _uv(wanted: Wanted) -> Path:
    """uv, unpacked from its wheel once per version; run only if the lock knows that wheel."""
    wheel = next(wanted.wheelhouse.glob("uv-*.whl"), None)
    if wheel is None:
        raise TwinopsError(f"{wanted.wheelhouse}: expected a wheel of uv, found none")
    digest = file_sha256(wheel)
    if digest not in devices.locked_hashes(wanted.lock, "uv"):
        raise TwinopsError(f"{wheel}: expected a wheel whose hash is in the lock, got sha256 {digest}")
    uv = wanted.cache / "bin" / f"uv-{digest[:16]}"
    if uv.is_file():
        return uv
    uv.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        member = next(name for name in archive.namelist() if name.endswith(".data/scripts/uv"))
        with tempfile.NamedTemporaryFile(dir=uv.parent, delete=False) as temporary:
            shutil.copyfileobj(archive.open(member), temporary)
    Path(temporary.name).chmod(0o755)
    Path(temporary.name).replace(uv)  # devices of a sandbox share the cache: whoever comes second replaces like by like
    return uv


def _is_intact(wheel: Path, lock: str) -> bool:
    """A wheel that was damaged on its way or on the disk counts as missing, and is pushed again."""
    return wheel.is_file() and f"--hash=sha256:{file_sha256(wheel)}" in lock


def _python_version(python: str) -> str:
    code = "import sys; print('%d.%d.%d' % sys.version_info[:3])"
    return _run([python, "-I", "-S", "-c", code]).strip()


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=STEP_TIMEOUT_S, check=False, text=True
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TwinopsError(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-1500:]
        raise TwinopsError(f"{' '.join(command)[:300]}: exit code {done.returncode}: {said}")
    return done.stdout
