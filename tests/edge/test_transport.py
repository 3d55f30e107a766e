"""What travels to a device, and what becomes of it: deltas, whole files, parts, and maintenance windows."""

from __future__ import annotations

import random
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twinops import release
from twinops.edge import delta, install
from twinops.edge.service import Service
from twinops.publishing import delivery

from tests.edge.release_world import SETTINGS, Publisher, World
from tests.edge.test_delta import in_one_place, scattered, weights, whole_file_encodings

OLD = weights().tobytes()
SMALL = random.Random(1).randbytes(2 * release.LARGE_BYTES)  # noqa: S311
CHANGED = SMALL[:-4] + b"new!"
CLOSED = "Mon 00:00-00:01;Mon 00:02-00:03"  # but for two minutes of the week


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    return Publisher(tmp_path)


@pytest.fixture
def world(tmp_path: Path, publisher: Publisher) -> Iterator[World]:
    """A device that runs v1 with a model that is large enough for a delta."""
    first = publisher.publish("v1", SMALL)
    world = World(tmp_path / "device", publisher)
    world.install(first)
    yield world
    world.close()


def members(parts: list[Path] | None) -> list[str]:
    """What is in a pushed archive."""
    assert parts
    whole = parts[0].with_name("whole")
    whole.write_bytes(b"".join(part.read_bytes() for part in parts))
    with tarfile.open(whole) as archive:
        names = archive.getnames()
    whole.unlink()
    return names


def size_of(parts: list[Path] | None) -> int:
    return sum(part.stat().st_size for part in parts or ())


def apply(world: World, wanted: dict[str, Any], parts: list[Path] | None, **settings: Any) -> dict[str, Any]:
    arguments = (world.root, world.wanted(wanted), replace(SETTINGS, **settings))
    return install.install(*arguments, rollout_id="r1", archive=parts)[1]


@pytest.mark.parametrize("change", [in_one_place, scattered])
def test_bytes_on_the_wire(tmp_path: Path, publisher: Publisher, change: Any) -> None:
    """Everything that is pushed, metadata included, is at most 1.1 times the smaller encoding of the model alone."""
    first, new = publisher.publish("v1", OLD), change()
    world = World(tmp_path / "device", publisher)
    world.install(first)
    v2 = publisher.publish("v2", new)
    parts = world.deliver(v2)
    assert size_of(parts) <= 1.1 * min(whole_file_encodings(OLD, new))
    assert apply(world, v2, parts)["release"] == world.linked() == "v2"
    assert (world.root / "current/model.onnx").read_bytes() == new
    world.close()


def test_a_changed_large_file_travels_as_a_delta_and_nothing_is_left_behind(world: World) -> None:
    v2 = world.publisher.publish("v2", CHANGED)
    parts = world.deliver(v2)
    assert [name for name in members(parts) if name.startswith("deltas/")] == [
        release.delta_path(release.sha256(SMALL), release.sha256(CHANGED))
    ]
    assert size_of(parts) < 20_000
    apply(world, v2, parts)
    assert world.linked() == "v2"
    assert list((world.root / "incoming").iterdir()) == []


def test_a_delta_starts_from_either_slot(world: World) -> None:
    """The old model need not be what runs."""
    world.install(world.publisher.publish("v2", b"small"))
    v3 = world.publisher.publish("v3", CHANGED)
    parts = world.deliver(v3)
    assert any(name.startswith("deltas/") for name in members(parts))
    apply(world, v3, parts)
    assert world.linked() == "v3"


def needs_whole_files(world: World, wanted: dict[str, Any], parts: list[Path] | None, why: str) -> None:
    """The push says so, nothing happened, nothing is in the history, and the next one brings the file."""
    before = world.state()
    with pytest.raises(install.WholeFilesNeededError, match=why):
        apply(world, wanted, parts)
    after = world.state()
    assert {**after, "rollout_id": None, "reason": None} == {**before, "rollout_id": None, "reason": None}
    assert world.linked() == world.loaded() == "v1"
    again = world.deliver(wanted, may_use_deltas=False)
    assert size_of(again) > release.LARGE_BYTES
    apply(world, wanted, again)
    assert world.linked() == "v2"


