"""Killed at every file operation: exactly the old or the new release is linked, and the next run finishes or undoes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twinops import release, slots
from twinops.edge import install
from twinops.edge.state import Device

from tests.edge.release_world import CLONE, SETTINGS, KilledError, Killer, Publisher, World

STEPS = {"install": 5, "update": 1, "update by delta": 9, "failing update": 5, "revert": 2}
"""Of each stage every so many operations are tried; every one of them by `make faults`."""
MODEL = random.Random(1).randbytes(release.LARGE_BYTES)  # noqa: S311


class Scene:
    """A device about to do one thing, which can be set up again and again."""

    def __init__(self, folder: Path, stage: str) -> None:
        self.publisher = Publisher(folder)
        large = {"v1": MODEL, "v2": MODEL[:-3] + b"new"} if stage == "update by delta" else {}
        self.old, self.new = (self.publisher.publish(version, large.get(version)) for version in ("v1", "v2"))
        if stage == "failing update":
            self.new = self.publisher.publish("v3", health="silent")
        self.stage = stage
        self.world = World(folder / "device", self.publisher)
        if stage != "install":
            self.world.install(self.old)
        if stage == "revert":
            self.world.install(self.new)
        self.archive = self.world.deliver(self.new)
        shutil.copytree(self.world.root, folder / "saved", symlinks=True)
        self.saved = folder / "saved"

    def reset(self) -> None:
        shutil.rmtree(self.world.root)
        shutil.copytree(self.saved, self.world.root, symlinks=True)

    def act(self) -> None:
        if self.stage == "revert":
            install.revert(self.world.root, self.new["release_digest"], SETTINGS, rollout_id="r1", reason="gate")
            return
        wanted = self.world.wanted(self.new)
        settings = replace(SETTINGS, start_timeout_s=0.0) if self.stage == "failing update" else SETTINGS
        install.install(self.world.root, wanted, settings, rollout_id="r1", archive=self.archive)

    def again(self) -> None:
        """What the next run of the playbook does: look, push what is lacking, install, or revert."""
        if self.stage == "revert":
            self.act()
            return
        settings = replace(SETTINGS, start_timeout_s=0.0) if self.stage == "failing update" else SETTINGS
        self.world.install(self.new, settings)

    @property
    def expected(self) -> str:
        return {"failing update": "v1", "revert": "v1"}.get(self.stage, "v2")

    @property
    def allowed(self) -> set[str | None]:
        return {"install": {None, "v2"}, "failing update": {"v1", "v3"}}.get(self.stage, {"v1", "v2"})


@pytest.fixture
def scene(stage: str, tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path, stage)
    yield scene
    scene.world.close()


def attempt(action: Any) -> None:
    try:
        action()
    except install.InstallError as error:
        assert "v1 keeps running" in str(error)  # the release that cannot come up


@pytest.mark.fault("SIGKILL at every file operation", "exactly old or new is linked; the next run finishes or undoes")
@pytest.mark.parametrize(
    ("stage", "step"),
    [
        *(pytest.param(stage, step, id=stage) for stage, step in STEPS.items()),
        *(pytest.param(stage, 1, id=f"{stage}, each", marks=pytest.mark.faults) for stage, n in STEPS.items() if n > 1),
    ],
)
def test_killed_at_every_file_operation(scene: Scene, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    killer = Killer(monkeypatch, scene.world.root)
    attempt(scene.act)
    operations = killer.count
    assert operations > (15 if scene.stage == "revert" else 60), killer.names
    for at in range(1, operations + 1, step):
        killer.at = None
        scene.reset()
        killer.count, killer.at = 0, at
        with pytest.raises(KilledError):
            attempt(scene.act)
        killer.at = None
        died_at = f"killed at operation {at} ({killer.names[-1]})"
        assert scene.world.linked() in scene.allowed, died_at
        if Device(scene.world.root).read_state()["phase"] in (slots.STAGED, slots.SMOKE_TESTED):
            assert scene.world.needs(scene.new)["lacking"] == [], f"{died_at}: what was delivered is sent anew"
        attempt(scene.again)
        state = scene.world.state()
        assert (scene.world.linked(), scene.world.loaded()) == (scene.expected,) * 2, died_at
        assert (state["release"], state["target"]) == (scene.expected, None), died_at


@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.faults)])
def test_killed_at_every_file_operation_and_then_the_old_release_is_wanted(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path, "update")
    killer = Killer(monkeypatch, scene.world.root)
    scene.act()
    for at in range(1, killer.count + 1, step):
        killer.at = None
        scene.reset()
        killer.count, killer.at = 0, at
        with pytest.raises(KilledError):
            scene.act()
        killer.at = None
        scene.world.install(scene.old)
        assert (scene.world.linked(), scene.world.loaded(), scene.world.state()["release"]) == ("v1",) * 3, at
    scene.world.close()


RUN = """
import sys, pathlib
sys.path[:0] = [sys.argv[1]]
from twinops import release
from twinops.edge import install
root, version, digest, *archive = sys.argv[2:]
settings = install.Settings("supervisord", start_timeout_s=5, probe_s=5, lock_wait_s=0)
wanted = install.Wanted("staging", version, digest)
install.install(pathlib.Path(root), wanted, settings, rollout_id="r1", archive=[pathlib.Path(part) for part in archive])
"""


@pytest.mark.fault("SIGKILL in a phase that lasts", "exactly old or new is linked; the next run finishes or undoes")
@pytest.mark.parametrize(
    "phase",
    [
        pytest.param("smoke-tested", marks=pytest.mark.faults),
        "switched",
        pytest.param("probing", marks=pytest.mark.faults),
    ],
)
def test_a_real_sigkill_at_a_phase(tmp_path: Path, phase: str) -> None:
    scene = Scene(tmp_path, "update")
    slow = {"smoke-tested": "python", "switched": "supervisorctl"}.get(phase)
    if slow:  # so that the phase lasts long enough to be hit
        program = scene.world.root / "venv/bin" / slow
        original = program.read_text()
        program.write_text(original.replace("#!/bin/sh\n", "#!/bin/sh\nsleep 3\n"))
    arguments = [str(scene.world.root), "v2", scene.new["release_digest"], *map(str, scene.archive or ())]
    process = subprocess.Popen([sys.executable, "-c", RUN, str(CLONE / "module_utils"), *arguments])
    try:
        give_up = time.monotonic() + 20
        while scene.world.state()["phase"] != phase:
            assert time.monotonic() < give_up, scene.world.state()
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert scene.world.linked() in ("v1", "v2")
    if slow:
        program.write_text(original)
    # A child that was forked at that moment holds the lock until it has become another program.
    scene.world.install(scene.new, replace(SETTINGS, lock_wait_s=10))
    assert (scene.world.linked(), scene.world.loaded(), scene.world.state()["phase"]) == ("v2", "v2", "committed")
    scene.world.close()


class Disk:
    """Notes what is synced and renamed below a device's folder, in that order, as a disk sees it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self.synced: set[tuple[int, int]] = set()
        self.renamed: list[str] = []
        self.mistakes: list[str] = []
        self._root, self._unsynced_folder = root, ""
        self._fsync, self._replace = os.fsync, os.replace
        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr(os, "replace", self.rename)
        monkeypatch.setattr(os, "rename", self.rename)

    def fsync(self, descriptor: int) -> None:
        self._fsync(descriptor)
        self.synced.add(inode(os.fstat(descriptor)))
        if self._unsynced_folder and inode(Path(self._unsynced_folder).stat()) == inode(os.fstat(descriptor)):
            self._unsynced_folder = ""

    def rename(self, source: Any, place: Any, *arguments: Any, **keywords: Any) -> None:
        source, place = Path(source), Path(place)
        below = place.relative_to(self._root)
        is_aside = len(below.parts) > 2 and below.parts[1].endswith(".new")  # a slot that is synced as a whole
        if below.parts[0] != "tuf" and not is_aside:  # python-tuf's; looked at when all is over
            self.settle(f"renaming {below}")
            if source == place:
                self.mistakes.append(f"{below}: was written in place")
            if not source.is_symlink():
                parts = [source, *source.rglob("*")]
                self.mistakes += [f"{below}: {part.name} was not synced" for part in parts if not self.has(part)]
            self.renamed.append(str(below))
            self._unsynced_folder = str(place.parent)
        self._replace(source, place, *arguments, **keywords)

    def settle(self, before: str) -> None:
        """The rename before must have reached the disk by now."""
        if self._unsynced_folder:
            self.mistakes.append(f"{self._unsynced_folder}: was not synced before {before}")
        self._unsynced_folder = ""

    def has(self, path: Path) -> bool:
        return inode(path.stat()) in self.synced


def inode(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


@pytest.mark.fault("power cut", "what is renamed into place was synced before, and the rename before the next step")
def test_what_is_renamed_into_place_was_synced_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut a name without its bytes is a mixture; the order of sync and rename is what prevents it."""
    scene = Scene(tmp_path, "update")
    disk = Disk(monkeypatch, scene.world.root)
    scene.act()
    scene.world.close()
    disk.settle("the end")
    assert set(disk.renamed) == {"state.json", "slots/b", "current"}
    assert disk.mistakes == []
    seen = [path for path in (scene.world.root / "tuf/metadata").rglob("*.json") if path.is_file()]
    assert len(seen) >= 5
    assert [path.name for path in seen if not disk.has(path)] == [], "what was seen must not be forgotten"
