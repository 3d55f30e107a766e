"""Keeps the twin's volume from filling up: environments, checkouts and run folders that nobody uses any more.

They go when nobody has used them for a month, and sooner, the least recently used first, while the volume is nearly
full. What a finished run has left is in S3 and CloudWatch by then, a checkout can be fetched and an environment built
again.

A run holds a shared lock on ``lock/use-<name>`` from before it looks for a folder until its process ends
(:func:`in_use`, and ``bin/run-once``); the collector takes that lock alone, without waiting, before it touches the
folder. It renames a folder to ``*.gone`` before it deletes it, so that nobody ever finds half of one; what a killed
collector, builder or checkout has left is removed by the next collector. See docs/interfaces.md, "On the twin".
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from .locks import alone, shared

DAY_S = 24 * 3600
UNUSED_S = 30 * DAY_S
EVERY_S = DAY_S
NEARLY_FULL = 0.85
"""Share of the volume. The rest has to take an environment (up to a few GB) and what the runs of a day make."""
FRESH_S = 3600
"""What was used so lately stays even then: what was built ahead is about to be used, and who was just mailed about a
run may look at its folder."""
GIT_TIMEOUT_S = 30

_NAMES = {"envs": re.compile(r"[0-9a-f]{16}"), "code": re.compile(r"[0-9a-f]{40}"), "runs": re.compile(r"[0-9a-f]+")}


def environment_of(home: Path, lock: Path) -> Path:
    """Where ``bin/environment`` builds the environment of a lock file."""
    return home / "envs" / hashlib.sha256(lock.read_bytes()).hexdigest()[:16]


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Keep the collector from a folder of ``envs/``, ``code/`` or ``runs/``, which need not be there yet.

    On a volume without room for the lock it is only marked as fresh (:data:`FRESH_S`).
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        os.utime(folder)
    with ExitStack() as held:
        try:
            _use_lock(folder).parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(shared(_use_lock(folder)))
        except OSError as error:
            print(f"housekeeping: {folder}: no lock: {error}", flush=True)
        yield


def is_due(home: Path) -> bool:
    """Whether a day has passed since the last collection, or the volume is nearly full."""
    marker = _marker(home)
    return not marker.exists() or time.time() - marker.stat().st_mtime >= EVERY_S or is_nearly_full(home)


def is_nearly_full(home: Path) -> bool:
    """Whether what is least recently used has to go before its time."""
    return fullness(home) > NEARLY_FULL


def fullness(home: Path) -> float:
    """Which share of the volume is used, of what we may use, as ``df`` says it."""
    volume = os.statvfs(home)
    used = volume.f_blocks - volume.f_bfree
    return used / (used + volume.f_bavail)


def collect(
    home: Path,
    *,
    unused_s: float = UNUSED_S,
    nearly_full: float = NEARLY_FULL,
    fresh_s: float = FRESH_S,
    measure: Callable[[Path], float] = fullness,
) -> list[str]:
    """Remove what nobody uses; what was removed, as ``envs/<name>``. Nothing if another process is at it.

    ``measure`` says how full the volume is, ``nearly_full`` above which share of it things go before their time,
    which is never while they are younger than ``fresh_s``.
    """
    marker = _marker(home)
    marker.parent.mkdir(parents=True, exist_ok=True)
    removed = []
    with alone(marker) as is_alone:
        if is_alone:
            _remove_leftovers(home)
            now, kept = time.time(), _kept(home)
            found = sorted((_used_at(folder), folder) for folder in _folders(home) if folder not in kept)
            for used_at, folder in found:
                age_s = now - used_at
                if age_s < unused_s and (age_s < fresh_s or measure(home) <= nearly_full):
                    break
                if _take_away(folder, used_at):
                    removed.append(f"{folder.parent.name}/{folder.name}")
            os.utime(marker)
    return removed


def _marker(home: Path) -> Path:
    """Its time is that of the last collection; its lock makes collectors take turns."""
    return home / "lock" / "housekeeping"


def _use_lock(folder: Path) -> Path:
    return folder.parents[1] / "lock" / f"use-{folder.name}"


def _build_lock(environment: Path) -> Path:
    """Of ``bin/environment``, while it builds."""
    return environment.with_name(f"{environment.name}.lock")


def _folders(home: Path) -> Iterator[Path]:
    """Environments, checkouts and run folders that are complete."""
    for kind, name in _NAMES.items():
        for folder in (home / kind).glob("*"):
            if name.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink():
                yield folder


def _used_at(folder: Path) -> float:
    return folder.stat().st_mtime


def _kept(home: Path) -> set[Path]:
    """What stays in any case: the newest commit, the one fetched last (which tells of commits that cannot be fetched),
    and the environments that they need."""
    checkouts = [folder for folder in _folders(home) if folder.parent.name == "code"]
    latest = (home / "code" / "latest").resolve().name
    kept = set(sorted(checkouts, key=lambda checkout: (_committed_at(checkout), _used_at(checkout)))[-1:])
    kept |= {folder for folder in checkouts if folder.name == latest}
    locks = [lock for code in kept for pattern in ("*.txt", "*/*.txt") for lock in (code / "workflows").glob(pattern)]
    return kept | {environment_of(home, lock) for lock in locks}


def _committed_at(checkout: Path) -> int:
    """Time of its commit, seconds since 1970; 0 if git does not know."""
    command = ["git", "--git-dir", checkout / ".git", "log", "-1", "--format=%ct"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=GIT_TIMEOUT_S)
    return int(done.stdout) if done.returncode == 0 else 0


def _take_away(folder: Path, used_at: float) -> bool:
    """Remove a folder that nobody uses and nobody has used since it was looked at."""
    with alone(_use_lock(folder)) as is_alone:
        if not is_alone or _used_at(folder) != used_at:
            return False
        gone = _set_aside(folder)
        _use_lock(folder).unlink()
    _delete(gone)
    return True


def _set_aside(folder: Path) -> Path:
    """Rename a folder so that nobody finds it, whole or in half, while it is deleted."""
    return folder.rename(folder.with_name(f"{folder.name}.{secrets.token_hex(4)}.gone"))


def _delete(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except OSError as error:  # the next collector tries again
        print(f"housekeeping: {folder}: {error}", file=sys.stderr)


def _remove_leftovers(home: Path) -> None:
    """What killed collectors, builders and checkouts have left, and locks of what is not there any more."""
    for kind in _NAMES:
        for gone in (home / kind).glob("*.gone"):
            _delete(gone)
    for part in (home / "envs").glob("*.part"):
        _remove_part(part, _build_lock(part.with_suffix("")))
    if (home / "code" / ".part").exists():
        _remove_part(home / "code" / ".part", home / "lock" / "checkout")
    for lock in (home / "lock").glob("use-*"):
        if not any((home / kind / lock.name.removeprefix("use-")).exists() for kind in _NAMES):
            _forget(lock)
    for lock in (home / "envs").glob("*.lock"):
        if not lock.with_suffix("").exists():
            _forget(lock)


def _remove_part(part: Path, lock: Path) -> None:
    """Remove what is half made, unless somebody still makes it."""
    with alone(lock) as is_alone:
        gone = _set_aside(part) if is_alone and part.exists() else None
    if gone:
        _delete(gone)


def _forget(lock: Path) -> None:
    with alone(lock) as is_alone:
        if is_alone:
            lock.unlink()


def main(arguments: list[str] | None = None) -> int:
    """Collect now, in the home that TWINOPS_HOME names; prints what was removed."""
    parser = argparse.ArgumentParser(prog="toolbox.runner.housekeeping", description=__doc__)
    parser.add_argument("--unused-days", type=float, default=UNUSED_S / DAY_S)
    parser.add_argument("--full-percent", type=float, default=NEARLY_FULL * 100)
    parser.add_argument("--fresh-minutes", type=float, default=FRESH_S / 60)
    options = parser.parse_args(arguments)
    home = Path(os.environ["TWINOPS_HOME"])
    removed = collect(
        home,
        unused_s=options.unused_days * DAY_S,
        nearly_full=options.full_percent / 100,
        fresh_s=options.fresh_minutes * 60,
    )
    print(
        f"housekeeping: removed {', '.join(removed) or 'nothing'}; the volume is {fullness(home):.0%} full", flush=True
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
