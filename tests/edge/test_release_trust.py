"""What a device believes: attacks on the release metadata that must fail, each leaving the old release running."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twinops import release
from twinops.edge import install, verify
from twinops.edge.install import InstallError
from twinops.errors import TwinopsError

from tests.edge.release_world import ENV, SETTINGS, Publisher, World, expired


def push(world: World, wanted: dict[str, Any]) -> Callable[[], None]:
    """Put everything a device needs into ``incoming/``, as an attacker on the way could; returns the install."""
    for path in [*wanted["metadata"], *(file["path"] for file in wanted["files"].values())]:
        place = world.root / "incoming" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(wanted["repository"]) / path, place)
    return lambda: install.install(world.root, world.wanted(wanted), SETTINGS, rollout_id="r1", archive=None)  # type: ignore[return-value]


def refused(world: World, action: Callable[[], None], message: str) -> None:
    with pytest.raises(InstallError, match=f"v2 was not installed: .*{message}.*; v1 keeps running"):
        action()
    assert world.linked() == world.loaded() == world.state()["release"] == "v1"


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_bytes())
    change(content)
    path.write_text(json.dumps(content))


def incoming(world: World, suffix: str) -> Path:
    (path,) = [path for path in (world.root / "incoming").rglob("*") if path.name.endswith(suffix)]
    return path


def test_what_is_signed_is_installed(world: World) -> None:
    push(world, world.publisher.publish("v2"))()
    assert world.linked() == "v2"


@pytest.mark.fault("attack: tampered bytes", "refused by digest; what runs keeps running")
def test_tampered_bytes(world: World) -> None:
    v2 = world.publisher.publish("v2")
    install_it = push(world, v2)
    model = next(file for file in world.publisher.manifests[v2["release_digest"]].files if file.path == "model.onnx")
    path = incoming(world, f"{model.sha256}.{model.sha256}")
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    refused(world, install_it, "the delivered bytes are not the signed ones")


def test_a_tampered_manifest(world: World) -> None:
    install_it = push(world, world.publisher.publish("v2"))
    rewrite(incoming(world, ".manifest.json"), lambda content: content.update(git_sha="f" * 40))
    refused(world, install_it, "the delivered bytes are not the signed ones")


@pytest.mark.fault("attack: arbitrary file", "refused: only the signed manifest counts")
def test_an_arbitrary_file_that_nobody_signed(world: World) -> None:
    v2 = world.publisher.publish("v2")
    v2["release_digest"] = "0" * 64
    install_it = push(world, v2)
    refused(world, install_it, "expected the manifest 000000000000, the signed one is")


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", ENV])
def test_metadata_without_a_signature(world: World, role: str) -> None:
    world.publisher.repository.changed.add("targets")  # so that all roles are new to the device
    install_it = push(world, world.publisher.publish("v2"))
    rewrite(incoming(world, f"{role}.json"), lambda content: content.update(signatures=[]))
    refused(world, install_it, "signed by 0/1 keys")


@pytest.mark.parametrize("role", ["timestamp", "snapshot", ENV])
def test_metadata_changed_after_it_was_signed(world: World, role: str) -> None:
    install_it = push(world, world.publisher.publish("v2"))
    rewrite(incoming(world, f"{role}.json"), lambda content: content["signed"].update(version=99))
    refused(world, install_it, "signed by 0/1 keys")


@pytest.mark.parametrize("garbage", [b"", b"\x00" * 100, b"{}", b"[1]"])
def test_garbage_instead_of_metadata(world: World, garbage: bytes) -> None:
    install_it = push(world, world.publisher.publish("v2"))
    incoming(world, "timestamp.json").write_bytes(garbage)
    refused(world, install_it, "expected intact metadata")


@pytest.mark.fault("attack: endless data", "more bytes than were signed are refused, in metadata and in files")
def test_endless_data(world: World) -> None:
    install_it = push(world, world.publisher.publish("v2"))
    incoming(world, "timestamp.json").write_bytes(b" " * (1 << 20))
    refused(world, install_it, "exceeding the maximum allowed length")


@pytest.mark.fault("attack: rollback", "refused: the device has seen newer metadata")
def test_an_old_repository_replayed(world: World, tmp_path: Path) -> None:
    old = world.publisher.publish("v2")
    shutil.copytree(world.publisher.folder, tmp_path / "old")
    world.install(world.publisher.publish("v3"))
    world.install(world.publisher.publish("v1"))
    refused(world, push(world, {**old, "repository": str(tmp_path / "old")}), "has seen newer metadata and refuses")


@pytest.mark.fault("attack: mix-and-match", "refused: the snapshot names one state")
def test_pieces_of_two_states_mixed(world: World, tmp_path: Path) -> None:
    old = world.publisher.publish("v2")
    shutil.copytree(world.publisher.folder, tmp_path / "old")
    world.publisher.publish("v3")
    install_it = push(world, {**old, "repository": str(tmp_path / "old")})
    shutil.copy(world.publisher.folder / "metadata/timestamp.json", incoming(world, "timestamp.json"))
    refused(world, install_it, "snapshot.json was not delivered")


@pytest.mark.fault("expired metadata", "refused for a new install; what runs keeps running")
def test_expired_metadata_is_named_with_the_device_s_clock(world: World) -> None:
    world.publisher.repository.now = expired()
    refused(world, push(world, world.publisher.publish("v2")), "timestamp.json is expired; this device's clock says")


def test_another_repository_with_the_same_names(world: World, tmp_path: Path) -> None:
    attacker = Publisher(tmp_path / "attacker")
    refused(world, push(world, attacker.publish("v2")), "expected enough signatures")


@pytest.mark.fault("attack: wrong environment", "refused: not signed for this environment")
def test_a_release_of_another_environment(world: World) -> None:
    install_it = push(world, world.publisher.publish("v2"))
    del install_it
    with pytest.raises(TwinopsError, match=r"production/v2/manifest.json: is not signed for production"):
        verify.Verifier(world.root / "tuf", world.root / "incoming", "production").manifest("v2", "0" * 64)


@pytest.mark.fault("attack: wrong environment", "refused: not signed for this environment")
def test_the_key_of_an_environment_signs_only_below_its_name(world: World) -> None:
    """Staging's key is trusted for ``staging/*``: what it signs elsewhere is not found."""
    world.publisher.repository.put({release.manifest_target("production", "v2"): b"{}"})
    push(world, world.publisher.publish("v2"))
    with pytest.raises(TwinopsError, match="is not signed for production"):
        verify.Verifier(world.root / "tuf", world.root / "incoming", "production").manifest("v2", "0" * 64)


