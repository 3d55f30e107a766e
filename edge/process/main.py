"""The inference service of a device: ``main.py --root /opt/twinops``. docs/edge.md tells how it works.

It runs until SIGTERM or SIGINT. Exit codes: 0 stopped, 1 it cannot even say that it failed (no address to listen on).
Everything else that goes wrong is said by ``/health`` and tried again.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TextIO

import clock
from errors import EdgeError, SettingsError
from health import Status, serve
from loop import Formatter, Loop, Parts
from model import Model
from sensor import open_sensor
from settings import Config, Device, Release, read_config, read_device, read_release
from shadow import Shadow
from spool import Spool
from upload import Uploader

SLOT = Path(__file__).resolve().parents[1]  # not through `current`, which may already point at the next release
LAST_STEP_S = 5
STARTS_KEPT = 20


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="folder of twinops on the device")
    root = parser.parse_args(arguments).root
    stop = threading.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda *_: stop.set())
    try:
        device = read_device(root / "device.json")
        lock = only_one(root / "run")
        note_start(root / "run/starts.json")
        release = read_release(SLOT / "manifest.json")
        status = Status(release.release, release.digest, release.model_sha256)
        serve(status, device.address, device.health_port)
    except EdgeError as error:
        print(error, file=sys.stderr)
        return 1
    worker = start(root, device, release, status, stop)
    stop.wait()
    worker.join(LAST_STEP_S)
    lock.close()
    # Without the interpreter's goodbye: it would wait for a hanging model, or pull the ground from under a running one.
    os._exit(0)


def start(root: Path, device: Device, release: Release, status: Status, stop: threading.Event) -> Loop:
    """Decides and uploads in the background from now on."""

    def open_parts() -> Parts:
        config: Config = read_config(SLOT / "config.json")
        status.stall_s = config.stall_s
        model = Model(SLOT / "model.onnx", release.model_sha256)
        spool = Spool(root / "spool" / "decisions.db", config.spool_limit_records)
        try:
            sensor = open_sensor(device.sensor, spool.position)
        except EdgeError:
            spool.close()
            raise
        Uploader(spool, device, status, stop).start()
        status.shadow = shadow = open_shadow(release, config)
        return Parts(model, spool, sensor, Formatter(device.device, release), config, shadow=shadow)

    loop = Loop(open_parts, status, stop)
    loop.start()
    return loop


def open_shadow(release: Release, config: Config) -> Shadow | None:
    """The challenger of the release, if it has one."""
    if release.challenger is None:
        return None
    wait_s = config.shadow_wait_ms / 1000
    return Shadow(release.challenger, SLOT / "challenger.onnx", wait_s, config.stall_s, config.shadow_memory_mb)


def note_start(path: Path) -> None:
    """Add this start to the times of the last ones, by which a service that keeps dying is told from a new one.

    A disk that cannot take it is no reason not to start: what needs the disk says so.
    """
    try:
        starts = json.loads(path.read_bytes())[1 - STARTS_KEPT :]
    except (OSError, ValueError, TypeError, KeyError):
        starts = []
    with contextlib.suppress(OSError):
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_text(json.dumps([*starts, clock.now()]), "utf-8")
        temporary.replace(path)


def only_one(folder: Path) -> TextIO:
    """Two services on one spool would number two decisions alike."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "inference.lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SettingsError(f"{folder}/inference.lock: another inference service runs on this folder") from error
    except OSError as error:
        raise SettingsError(f"{folder}/inference.lock: {error.strerror}; expected a writable folder") from error
    return lock


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