@pytest.mark.fault("delta changed on its way", "seen by digest; the whole file travels")
def test_a_delta_that_was_changed_on_its_way(world: World) -> None:
    v2 = world.publisher.publish("v2", CHANGED)
    path = world.publisher.folder / release.delta_path(release.sha256(SMALL), release.sha256(CHANGED))
    world.deliver(v2)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    parts = [
        Path(world.root / "incoming" / part.name)
        for part in delivery.pack(world.publisher.folder, [*v2["metadata"], *v2_files(v2, path)], 1 << 20)
    ]
    for part in parts:
        part.write_bytes((world.publisher.folder / "push" / part.name).read_bytes())
    needs_whole_files(world, v2, parts, "damaged|gave other bytes than the signed ones")


def v2_files(wanted: dict[str, Any], patch: Path) -> list[str]:
    small = [file["path"] for file in wanted["files"].values() if file["size_bytes"] < release.LARGE_BYTES]
    return [*small, f"deltas/{patch.name}"]


def test_a_delta_from_a_file_that_is_damaged_on_the_device(world: World) -> None:
    v2 = world.publisher.publish("v2", CHANGED)
    parts = world.deliver(v2)
    model = world.root / "slots/a/model.onnx"
    original = model.read_bytes()
    model.write_bytes(b"!" + original[1:])
    with pytest.raises(install.WholeFilesNeededError, match="other bytes than the signed ones"):
        apply(world, v2, parts)
    apply(world, v2, world.deliver(v2, may_use_deltas=False))
    assert world.linked() == "v2"


def test_a_delta_whose_start_is_gone(world: World) -> None:
    v2 = world.publisher.publish("v2", CHANGED)
    parts = world.deliver(v2)
    manifest = world.root / "slots/a/manifest.json"
    content = manifest.read_bytes()
    manifest.write_bytes(content.replace(release.sha256(SMALL).encode(), b"0" * 64))
    with pytest.raises(install.WholeFilesNeededError, match=r"expected the file .* in a slot, found none"):
        apply(world, v2, parts)
    manifest.write_bytes(content)
    apply(world, v2, world.deliver(v2, may_use_deltas=False))
    assert world.linked() == "v2"


def test_a_device_too_small_or_without_zstd_is_sent_the_whole_file(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    v2 = world.publisher.publish("v2", CHANGED)
    monkeypatch.setattr(delta, "available_memory_bytes", lambda: delta.MEMORY_BYTES)
    assert world.needs(v2)["bases"] == {}
    parts = world.deliver(v2)
    assert not any(name.startswith("deltas/") for name in members(parts))
    apply(world, v2, parts)
    assert world.linked() == "v2"


def test_a_controller_without_the_old_file_sends_the_whole_one(world: World) -> None:
    v2 = world.publisher.publish("v2", CHANGED)
    old = release.stored_path(release.file_target("staging", release.sha256(SMALL)), release.sha256(SMALL))
    (world.publisher.folder / "targets" / old).unlink()
    parts = world.deliver(v2)
    assert not any(name.startswith("deltas/") for name in members(parts))


def test_a_delta_that_is_not_smaller_is_not_sent_and_not_made_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    v2 = world.publisher.publish("v2", random.Random(2).randbytes(release.LARGE_BYTES))  # noqa: S311
    assert not any(name.startswith("deltas/") for name in members(world.deliver(v2)))
    monkeypatch.setattr(delta, "make", lambda *_: pytest.fail("made again"))
    assert not any(name.startswith("deltas/") for name in members(world.deliver(v2)))


def test_many_workers_at_once_make_a_delta_and_an_archive_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    v2 = world.publisher.publish("v2", CHANGED)
    makes, packs, make, write = [], [], delta.make, delivery._write_archive
    monkeypatch.setattr(delta, "make", lambda *paths: (makes.append(1), make(*paths))[1])
    monkeypatch.setattr(delivery, "_write_archive", lambda *arguments: (packs.append(1), write(*arguments))[1])
    bases, found, start = world.needs(v2)["bases"], set(), threading.Barrier(8)

    def work() -> None:
        start.wait(10)
        deltas = delivery.choose_deltas(world.publisher.folder, v2, bases)
        parts = delivery.pack(world.publisher.folder, delivery.paths(v2, sorted(bases), deltas))
        found.add(tuple((part.name, part.read_bytes()) for part in parts))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(makes), len(packs), len(found)) == (1, 1, 1)