@pytest.mark.fault("attack: single-signed production", "refused: signed by 1/2 keys")
def test_production_with_one_signature(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path, threshold=2)
    first = publisher.publish("v1")
    world = World(tmp_path / "device", publisher)
    world.install(first)
    install_it = push(world, publisher.publish("v2"))
    path = incoming(world, f".{ENV}.json")
    assert len(json.loads(path.read_bytes())["signatures"]) == 2
    rewrite(path, lambda content: content["signatures"].pop())
    refused(world, install_it, "signed by 1/2 keys")
    world.close()


def test_a_root_nobody_vouched_for_does_not_replace_the_pinned_one(world: World, tmp_path: Path) -> None:
    attacker = Publisher(tmp_path / "attacker")
    attacker.publish("v1")
    attacker.repository.changed.add("root")
    v2 = attacker.publish("v2")
    install_it = push(world, v2)
    assert incoming(world, "2.root.json").exists()
    refused(world, install_it, "expected enough signatures|expected intact metadata")


def test_a_lost_pinned_root_is_named(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    first = publisher.publish("v1")
    world = World(tmp_path / "device", publisher)
    (world.root / "tuf/metadata/root.json").unlink()
    with pytest.raises(InstallError, match="expected the root of trust, found none; enrol the device"):
        push(world, first)()
    world.close()


def test_a_torn_root_of_python_tuf_does_not_lock_the_device_out(world: World) -> None:
    """python-tuf replaces root.json in two steps; killed in between, there is none. The device pinned its own copy."""
    (world.root / "tuf/metadata/root.json").unlink()
    push(world, world.publisher.publish("v2"))()
    assert world.linked() == "v2"


@pytest.mark.fault("archive with paths that leave its folder", "refused; nothing is written")
@pytest.mark.parametrize("name", ["../escape", "/etc/passwd", "metadata/../../x", "slots/a/model.onnx", "metadata/x/y"])
def test_an_archive_cannot_write_outside_incoming(world: World, tmp_path: Path, name: str) -> None:
    import io
    import tarfile

    v2 = world.publisher.publish("v2")
    archive = world.root / "incoming/push.part"
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = 4
        tar.addfile(member, io.BytesIO(b"evil"))
    with pytest.raises(InstallError, match="expected metadata and targets, got"):
        install.install(world.root, world.wanted(v2), SETTINGS, rollout_id="r1", archive=[archive])
    assert world.linked() == "v1"
    assert not (tmp_path / "escape").exists()
