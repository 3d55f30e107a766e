"""The transaction on a device: real folders, real signatures, a service that misbehaves on demand."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twinops.edge import durable, install
from twinops.edge.install import InstallError
from twinops.errors import TwinopsError

from tests.edge.release_world import SETTINGS, Publisher, World


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    return Publisher(tmp_path)


@pytest.fixture
def v1(publisher: Publisher) -> dict[str, Any]:
    return publisher.publish("v1")


@pytest.fixture
def world(tmp_path: Path, publisher: Publisher, v1: dict[str, Any]) -> Iterator[World]:
    world = World(tmp_path / "device", publisher)
    yield world
    world.close()


def runs(world: World) -> str | None:
    """The one release that runs: linked, loaded and committed agree."""
    state = world.state()
    assert state["target"] is None
    assert world.linked() == world.loaded() == state["release"]
    return state["release"]


def test_the_first_release(world: World, v1: dict[str, Any]) -> None:
    changed, state = world.install(v1)
    assert (changed, runs(world), state["previous"]) == (True, "v1", None)
    assert [entry["outcome"] for entry in state["history"]] == ["committed"]
    assert list((world.root / "incoming").iterdir()) == []


def test_a_second_run_changes_nothing_and_needs_no_files(world: World, v1: dict[str, Any]) -> None:
    world.install(v1)
    before = {path: path.stat().st_mtime_ns for path in world.root.rglob("*") if path.name != "edge_release.lock"}
    assert world.deliver(v1) is None
    assert install.install(world.root, world.wanted(v1), SETTINGS, rollout_id="r2", archive=None)[0] is False
    after = {path: path.stat().st_mtime_ns for path in world.root.rglob("*") if path.name != "edge_release.lock"}
    assert after == before


def test_an_update_goes_to_the_other_slot_and_keeps_the_way_back(world: World, v1: dict[str, Any]) -> None:
    world.install(v1)
    _, state = world.install(world.publisher.publish("v2"))
    assert (runs(world), state["slot"], state["previous"]["release"]) == ("v2", "b", "v1")


def test_only_what_changed_travels(world: World, v1: dict[str, Any]) -> None:
    world.install(v1)
    v2 = world.publisher.publish("v2")
    lacking = world.needs(v2)["lacking"]
    assert len(v2["files"]) == 5
    assert sorted(Path(v2["files"][digest]["path"]).name[:8] for digest in lacking) == sorted(
        digest[:8] for digest in set(v2["files"]) - set(v1["files"])
    )
    assert len(lacking) == 2  # the model and the config


def test_a_release_that_is_still_in_a_slot_travels_no_more(world: World, v1: dict[str, Any]) -> None:
    world.install(v1)
    world.install(world.publisher.publish("v2"))
    assert world.needs(v1)["lacking"] == []
    world.install(world.publisher.publish("v1"))
    assert runs(world) == "v1"


@pytest.mark.fault("bit flip at rest", "seen by digest; the file travels again")
@pytest.mark.parametrize("is_sound", [True, False], ids=["sound", "damaged"])
def test_what_an_interrupted_run_had_moved_to_the_slot_travels_no_more_if_it_is_sound(
    world: World, v1: dict[str, Any], is_sound: bool
) -> None:
    world.install(v1)
    v2 = world.publisher.publish("v2")
    model = next(file for file in v2["files"].values() if file["name"] == "model.onnx")
    content = (Path(v2["repository"]) / model["path"]).read_bytes()
    place = world.root / "slots/b.new/model.onnx"
    place.parent.mkdir(parents=True)
    place.write_bytes(content if is_sound else bytes([content[0] ^ 1]) + content[1:])
    assert len(world.needs(v2)["lacking"]) == (1 if is_sound else 2)
    world.install(v2)
    assert runs(world) == "v2"
    assert not place.exists()


def test_a_bit_flip_at_rest_is_seen_and_the_file_travels_again(world: World, v1: dict[str, Any]) -> None:
    world.install(v1)
    world.install(world.publisher.publish("v2"))
    model = world.root / "slots/a/model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"!")
    assert len(world.needs(v1)["lacking"]) == 1


@pytest.mark.fault("model that crashes, hangs or answers wrongly", "refused before the switch, by its golden records")
@pytest.mark.fault("service that fails, flaps, is silent or decides nothing", "rolled back by the probe")
@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ({"crash_in_smoke": True}, "smoke test: the model failed with exit code 3: boom"),
        ({"wrong_in_smoke": True}, "smoke test: 1 of 2 golden records got another label"),
        ({"hang_in_smoke": True}, "smoke test: the model gave no answer within 0.5 s"),
    ],
)
def test_a_bad_model_never_gets_to_the_switch(
    world: World, v1: dict[str, Any], behaviour: dict[str, Any], message: str
) -> None:
    world.install(v1)
    bad = world.publisher.publish("v2", **behaviour)
    with pytest.raises(InstallError, match=f"v2 was not installed: {message}.*v1 keeps running"):
        world.install(bad, replace(SETTINGS, smoke_timeout_s=0.5))
    assert runs(world) == "v1"
    last = world.state()["history"][-1]
    assert (last["release"], last["outcome"], last["rollout_id"]) == ("v2", "failed", "r1")


@pytest.mark.parametrize(
    ("health", "message"),
    [
        ("silent", "not ok within 0.6 s: no answer from its health endpoint"),
        ("failed", "the service failed: the model crashed"),
        ("flapping", "restarted during the probe"),
        ("stuck", "says ok but processed no record"),
    ],
)
def test_a_bad_service_is_rolled_back(world: World, v1: dict[str, Any], health: str, message: str) -> None:
    world.install(v1)
    bad = world.publisher.publish("v2", health=health)
    settings = replace(SETTINGS, probe_s=0.3, start_timeout_s=3 if health == "failed" else 0.6)
    with pytest.raises(InstallError, match=f"{message}.*v1 keeps running"):
        world.install(bad, settings)
    assert runs(world) == "v1"
    assert (world.state()["phase"], world.state()["history"][-1]["outcome"]) == ("rolled-back", "rolled_back")


def test_a_first_release_that_fails_leaves_nothing_running(world: World) -> None:
    with pytest.raises(InstallError, match="no release runs"):
        world.install(world.publisher.publish("v2", health="silent"))
    assert (world.linked(), world.loaded(), world.state()["release"]) == (None, None, None)
    world.install(world.publisher.publish("v3"))
    assert runs(world) == "v3"


def test_a_gate_takes_a_committed_release_back_without_any_delivery(world: World, v1: dict[str, Any]) -> None:
    world.install(v1)
    v2 = world.publisher.publish("v2")
    world.install(v2)
    changed, state = install.revert(world.root, v2["release_digest"], SETTINGS, rollout_id="r1", reason="no alarms")
    assert (changed, runs(world), state["phase"], state["previous"]) == (True, "v1", "rolled-back", None)
    last = state["history"][-1]
    assert (last["release"], last["outcome"], last["reason"]) == ("v2", "rolled_back", "no alarms")
    assert install.revert(world.root, v2["release_digest"], SETTINGS, rollout_id="r1", reason="no alarms")[0] is False


def test_a_damaged_earlier_release_is_not_returned_to(world: World, v1: dict[str, Any]) -> None:
    world.install(v1)
    v2 = world.publisher.publish("v2")
    world.install(v2)
    (world.root / "slots/a/process/main.py").write_text("evil")
    with pytest.raises(InstallError, match=r"slot a: process/main.py is missing or damaged; v2 keeps running"):
        install.revert(world.root, v2["release_digest"], SETTINGS, rollout_id="r1", reason="no alarms")
    assert runs(world) == "v2"


def test_without_an_earlier_release_nothing_is_taken_back(world: World, v1: dict[str, Any]) -> None:
    world.install(v1)
    with pytest.raises(InstallError, match="this device has no earlier release"):
        install.revert(world.root, v1["release_digest"], SETTINGS, rollout_id="r1", reason="no alarms")
    assert runs(world) == "v1"


def test_a_full_disk_is_named_and_the_old_release_serves(
    world: World, v1: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.install(v1)
    v2 = world.publisher.publish("v2")
    archive = world.deliver(v2)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(InstallError, match=r"the disk is full: expected .* free bytes .*, got 1000; v1 keeps running"):
        install.install(world.root, world.wanted(v2), SETTINGS, rollout_id="r1", archive=archive)
    assert runs(world) == "v1"


@pytest.mark.fault("bit flip in transit", "named; the next run installs")
def test_a_disk_that_spoils_what_is_staged_is_named(
    world: World, v1: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.install(v1)
    copy = shutil.copyfile

    def spoil(source: Path, place: Path, **keywords: Any) -> None:
        copy(source, place, **keywords)
        if "slots" in place.parts:
            place.write_bytes(b"!" + place.read_bytes()[1:])

    monkeypatch.setattr(shutil, "copyfile", spoil)
    with pytest.raises(InstallError, match=r"not the signed bytes once in slot b; is the disk.*v1 keeps running"):
        world.install(world.publisher.publish("v2"))
    assert runs(world) == "v1"


def test_a_damaged_archive_is_named(world: World, v1: dict[str, Any]) -> None:
    archive = world.deliver(v1)
    assert archive
    archive[0].write_bytes(archive[0].read_bytes()[:-200])
    with pytest.raises(InstallError, match=r"damaged on the way .*push it again"):
        install.install(world.root, world.wanted(v1), SETTINGS, rollout_id="r1", archive=archive)
    world.install(v1)
    assert runs(world) == "v1"


@pytest.mark.fault("bit flip in state.json", "made anew from what the running slot proves")
def test_state_json_with_a_bit_flip_is_made_anew_from_the_running_slot(world: World, v1: dict[str, Any]) -> None:
    world.install(v1)
    (world.root / "state.json").write_bytes(b'{"phase": "comm\x00')
    v2 = world.publisher.publish("v2")
    _, state = world.install(v2)
    assert (runs(world), state["previous"]["release"]) == ("v2", "v1")


@pytest.mark.fault("two controllers at once", "the second waits, then says why")
def test_two_controllers_at_once_the_second_waits_and_then_says_why(world: World, v1: dict[str, Any]) -> None:
    with durable.device_lock(world.root / install.LOCK, 0), pytest.raises(TwinopsError, match=r"another install"):
        world.install(v1)
    is_held = threading.Event()

    def hold() -> None:
        with durable.device_lock(world.root / install.LOCK, 0):
            is_held.set()
            time.sleep(0.5)

    holder = threading.Thread(target=hold)
    holder.start()
    assert is_held.wait(5)
    world.install(v1, replace(SETTINGS, lock_wait_s=10))
    holder.join()
    assert runs(world) == "v1"


def test_a_device_that_was_never_enrolled_is_told_so(world: World, v1: dict[str, Any]) -> None:
    archive = world.deliver(v1)
    (world.root / "device.json").unlink()
    with pytest.raises(TwinopsError, match=r"device.json: expected the settings of an enrolled device, found none"):
        install.install(world.root, world.wanted(v1), SETTINGS, rollout_id="r1", archive=archive)


def test_a_service_manager_that_does_not_answer_is_named_and_what_ran_is_linked(
    world: World, v1: dict[str, Any]
) -> None:
    world.install(v1)
    world.supervisord.close()
    with pytest.raises(TwinopsError, match=r"run/sv.sock: .*; expected supervisord to answer"):
        world.install(world.publisher.publish("v2"))
    assert world.linked() == "v1"


def test_a_service_that_does_not_stay_up_is_rolled_back_with_what_its_manager_says(
    world: World, v1: dict[str, Any]
) -> None:
    world.install(v1)
    control = world.root / "venv/bin/supervisorctl"
    fails = 'if test $1 = restart && grep -q v2 "$root/current/manifest.json"; then echo ABNORMAL; exit 40; fi\ncase'
    control.write_text(control.read_text().replace("case", fails, 1))
    with pytest.raises(InstallError, match=r"supervisord: startProcess twinops-inference: ABNORMAL; v1 keeps running"):
        world.install(world.publisher.publish("v2"))
    assert (runs(world), world.state()["phase"]) == ("v1", "rolled-back")


SUPERVISORD_STARTS_IT = """
if test $1 = stop && ! test -e "$root/raced"; then echo NOT_RUNNING; exit 70; fi
if test $1 = restart && ! test -e "$root/raced"; then touch "$root/raced"; echo ALREADY_STARTED; exit 60; fi
case"""
RUNS_ALREADY = """
if test $1 = restart && grep -q v2 "$root/current/manifest.json"; then echo ALREADY_STARTED; exit 60; fi
case"""


def test_a_service_that_had_exited_and_is_started_by_its_manager_meanwhile_is_restarted(
    world: World, v1: dict[str, Any]
) -> None:
    world.install(v1)
    control = world.root / "venv/bin/supervisorctl"
    control.write_text(control.read_text().replace("case", SUPERVISORD_STARTS_IT, 1))
    world.install(world.publisher.publish("v2"))
    assert ((world.root / "raced").exists(), runs(world)) == (True, "v2")


def test_a_service_that_cannot_be_stopped_is_not_waited_for_forever(world: World, v1: dict[str, Any]) -> None:
    world.install(v1)
    control = world.root / "venv/bin/supervisorctl"
    control.write_text(control.read_text().replace("case", RUNS_ALREADY, 1))
    with pytest.raises(InstallError, match=r"startProcess twinops-inference: ALREADY_STARTED; v1 keeps running"):
        world.install(world.publisher.publish("v2"))
    assert runs(world) == "v1"


def test_what_would_be_done_touches_nothing(world: World, v1: dict[str, Any]) -> None:
    before = sorted(str(path) for path in world.root.rglob("*"))
    assert install.look(world.root, world.wanted(v1), SETTINGS)["action"] == "install"
    assert len(world.needs(v1)["lacking"]) == 5
    assert sorted(str(path) for path in world.root.rglob("*")) == before


def test_the_device_remembers_which_metadata_it_has_seen(world: World, v1: dict[str, Any]) -> None:
    world.install(v1)
    seen = json.loads((world.root / "tuf/metadata/timestamp.json").read_bytes())["signed"]["version"]
    assert seen == world.publisher.repository.versions()["timestamp"]
