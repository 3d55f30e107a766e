"""A small world for install tests: real keys, a real TUF repository, a device folder, and a service that can misbehave.

Faked is only what surrounds the transaction: behind the socket of supervisord `venv/bin/supervisorctl` notes which slot
it started from, a thread in this process answers for that slot at the health endpoint, and `venv/bin/python` answers
the smoke test without loading onnxruntime.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socketserver
import subprocess
import sys
import tempfile
import threading
import xmlrpc.client
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from twinops import devices, release
from twinops.aws import release_bundle
from twinops.edge import agent, install
from twinops.publishing import delivery
from twinops.publishing.keys import KeyRing, all_keys, key_plan
from twinops.publishing.repository import ROOT_PATH, Repository

CLONE = Path(__file__).resolve().parents[2]
ENV = "staging"
SETTINGS = install.Settings("supervisord", smoke_timeout_s=5, start_timeout_s=0.6, probe_s=0, lock_wait_s=0)
GOLDEN = {"labels": [0, 1], "probabilities": [[0.9, 0.1], [0.2, 0.8]]}


def bundle(
    version: str, model_bytes: bytes | None = None, device_class: str = release.ANY_CLASS, **behaviour: Any
) -> tuple[release.Manifest, dict[str, bytes]]:
    """A release whose ``config.json`` says how its service behaves (see :class:`World`)."""
    where = release.release_path(version)
    model = {"name": "m", "trainer": "t", "parameters": {}}
    config = {"version": version, **behaviour}
    data = {"version": version, "description": "d", "device_class": device_class, "model": model, "config": config}
    spec = release.parse_release(data, where)
    training = {"data_version": "d", "rows": {"held_out": 100}, "metrics": {"alarm_rate": 0.07}}
    content = {
        "model.onnx": model_bytes or f"model of {version}".encode(),
        "golden.json": json.dumps({"records": [[0.0] * 9] * 2, **GOLDEN}).encode(),
        "training.json": json.dumps(training).encode(),
    }
    files = release.bundle_files(spec, content, {"main.py": b"print()\n"})
    return release.make_manifest(spec, files, git_sha="0" * 40, inputs=version * 8, data_version="d"), files


class Publisher:
    """A TUF repository in a folder. ``publish`` returns what ``release_bundle`` would, for the action plugin."""

    def __init__(self, folder: Path, *, env: str = ENV, threshold: int = 1, now: datetime | None = None) -> None:
        self.folder, self.env = folder / "repository", env
        self.keys = KeyRing(folder / "keys")
        self.plan = key_plan(env, threshold)
        self.keys.generate(all_keys(self.plan))
        self.repository = Repository.create(env, self.keys, self.plan, now or datetime.now(timezone.utc))
        self.manifests: dict[str, release.Manifest] = {}
        self.current: dict[str, Any] | None = None

    def publish(self, version: str, model_bytes: bytes | None = None, **behaviour: Any) -> dict[str, Any]:
        return self.publish_bundle(*bundle(version, model_bytes, **behaviour))

    def publish_bundle(self, manifest: release.Manifest, files: Mapping[str, bytes]) -> dict[str, Any]:
        targets = {release.file_target(self.env, file.sha256): files[file.path] for file in manifest.files}
        targets[release.manifest_target(self.env, manifest.release)] = manifest.to_bytes()
        self._put(targets)
        self.manifests[manifest.digest] = manifest
        return self.deliverable(manifest.digest)

    def make_current(self, wanted: Mapping[str, Any], rollout_id: str = "") -> None:
        """What the end of a completed rollout does; without ``rollout_id`` what an operator does who goes back."""
        named = (wanted["release"], wanted["release_digest"])
        self._point(release.current_bytes(*named, self.current, rollout_id=rollout_id))

    def reaffirm(self) -> None:
        """What a gate that blocks another release does."""
        assert self.current
        named = (self.current["release"], self.current["manifest_sha256"])
        self._point(release.current_bytes(*named, self.current, again=True))

    def _point(self, current: bytes) -> None:
        self.current = json.loads(current)
        self._put({release.current_target(self.env): release.as_json_bytes(self.current)})

    def _put(self, targets: Mapping[str, bytes]) -> None:
        self.repository.put(targets)
        self.write(
            {
                f"targets/{release.stored_path(path, release.sha256(content))}": content
                for path, content in targets.items()
            }
        )

    def deliverable(self, digest: str) -> dict[str, Any]:
        """What a run says about a release that was published, with the metadata of now."""
        manifest = self.manifests[digest]
        return {
            "release": manifest.release,
            "release_digest": manifest.digest,
            "repository": str(self.folder),
            **release_bundle.delivery(self.env, manifest, self.repository),
        }

    def write(self, files: Mapping[str, bytes]) -> None:
        signed = dict(self.repository.sign())
        for path, content in {**files, **signed}.items():
            place = self.folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
            if path.endswith(".root.json"):
                (self.folder / ROOT_PATH).write_bytes(content)


class World:
    """One enrolled device and its service.

    Behaviour in a release's config: ``crash_in_smoke``, ``hang_in_smoke``, ``wrong_in_smoke``; ``health``: ok, failed,
    silent, stuck (no records), or flapping (another pid at each answer).
    """

    def __init__(self, root: Path, publisher: Publisher) -> None:
        self.root, self.publisher = root, publisher
        self.answers = 0
        self.server = self._serve()
        for name in ("venv/bin", "incoming", "run", "slots", "tuf/metadata"):
            (root / name).mkdir(parents=True)
        shutil.copy(publisher.folder / ROOT_PATH, root / "tuf/metadata/root.json")
        device = {"device": "d1", "env": ENV, "address": "127.0.0.1", "health_port": self.server.server_port}
        (root / "device.json").write_text(json.dumps({**device, "sensor": {"rate_hz": 50}}))
        self._program("supervisorctl", SUPERVISORCTL)
        self.supervisord = Supervisord(root)
        self._program("python", PYTHON)

    def _program(self, name: str, text: str) -> None:
        path = self.root / "venv/bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def _serve(self) -> ThreadingHTTPServer:
        world = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = world.health()
                self.send_response(200 if answer else 500)
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            def log_message(self, format: str, *args: Any) -> None:
                """Silent."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return server

    def close(self) -> None:
        self.supervisord.close()
        self.server.shutdown()
        self.server.server_close()

    # -- what runs ------------------------------------------------------------------------------------------------

    def loaded(self) -> str | None:
        """The release that the service was last started from, as its process has it in memory."""
        path = self.root / "loaded"
        return json.loads(path.read_bytes())["release"] if path.exists() and path.stat().st_size else None

    def linked(self) -> str | None:
        """The release that ``current`` points to, proven byte by byte."""
        link = self.root / "current"
        if not link.is_symlink():
            return None
        slot = link.resolve()
        content = (slot / "manifest.json").read_bytes()
        manifest = release.parse_manifest(content, "slot")
        for file in manifest.files:
            assert release.sha256((slot / file.path).read_bytes()) == file.sha256, f"{file.path} is damaged"
        present = {path.relative_to(slot).as_posix() for path in slot.rglob("*") if path.is_file()}
        assert present == {file.path for file in manifest.files} | {"manifest.json"}, "a mixture"
        return manifest.release

    def health(self) -> dict[str, Any] | None:
        path = self.root / "loaded"
        if not path.exists() or not path.stat().st_size:
            return None
        content = path.read_bytes()
        manifest = json.loads(content)
        behaviour = json.loads((self.root / "loaded_config").read_bytes())
        if behaviour.get("health") == "silent":
            return None
        self.answers += 1
        return {
            "status": "failed" if behaviour.get("health") == "failed" else "ok",
            "reason": "the model crashed",
            "release": manifest["release"],
            "release_digest": release.sha256(content),
            "pid": self.answers if behaviour.get("health") == "flapping" else 1,
            "records": 0 if behaviour.get("health") == "stuck" else self.answers,
        }

    def keep_push_program(self) -> Path:
        """As enrolment leaves it; its folder."""
        folder, files = agent.push_program()
        for name, content in files.items():
            place = self.root / folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        return self.root / folder

    def state(self) -> dict[str, Any]:
        return dict(json.loads((self.root / "state.json").read_bytes()))

    # -- what the action plugin does ------------------------------------------------------------------------------

    def needs(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        return install.needs(self.root, self.wanted(wanted), wanted["files"])

    def deliver(self, wanted: Mapping[str, Any], *, may_use_deltas: bool = True) -> list[Path] | None:
        """Push what the device lacks; the archive's parts on the device, or ``None`` if nothing is to be done."""
        wanted = self.publisher.deliverable(wanted["release_digest"])
        if install.look(self.root, self.wanted(wanted), SETTINGS)["action"] == "nothing":
            return None
        found, repository = self.needs(wanted), Path(wanted["repository"])
        deltas = delivery.choose_deltas(repository, wanted, found["bases"] if may_use_deltas else {})
        parts = delivery.pack(repository, delivery.paths(wanted, found["lacking"], deltas))
        return [Path(shutil.copy(part, self.root / "incoming" / part.name)) for part in parts]

    @staticmethod
    def wanted(deliverable: Mapping[str, Any], env: str = ENV) -> install.Wanted:
        return install.Wanted(env, deliverable["release"], deliverable["release_digest"])

    def install(
        self, wanted: Mapping[str, Any], settings: install.Settings = SETTINGS, rollout_id: str = "r1"
    ) -> tuple[bool, dict[str, Any]]:
        """The whole task: push, then the transaction; whole files where deltas did not do."""
        archive = self.deliver(wanted)
        try:
            return install.install(self.root, self.wanted(wanted), settings, rollout_id=rollout_id, archive=archive)
        except install.WholeFilesNeededError:
            archive = self.deliver(wanted, may_use_deltas=False)
            return install.install(self.root, self.wanted(wanted), settings, rollout_id=rollout_id, archive=archive)


class Supervisord:
    """Answers at the socket of supervisord, and has ``venv/bin/supervisorctl`` do what it is told."""

    def __init__(self, root: Path) -> None:
        supervisord = self
        self._program = root / "venv/bin/supervisorctl"
        # Elsewhere, because a device's folder is copied in tests, and a socket cannot be.
        self._folder = tempfile.mkdtemp(prefix="tw-sv-")
        (root / devices.SUPERVISOR_SOCKET).symlink_to(f"{self._folder}/sv.sock")

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                call = self.rfile.read(int(self.headers["Content-Length"]))
                (name, waits), method = xmlrpc.client.loads(call)
                assert (name, waits) == ("twinops-inference", True)
                body = supervisord.answer(str(method)).encode()
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Silent."""

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Who asked was killed."""

        self._server = Server(f"{self._folder}/sv.sock", Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, method: str) -> str:
        verb = {"supervisor.stopProcess": "stop", "supervisor.startProcess": "restart"}[method]
        done = subprocess.run([self._program, verb], capture_output=True, text=True, check=False)
        if done.returncode:
            return xmlrpc.client.dumps(xmlrpc.client.Fault(done.returncode, done.stdout.strip()))
        return xmlrpc.client.dumps((True,), methodresponse=True)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        shutil.rmtree(self._folder, ignore_errors=True)


# Ends with the slot that `current` points to copied aside: what a process that was started now would have in memory.
SUPERVISORCTL = """#!/bin/sh
root=${0%/venv/bin/supervisorctl}
case $1 in
stop) : > "$root/loaded" ;;
restart)
  cp "$root/current/config.json" "$root/loaded_config" && cp "$root/current/manifest.json" "$root/loaded.new" &&
    mv "$root/loaded.new" "$root/loaded" ;;
esac
"""

# Runs in the slot. Answers what golden.json says, unless the release's config says otherwise. Runs programs really.
PYTHON = f"""#!/bin/sh
if test "$2" != -c; then exec {shlex.quote(sys.executable)} "$@"; fi
if grep -q crash_in_smoke config.json; then echo boom >&2; exit 3; fi
if grep -q hang_in_smoke config.json; then exec sleep 60; fi
if grep -q wrong_in_smoke config.json; then sed 's/"labels": .0, 1./"labels": [1, 1]/' golden.json; exit; fi
cat golden.json
"""


def expired(days: int = 800) -> datetime:
    return datetime.now(timezone.utc) - timedelta(days=days)


class KilledError(BaseException):
    """SIGKILL at one file operation: nothing runs after it, so everything that touches a file raises it again."""


class Killer:
    """Counts operations that change the file system, and from number ``at`` on lets none of them happen.

    Every module goes through ``os`` and ``open``; replacing those reaches pathlib, shutil, tarfile, python-tuf alike.
    """

    CHANGING = (
        "replace", "rename", "unlink", "remove", "symlink", "link", "mkdir", "rmdir", "fsync", "chmod", "truncate",
    )  # fmt: skip

    def __init__(self, monkeypatch: Any, below: Path) -> None:
        self.count = 0
        self.at: int | None = None
        self.names: list[str] = []
        self._below = str(below)
        for name in self.CHANGING:
            monkeypatch.setattr(os, name, self._killing(name, getattr(os, name)))
        import builtins
        import io

        opening = self._killing_open(io.open)
        monkeypatch.setattr(io, "open", opening)
        monkeypatch.setattr(builtins, "open", opening)

    def _step(self, name: str) -> None:
        self.count += 1
        self.names.append(name)
        if self.at is not None and self.count >= self.at:
            raise KilledError(name)

    def _killing(self, name: str, function: Any) -> Any:
        def call(*arguments: Any, **keywords: Any) -> Any:
            self._step(name)
            return function(*arguments, **keywords)

        return call

    def _killing_open(self, function: Any) -> Any:
        def call(file: Any, mode: str = "r", *arguments: Any, **keywords: Any) -> Any:
            if set(mode) & set("wax+") and str(file).startswith(self._below):
                self._step(f"open {Path(str(file)).name}")
            return function(file, mode, *arguments, **keywords)

        return call