@pytest.mark.fault("connection cut in mid-transfer", "the next run sends the parts that are missing")
def test_an_interrupted_push_goes_on_with_the_parts_that_are_missing(world: World) -> None:
    v2 = world.publisher.publish("v2", random.Random(3).randbytes(3 << 20))  # noqa: S311
    found = world.needs(v2)
    repository, incoming = world.publisher.folder, world.root / "incoming"
    parts = delivery.pack(repository, delivery.paths(v2, found["lacking"], {}), delivery.part_bytes(50))
    assert len(parts) > 5
    for part in parts[:3]:
        (incoming / part.name).write_bytes(part.read_bytes())
    (incoming / parts[3].name).write_bytes(parts[3].read_bytes()[:1000])  # torn
    assert world.needs(v2)["received"] == sorted(part.name for part in parts[:3])
    for part in parts[3:]:
        (incoming / part.name).write_bytes(part.read_bytes())
    apply(world, v2, [incoming / part.name for part in parts])
    assert world.linked() == "v2"


def test_parts_fit_the_link() -> None:
    assert delivery.part_bytes(0) == delivery.PART_BYTES
    assert delivery.part_bytes(1) == delivery.SMALLEST_PART_BYTES
    assert delivery.part_bytes(1000) == 1000 * 1024 * delivery.PART_S
    assert delivery.part_bytes(1e6) == delivery.PART_BYTES


def test_outside_its_window_a_device_waits_and_inside_it_installs(world: World) -> None:
    v2 = world.publisher.publish("v2", CHANGED)
    closed = replace(SETTINGS, maintenance_window=CLOSED)
    assert install.look(world.root, world.wanted(v2), closed)["action"] == "wait"
    state = apply(world, v2, None, maintenance_window=CLOSED)
    assert state["waiting"] == {"release": "v2", "release_digest": v2["release_digest"], "window": CLOSED}
    assert (state["phase"], state["history"][-1]["release"], world.linked()) == ("committed", "v1", "v1")
    parts = world.deliver(v2)
    state = apply(world, v2, parts, maintenance_window="00:00-12:00;12:00-00:00")
    assert (state["waiting"], world.linked()) == (None, "v2")


def test_what_was_interrupted_after_the_switch_is_finished_outside_the_window(world: World) -> None:
    v2 = world.publisher.publish("v2", CHANGED)
    transaction_killed_while_probing(world, v2)
    assert (
        install.look(world.root, world.wanted(v2), replace(SETTINGS, maintenance_window=CLOSED))["action"] == "finish"
    )
    assert apply(world, v2, None, maintenance_window=CLOSED)["release"] == world.linked() == "v2"


def test_what_was_interrupted_before_the_switch_waits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    v2 = world.publisher.publish("v2", CHANGED)
    parts = world.deliver(v2)
    with monkeypatch.context() as patch:
        patch.setattr(install.smoke, "smoke_test", killed)
        with pytest.raises(KeyboardInterrupt):
            apply(world, v2, parts)
    assert world.state()["phase"] == "smoke-tested"
    state = apply(world, v2, None, maintenance_window=CLOSED)
    assert (state["phase"], state["target"], state["waiting"]["release"], world.linked()) == (
        "committed", None, "v2", "v1",
    )  # fmt: skip


def killed(*_: Any) -> None:
    raise KeyboardInterrupt


def transaction_killed_while_probing(world: World, wanted: dict[str, Any]) -> None:
    parts = world.deliver(wanted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Service, "probe", killed)
        with pytest.raises(KeyboardInterrupt):
            apply(world, wanted, parts)
    assert world.state()["phase"] == "probing"


def test_a_release_is_taken_back_outside_the_window(world: World) -> None:
    v2 = world.publisher.publish("v2", CHANGED)
    world.install(v2)
    closed = replace(SETTINGS, maintenance_window=CLOSED)
    install.revert(world.root, v2["release_digest"], closed, rollout_id="r1", reason="no alarms")
    assert world.linked() == "v1"
