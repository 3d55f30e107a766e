"""What goes from a twin's volume, and what never does. Real files, real git, real processes that are killed."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from toolbox.runner import housekeeping
from toolbox.runner.housekeeping import DAY_S, FRESH_S, collect, environment_of, fullness, in_use, is_due

from tests.unit.endpoint import CLONE

GIT = ["git", "-c", "user.name=test", "-c", "user.email=test@example.com"]
FILES = 20


class Volume:
    """The folder of a twin."""

    def __init__(self, home: Path) -> None:
        self.home = home
        for name in ("envs", "code", "runs", "lock"):
            (home / name).mkdir(parents=True)

    def add(self, folder: str, *, age_s: float) -> Path:
        """A folder of some files that was used so long ago."""
        made = self.home / folder
        made.mkdir(exist_ok=True)
        for number in range(FILES):
            (made / f"file-{number}").write_bytes(b"x" * 100)
        used_at = time.time() - age_s
        os.utime(made, (used_at, used_at))
        return made

    def commit(self, sha: str, *, day: int, age_s: float, **locks: str) -> Path:
        """A checkout with a commit of that day, and lock files."""
        checkout = self.home / "code" / sha
        for name, text in {"requirements": "", **locks}.items():
            lock = checkout / "workflows" / f"{name.replace('__', '/')}.txt"
            lock.parent.mkdir(parents=True, exist_ok=True)
            lock.write_text(text)
        dates = {f"GIT_{who}_DATE": f"2026-11-{day:02}T00:00:00Z" for who in ("AUTHOR", "COMMITTER")}
        for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
            subprocess.run([*GIT, "-C", checkout, *command], check=True, env={**os.environ, **dates})
        return self.add(f"code/{sha}", age_s=age_s)

    def names(self, folder: str = "runs") -> set[str]:
        return {path.name for path in (self.home / folder).iterdir()}

    def files(self, _home: Path) -> float:
        """How full this volume is, where 200 files are all that it takes."""
        return len([path for path in self.home.glob("*/*/file-*") if ".gone" not in path.parts[-2]]) / 200


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path / "twinops")


def roomy(_home: Path) -> float:
    return 0


def packed(_home: Path) -> float:
    return 1


def test_what_nobody_has_used_for_a_month_goes(volume: Volume) -> None:
    for kind, name in (("envs", "a" * 16), ("code", "a" * 40), ("runs", "a" * 24)):
        volume.add(f"{kind}/{name}", age_s=31 * DAY_S)
        volume.add(f"{kind}/{name.replace('a', 'b')}", age_s=29 * DAY_S)
        volume.add(f"{kind}/{name.replace('a', 'x')}", age_s=31 * DAY_S)  # not a name of ours
    volume.commit("c" * 40, day=1, age_s=31 * DAY_S)
    assert sorted(collect(volume.home, measure=roomy)) == [f"code/{'a' * 40}", f"envs/{'a' * 16}", f"runs/{'a' * 24}"]
    assert volume.names("envs") == {"b" * 16, "x" * 16}
    assert volume.names("code") == {"b" * 40, "x" * 40, "c" * 40}
    assert volume.names("runs") == {"b" * 24, "x" * 24}
    assert not list((volume.home / "lock").glob("use-*"))


def test_a_full_volume_loses_the_oldest_until_it_is_enough(volume: Volume) -> None:
    for day in range(1, 10):
        volume.add(f"runs/{day}", age_s=day * DAY_S)
    assert volume.files(volume.home) == pytest.approx(0.9)
    assert collect(volume.home, measure=volume.files, nearly_full=0.65) == ["runs/9", "runs/8", "runs/7"]
    assert volume.files(volume.home) == pytest.approx(0.6)


def test_what_was_used_within_the_hour_stays_however_full_it_is(volume: Volume) -> None:
    volume.add("runs/1", age_s=FRESH_S - 60)
    volume.add("runs/2", age_s=FRESH_S + 60)
    assert collect(volume.home, measure=packed) == ["runs/2"]


def test_the_newest_commit_and_the_last_fetched_stay_with_their_environments(volume: Volume) -> None:
    age_s = 90 * DAY_S
    old = volume.commit("1" * 40, day=1, age_s=age_s, requirements="old", runner="runner")
    fetched_last = volume.commit("2" * 40, day=2, age_s=age_s, requirements="again", runner="runner")
    newest = volume.commit("3" * 40, day=3, age_s=age_s, requirements="new", runner="runner", wf__packages="own")
    (volume.home / "code/latest").symlink_to(fetched_last.name)
    kept = [newest / "workflows" / f"{name}.txt" for name in ("requirements", "runner", "wf/packages")]
    kept.append(fetched_last / "workflows/requirements.txt")
    for lock in [*kept, old / "workflows/requirements.txt"]:
        volume.add(f"envs/{environment_of(volume.home, lock).name}", age_s=age_s)
    collect(volume.home, measure=packed, fresh_s=0)
    assert volume.names("code") == {newest.name, fetched_last.name, "latest"}
    assert volume.names("envs") == {environment_of(volume.home, lock).name for lock in kept}


USER = """
import sys
from pathlib import Path
from toolbox.runner.housekeeping import in_use
with in_use(Path(sys.argv[1])):
    print("in use", flush=True)
    sys.stdin.read()
