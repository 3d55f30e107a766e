"""Attacks and disasters on the way to a device, each against the real verifier and the real transaction.

With those of test_release_trust.py these are all eleven attacks of the design; ``make faults`` prints the table.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tuf.api.metadata import Metadata, MetaFile
from tuf.ngclient._internal import trusted_metadata_set
from twinops.edge import verify
from twinops.edge.bucket import Bucket, OfflineError
from twinops.edge.install import InstallError
from twinops.publishing.repository import Repository

from tests.edge.conftest import AWS
from tests.edge.release_world import CLONE, ENV, Publisher, World
from tests.edge.test_release_trust import incoming, push, refused


class Clock:
    """The device's clock, as python-tuf reads it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **ahead: float) -> None:
        wrong = datetime.now(timezone.utc) + timedelta(**ahead)

        class Wrong(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
                return wrong

        monkeypatch.setattr(trusted_metadata_set, "datetime", SimpleNamespace(datetime=Wrong, timezone=timezone))


@pytest.mark.fault("attack: freeze", "expired metadata are refused; what runs keeps running")
def test_freeze_the_same_metadata_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever keeps news from a device has a month: then it installs nothing any more, and says so."""
    v2 = world.publisher.publish("v2")
    Clock(monkeypatch, days=31)
    refused(world, push(world, v2), "timestamp.json is expired; this device's clock says")


@pytest.mark.fault("attack: endless data", "more bytes than were signed are refused, in metadata and in files")
def test_endless_data_instead_of_a_file(world: World) -> None:
    v2 = world.publisher.publish("v2")
    install_it = push(world, v2)
    model = next(file for file in world.publisher.manifests[v2["release_digest"]].files if file.path == "model.onnx")
    with incoming(world, f"{model.sha256}.{model.sha256}").open("ab") as file:
        file.truncate(1 << 30)  # a sparse gigabyte that begins with the right bytes
    refused(world, install_it, "the delivered bytes are not the signed ones")


@pytest.mark.fault(
    "attack: slow retrieval", "a delivery that never ends blocks nobody: nothing begins before it is here"
)
def test_a_delivery_that_never_ends(world: World) -> None:
    """The transaction, and with it the lock, begins when the whole archive is there."""
    (*_, last) = world.deliver(world.publisher.publish("v2")) or []
    whole = last.read_bytes()
    last.write_bytes(whole[: len(whole) // 2])
    before = world.state()
    assert (world.linked(), before["phase"]) == ("v1", "committed")
    world.install(world.publisher.publish("v3"))
    assert world.linked() == "v3"


@pytest.mark.fault("attack: slow retrieval", "a pull ends at its deadline, however the bytes drip")
def test_a_bucket_that_sends_a_byte_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes within the time limit of a read: only the deadline of the whole pull ends it."""
    is_over = threading.Event()

    class Dripping(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(400):
                    self.wfile.write(b"x")
                    if is_over.wait(0.05):
                        return

        def log_message(self, format: str, *args: Any) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Dripping)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    for name, value in {**AWS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}.items():
        monkeypatch.setenv(name, value)
    started_s = time.monotonic()
    try:
        with pytest.raises(OfflineError, match="too slow; the next pull goes on from here"):
            list(Bucket("models", bandwidth_kib_s=0, deadline_s=1).read("metadata/timestamp.json"))
    finally:
        is_over.set()
        server.shutdown()
        server.server_close()
        thread.join()
    assert time.monotonic() - started_s < 10


@pytest.mark.fault("attack: wrong device class", "a release for other devices is refused, however well signed")
def test_a_release_for_another_class_of_devices(world: World) -> None:
    refused(
        world,
        push(world, world.publisher.publish("v2", device_class="gateway-9")),
        f"v2 is for devices of class gateway-9; expected any or {platform.machine()}",
    )


def test_a_release_for_this_class_of_devices(world: World) -> None:
    path = world.root / "device.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "device_class": "gateway-9"}))
    push(world, world.publisher.publish("v2", device_class="gateway-9"))()
    push(world, world.publisher.publish("v3", device_class=platform.machine()))()
    assert world.linked() == "v3"


def replace_keys(publisher: Publisher, role: str, name: str) -> None:
    """``name`` is the only key of ``role`` from the next publication on."""
    publisher.keys.generate([name])
    threshold = publisher.plan[role].threshold
    names = (name,) if threshold == 1 else (*publisher.plan[role].keys[1:], name)
    publisher.plan = {**publisher.plan, role: type(publisher.plan[role])(names, threshold)}
    publisher.repository.trust(publisher.plan)


def sign_with(repository: Repository, role: str, key: str) -> None:
    """What a thief of ``key`` and of the online keys would publish."""
    metadata: Metadata[Any] = repository.roles[role]
    metadata.signed.version += 1
    metadata.signatures.clear()
    signer = repository.keys.signers()[repository.keys.public(key).keyid]
    metadata.sign(signer)
    snapshot = repository.roles["snapshot"]
    snapshot.signed.meta[f"{role}.json"] = MetaFile(metadata.signed.version)
    repository._sign_online("snapshot")
    repository.roles["timestamp"].signed.snapshot_meta = MetaFile(snapshot.signed.version)
    repository._sign_online("timestamp")


@pytest.mark.fault("attack: revoked key", "what it signs is refused, even with stolen online keys")
def test_a_revoked_key_with_stolen_online_keys(world: World) -> None:
    replace_keys(world.publisher, "release", "staging-9")
    world.install(world.publisher.publish("v1", again=True))
    thief = copy.deepcopy(world.publisher)
    v2 = thief.publish("v2")
    sign_with(thief.repository, ENV, f"{ENV}-1")
    write(thief, ENV, "snapshot", "timestamp")
    refused(world, push(world, thief.deliverable(v2["release_digest"])), f"{ENV} was signed by 0/1 keys")


def sign_again(publisher: Publisher, role: str, version: int, expires: datetime | None = None) -> None:
    """What whoever has all keys of ``role`` can say: another version of it, and that it lasts until ``expires``."""
    repository = publisher.repository
    metadata: Metadata[Any] = repository.roles[role]
    metadata.signed.version = version
    metadata.signed.expires = expires or metadata.signed.expires
    metadata.signatures.clear()
    signers = repository.keys.signers()
    for key in repository.keys_of(role):
        metadata.sign(signers[key.keyid], append=True)


def write(publisher: Publisher, *roles: str) -> None:
    """Put the metadata of ``roles`` into the repository as they are."""
    for role in roles:
        metadata = publisher.repository.roles[role]
        path = "timestamp.json" if role == "timestamp" else f"{metadata.signed.version}.{role}.json"
        (publisher.folder / "metadata" / path).write_bytes(metadata.to_bytes())


@pytest.mark.fault("attack: rollback", "refused: the device has seen newer metadata")
@pytest.mark.parametrize("older", ["snapshot", ENV])
def test_stolen_online_keys_do_not_take_a_device_back(world: World, older: str) -> None:
    """The thief signs a new timestamp that names an old snapshot, or a new snapshot that names an old release role."""
    v2 = world.publisher.publish("v2")
    thief = copy.deepcopy(world.publisher)
    world.install(world.publisher.publish("v3"))
    world.install(world.publisher.publish("v1"))
    if older == ENV:
        sign_again(thief, "snapshot", 98)
        thief.repository.roles["timestamp"].signed.snapshot_meta = MetaFile(98)
    sign_again(thief, "timestamp", 99)
    write(thief, "snapshot", "timestamp")
    refused(world, push(world, thief.deliverable(v2["release_digest"])), "has seen newer metadata and refuses")


@pytest.mark.fault("attack: rollback", "refused: the device has seen newer metadata")
@pytest.mark.parametrize("role", ["timestamp", "snapshot"])
def test_what_was_renewed_does_not_become_older_again(world: World, role: str) -> None:
    """Signed again, with nothing new in it, and seen by the device: the one before, that ends sooner, is refused."""
    publisher, v2 = world.publisher, world.publisher.publish("v2")
    thief = copy.deepcopy(publisher)
    roles = publisher.repository.roles
    if role == "snapshot":
        sign_again(publisher, "snapshot", roles["snapshot"].signed.version + 1)
        roles["timestamp"].signed.snapshot_meta = MetaFile(roles["snapshot"].signed.version)
        sign_again(thief, "timestamp", 99)
    sign_again(publisher, "timestamp", roles["timestamp"].signed.version + 1)
    write(publisher, "snapshot", "timestamp")
    verify.Verifier(world.root / "tuf", publisher.folder, ENV)
    write(thief, "timestamp")
    refused(world, push(world, thief.deliverable(v2["release_digest"])), "has seen newer metadata and refuses")


@pytest.mark.fault("expired metadata", "refused for a new install; what runs keeps running")
@pytest.mark.parametrize("role", ["root", "snapshot", "targets", ENV])
def test_each_role_expires_by_itself(world: World, role: str) -> None:
    """A fresh timestamp does not vouch for what is older than those who signed it wanted."""
    publisher, v2 = world.publisher, world.publisher.publish("v2")
    roles = publisher.repository.roles
    sign_again(publisher, role, roles[role].signed.version + 1, expires=datetime.now(timezone.utc) - timedelta(days=1))
    if role in ("targets", ENV):
        roles["snapshot"].signed.meta[f"{role}.json"] = MetaFile(roles[role].signed.version)
        sign_again(publisher, "snapshot", roles["snapshot"].signed.version + 1)
    roles["timestamp"].signed.snapshot_meta = MetaFile(roles["snapshot"].signed.version)
    sign_again(publisher, "timestamp", roles["timestamp"].signed.version + 1)
    write(publisher, role, "snapshot", "timestamp")
    refused(world, push(world, publisher.deliverable(v2["release_digest"])), f"{role}(.json)? is expired")


@pytest.mark.fault("key rotation", "a device enrolled with the first root follows the chain of roots and installs")
def test_every_key_is_replaced_and_the_device_follows(world: World) -> None:
    for role in ("root", "targets", "release", "current", "snapshot", "timestamp"):
        replace_keys(world.publisher, role, f"{role}-9")
        v2 = world.publisher.publish("v2", role=role)
    assert world.publisher.repository.versions()["root"] == 5
    push(world, v2)()
    assert world.linked() == "v2"
    assert world.publisher.repository.versions()[ENV] > 1


# -- the clock and the disk -----------------------------------------------------------------------------------------


@pytest.mark.fault("clock years ahead", "named with both times; what runs keeps running; right again, it installs")
def test_a_clock_that_is_ahead(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    v2 = world.publisher.publish("v2")
    with monkeypatch.context() as patched:
        Clock(patched, days=3000)
        refused(world, push(world, v2), "is expired; this device's clock says .*either the clock is wrong")
    world.install(v2)
    assert world.linked() == "v2"


@pytest.mark.fault("clock in 1970", "installs what is signed, and still refuses what is older than it has seen")
def test_a_clock_that_lost_its_battery(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch, days=-20_000)
    shutil.copytree(world.publisher.folder, tmp_path / "old")
    old = {**world.publisher.deliverable(next(iter(world.publisher.manifests))), "repository": str(tmp_path / "old")}
    world.install(world.publisher.publish("v2"))
    assert world.linked() == "v2"
    with pytest.raises(InstallError, match="has seen newer metadata and refuses"):
        push(world, old)()
    assert world.linked() == "v2"


IN_A_NAMESPACE = """
set -e
root=$1
case $2 in
read-only) mount --bind "$root" "$root"; mount -o remount,ro,bind "$root" ;;
full)
  mkdir "$root.full"; mount -t tmpfs -o size=4m none "$root.full"; cp -a "$root/." "$root.full"
  mount --bind "$root.full" "$root"; cat /dev/zero > "$root/somebody-else" 2>/dev/null || true ;;
esac
shift 2
exec "$@"
"""
INSTALL = """
import json, pathlib, sys
sys.path[:0] = [sys.argv[1]]
from twinops.edge import install
from twinops.errors import TwinopsError
root, digest, *parts = sys.argv[2:]
root = pathlib.Path(root)
settings = install.Settings("supervisord", smoke_timeout_s=5, start_timeout_s=5, probe_s=0, lock_wait_s=0)
wanted = install.Wanted("staging", "v2", digest)
try:
    install.install(root, wanted, settings, rollout_id="r1", archive=[*map(pathlib.Path, parts)])
    said = "installed"
except (TwinopsError, OSError) as error:
    said = str(error)
runs = [json.loads((root / path).read_bytes())["release"] for path in ("current/manifest.json", "loaded", "state.json")]
print(json.dumps({"said": said, "runs": runs}))
"""


def in_a_namespace(world: World, disk: str, digest: str, parts: list[Path]) -> dict[str, Any]:
    """Install v2 on a disk that is really read-only or full: a mount of its own in a process of its own."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("needs root, to mount")
    python = [sys.executable, "-c", INSTALL, str(CLONE / "module_utils"), str(world.root)]
    command = ["unshare", "--mount", "sh", "-c", IN_A_NAMESPACE, "sh", str(world.root), disk, *python]
    command += [digest, *map(str, parts)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"mounts are not allowed here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.fault("read-only disk, full disk", "named; the old release keeps running; with room again, it installs")
@pytest.mark.parametrize(("disk", "message"), [("read-only", "Read-only file system"), ("full", "No space left")])
def test_a_disk_that_takes_nothing(world: World, disk: str, message: str) -> None:
    v2 = world.publisher.publish("v2")
    parts = world.deliver(v2)
    assert parts
    found = in_a_namespace(world, disk, v2["release_digest"], parts)
    assert message in found["said"]
    assert found["runs"] == ["v1"] * 3
    world.install(v2)
    assert world.linked() == "v2"