"""


@contextmanager
def user_of(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that uses a folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", USER, folder], env={"PYTHONPATH": str(CLONE / "workflows")},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout and process.stdout.readline() == "in use\n"
        yield process
    finally:
        process.kill()
        process.communicate(timeout=20)


@pytest.mark.parametrize("folder", ["runs/abc", f"envs/{'a' * 16}", f"code/{'a' * 40}"])
def test_what_a_process_uses_stays_until_it_is_killed(volume: Volume, folder: str) -> None:
    made = volume.add(folder, age_s=90 * DAY_S)
    volume.commit("c" * 40, day=1, age_s=0)
    with user_of(made):
        os.utime(made, (1, 1))
        assert collect(volume.home, measure=packed, fresh_s=0) == []
        assert len(list(made.iterdir())) == FILES
    assert collect(volume.home, measure=packed, fresh_s=0) == [folder]


def test_using_a_folder_makes_it_fresh(volume: Volume) -> None:
    made = volume.add("runs/abc", age_s=90 * DAY_S)
    with in_use(made):
        pass
    assert collect(volume.home, measure=packed) == []


def test_what_was_used_after_it_was_looked_at_stays(volume: Volume) -> None:
    made = volume.add("runs/abc", age_s=DAY_S)

    def use_meanwhile(_home: Path) -> float:
        os.utime(made)
        return 1

    assert collect(volume.home, measure=use_meanwhile) == []
    assert made.exists()


def test_a_volume_without_room_for_a_lock_keeps_nobody_from_using_it(
    volume: Volume, capsys: pytest.CaptureFixture[str]
) -> None:
    made = volume.add("runs/abc", age_s=DAY_S)
    shutil.rmtree(volume.home / "lock")
    (volume.home / "lock").write_text("no folder")
    with in_use(made):
        assert time.time() - made.stat().st_mtime < FRESH_S
    assert "no lock" in capsys.readouterr().out


def test_leftovers_of_the_killed_go(volume: Volume) -> None:
    volume.add(f"envs/{'a' * 16}.part", age_s=0)
    volume.add(f"envs/{'b' * 16}.0123.gone", age_s=0)
    volume.add("code/.part", age_s=0)
    volume.add("code/.part.0123.gone", age_s=0)
    for name in (f"envs/{'c' * 16}.lock", f"lock/use-{'c' * 16}"):
        (volume.home / name).touch()
    assert collect(volume.home, measure=roomy) == []
    assert volume.names("envs") == volume.names("code") == set()
    assert volume.names("lock") == {"housekeeping", "checkout"}


def test_what_is_being_made_stays(volume: Volume) -> None:
    part = volume.add(f"envs/{'a' * 16}.part", age_s=0)
    with (volume.home / "envs" / f"{'a' * 16}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as bin/environment does
        collect(volume.home, measure=packed, fresh_s=0)
        assert len(list(part.iterdir())) == FILES
        assert Path(lock.name).exists()
    collect(volume.home, measure=packed, fresh_s=0)
    assert not part.exists()


def test_what_cannot_be_deleted_is_said_and_tried_again(
    volume: Volume, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    volume.add("runs/abc", age_s=90 * DAY_S)

    def refuse(_folder: Path) -> None:
        raise PermissionError("not yours")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", refuse)
        collect(volume.home, measure=roomy)
    assert "not yours" in capsys.readouterr().err
    assert len(volume.names()) == 1
    collect(volume.home, measure=roomy)
    assert volume.names() == set()


def test_collectors_take_turns(volume: Volume) -> None:
    volume.add("runs/abc", age_s=90 * DAY_S)
    with (volume.home / "lock/housekeeping").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert collect(volume.home, measure=roomy) == []
    assert collect(volume.home, measure=roomy) == ["runs/abc"]


def test_it_is_due_once_a_day_and_while_the_volume_is_nearly_full(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "fullness", roomy)
    assert is_due(volume.home)
    collect(volume.home)
    assert not is_due(volume.home)
    yesterday = time.time() - DAY_S - 1
    os.utime(volume.home / "lock/housekeeping", (yesterday, yesterday))
    assert is_due(volume.home)
    collect(volume.home)
    monkeypatch.setattr(housekeeping, "fullness", packed)
    assert is_due(volume.home)


def test_fullness_is_what_df_says(tmp_path: Path) -> None:
    answer = subprocess.run(["df", "--output=pcent", tmp_path], capture_output=True, text=True, check=True).stdout
    assert fullness(tmp_path) * 100 == pytest.approx(int(answer.split()[-1].rstrip("%")), abs=1.5)


def whole_runs(volume: Volume) -> list[Path]:
    """What has the name of a run's folder."""
    return [folder for folder in (volume.home / "runs").iterdir() if not folder.name.endswith(".gone")]


def test_a_collector_that_is_killed_anywhere_leaves_nothing_half(volume: Volume) -> None:
    """Whatever has the name of a folder is whole; the rest is gone with the next collector."""
    chance = random.Random(7)  # noqa: S311  (to be repeated, not secret)
    command = [sys.executable, "-m", "toolbox.runner.housekeeping", "--unused-days", "1"]
    environment = {"PYTHONPATH": str(CLONE / "workflows"), "TWINOPS_HOME": str(volume.home), "PATH": os.environ["PATH"]}
    killed_midway = 0
    for _ in range(12):
        for number in range(60):
            volume.add(f"runs/{number:x}", age_s=2 * DAY_S)
        collector = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        left = chance.randrange(5, 60)
        while collector.poll() is None and len(whole_runs(volume)) > left:
            pass
        collector.kill()
        collector.wait(20)
        for folder in whole_runs(volume):
            assert len(list(folder.iterdir())) == FILES
        killed_midway += 0 < len(whole_runs(volume)) < 60
    assert killed_midway, "the kills came too early or too late to say anything"
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, timeout=60)
    assert volume.names() == set()
    assert volume.names("lock") == {"housekeeping"}
