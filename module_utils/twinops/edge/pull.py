"""Brings a device that nobody reaches to the release that the environment runs: ``twinops-edge pull``.

What a push delivers, a pull fetches by itself, into a folder of its own; the transaction is the same one, under the
same lock. A pull never gets in a push's way: it follows ``current.json`` only, which names a release whose rollout is
over; it does nothing where a push has the lock or left a transaction open, and never goes back from what was pushed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from tuf.api import exceptions
from tuf.api.metadata import TargetFile  # type: ignore[attr-defined]
from tuf.ngclient.fetcher import FetcherInterface

from .. import release, slots
from ..errors import TwinopsError
from . import agent, delta, durable, install, rebuilding, staging, verify
from .bucket import Bucket, MissingError, OfflineError
from .state import DELTAS, METADATA, TARGETS, Device, note

RECORD = "run/pull.json"
LOCK = "run/pull.lock"
FOLDER = "pull"
DEADLINE_S = 6 * 3600

NOTHING, INSTALLED, WAITING, OFFLINE, FAILED = "nothing", "installed", "waiting", "offline", "failed"


@dataclass(frozen=True)
class Settings:
    """``pull.json``, written when the device is enrolled."""

    bucket: str
    service_manager: str
    maintenance_window: str = ""
    bandwidth_kib_s: float = 0
    smoke_timeout_s: float = 60
    start_timeout_s: float = 60
    probe_s: float = 10
    aws_environment: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Settings:
        try:
            return cls(**json.loads(path.read_bytes()))
        except FileNotFoundError as error:
            raise TwinopsError(
                f"{path}: expected settings, found none; set edge_models_bucket and enrol the device (--tags edge_base)"
            ) from error
        except (ValueError, TypeError) as error:
            raise TwinopsError(f"{path}: {error}; enrol the device again (--tags edge_base)") from error

    def of_install(self) -> install.Settings:
        """A pull does not wait for the lock: whoever has it is a push."""
        return install.Settings(
            self.service_manager,
            self.smoke_timeout_s,
            self.start_timeout_s,
            self.probe_s,
            lock_wait_s=0,
            maintenance_window=self.maintenance_window,
        )


class BucketFetcher(FetcherInterface):
    """python-tuf's way to the bucket; keeps what it read in ``folder``, laid out like the repository."""

    def __init__(self, bucket: Bucket, folder: Path) -> None:
        self._bucket, self._folder = bucket, folder

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = unquote(urlparse(url).path).lstrip("/")
        place = self._folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            with place.open("wb") as file:
                for chunk in self._bucket.read(path):
                    file.write(chunk)
                    yield chunk
        except MissingError as error:
            place.unlink()
            raise exceptions.DownloadHTTPError(str(error), 404) from error


class Pull:
    """One attempt. ``bucket`` is where the repository is."""

    def __init__(self, root: Path, settings: Settings, bucket: Bucket) -> None:
        self.device = Device(root, incoming=root / FOLDER / "incoming")
        self._settings, self._bucket = settings, bucket
        self._env = str(self.device.settings()["env"])

    def run(self) -> tuple[str, str]:
        """(outcome, why).

        :raises TwinopsError: it was not possible; the device runs what it ran
        """
        trust = self._refresh()
        current = self._current(trust)
        if current is None:
            return NOTHING, "the environment runs no release yet"
        wanted = install.Wanted(self._env, current["release"], current["manifest_sha256"], pulled_at=current["serial"])
        state = self.device.read_state()
        reason = install.reason_not_to_pull(state, wanted)
        if reason:
            return NOTHING, reason
        by, settings = slots.pulled(current["rollout_id"]), self._settings.of_install()
        if state["target"] is None and not settings.is_open():
            self._install(wanted, settings, by)
            return WAITING, f"{wanted.release} waits for the maintenance window {settings.maintenance_window} UTC"
        manifest = self._manifest(trust, wanted)
        self._fetch(trust, manifest, may_use_deltas=True)
        try:
            changed, state = self._install(wanted, settings, by)
        except install.WholeFilesNeededError:
            self._fetch(trust, manifest, may_use_deltas=False)
            changed, state = self._install(wanted, settings, by)
        return (INSTALLED, f"{state['release']} runs") if changed else (NOTHING, f"{state['release']} runs")

    def _install(self, wanted: install.Wanted, settings: install.Settings, by: str) -> tuple[bool, dict[str, Any]]:
        root, incoming = self.device.root, self.device.incoming
        return install.install(root, wanted, settings, rollout_id=by, archive=None, incoming=incoming)

    def _refresh(self) -> verify.Verifier:
        """Fetch the newest metadata and check them, on a copy of what this device has seen.

        The copy of the truth changes in the transaction only, which reads the same files once more, under the lock.
        """
        seen = self.device.root / FOLDER / "tuf"
        shutil.rmtree(seen, ignore_errors=True)
        shutil.copytree(self.device.root / "tuf", seen)
        shutil.rmtree(self.device.incoming / METADATA, ignore_errors=True)
        fetcher = BucketFetcher(self._bucket, self.device.incoming)
        return verify.Verifier(seen, self.device.incoming, self._env, fetcher)

    def _current(self, trust: verify.Verifier) -> dict[str, Any] | None:
        info = trust.find(release.current_target(self._env))
        if info is None:
            return None
        self._download(trust, info)
        return trust.current()

    def _manifest(self, trust: verify.Verifier, wanted: install.Wanted) -> release.Manifest:
        target = release.manifest_target(self._env, wanted.release)
        info = trust.find(target)
        if info is None or info.length > release.MAX_MANIFEST_BYTES:
            raise TwinopsError(f"{target}: expected a signed manifest, found none")
        self._download(trust, info)
        return trust.manifest(wanted.release, wanted.release_digest)[0]

    def _fetch(self, trust: verify.Verifier, manifest: release.Manifest, *, may_use_deltas: bool) -> None:
        """Have every file of the release that the device lacks among the delivered ones, or a delta that makes it."""
        files = {file.sha256: file for file in manifest.files}
        lacking = staging.lacking(self.device, self._env, {digest: file.size_bytes for digest, file in files.items()})
        large = {digest: files[digest].path for digest in lacking if files[digest].size_bytes >= release.LARGE_BYTES}
        bases = rebuilding.bases(self.device, large) if may_use_deltas else {}
        for digest in lacking:
            info = trust.file(digest)
            if not any(self._download_delta(old, digest, info.length) for old in bases.get(digest, ())):
                self._download(trust, info)

    def _download_delta(self, old: str, new: str, longest_bytes: int) -> bool:
        """Whether the bucket has this delta; it is not believed before it was applied."""
        place = self.device.incoming / DELTAS / delta.name(old, new)
        place.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(MissingError):
            with place.open("wb") as file:
                for chunk in self._bucket.read(release.delta_path(old, new)):
                    file.write(chunk)
                    if file.tell() > longest_bytes:
                        break
            if 0 < place.stat().st_size <= longest_bytes:
                return True
        place.unlink()
        return False

    def _download(self, trust: verify.Verifier, info: TargetFile) -> None:
        """Fetch a file, going on where an earlier pull was interrupted.

        :raises TwinopsError: it is not what is signed
        """
        place = trust.path(info)
        if place.is_file() and trust.matches(info, place):
            return
        part = place.with_name(f"{place.name}.part")
        part.parent.mkdir(parents=True, exist_ok=True)
        have = part.stat().st_size if part.is_file() else 0
        if have > info.length:
            have = 0
        staging.require_room(self.device, info.length - have)
        with part.open("ab" if have else "wb") as file:
            if have < info.length:
                for chunk in self._bucket.read(f"{TARGETS}/{place.relative_to(trust.targets)}", have):
                    file.write(chunk[: info.length - file.tell()])  # never more than is signed
        if not trust.matches(info, part):
            part.unlink()
            raise TwinopsError(f"{info.path}: the bytes in the bucket are not the signed ones; expected what is signed")
        part.replace(place)


def pull(root: Path) -> tuple[str, str]:
    """Pull once; returns (outcome, why). Never raises for what may happen to a device in the field."""
    try:
        with durable.device_lock(root / LOCK, 0):
            settings = Settings.read(root / agent.SETTINGS)
            os.environ.update(settings.aws_environment)  # where botocore looks; this process does nothing else
            bucket = Bucket(settings.bucket, bandwidth_kib_s=settings.bandwidth_kib_s, deadline_s=DEADLINE_S)
            return Pull(root, settings, bucket).run()
    except durable.LockedError as error:
        return NOTHING, f"a push or another pull is at work: {error}"
    except OfflineError as error:
        return OFFLINE, str(error)
    except (TwinopsError, OSError) as error:
        return FAILED, str(error)


def main(root: Path) -> int:
    """``twinops-edge pull``: 0 also when there was nothing to do or nobody to ask; 1 when it failed."""
    outcome, why = pull(root)
    note(root / RECORD, outcome, why)
    (sys.stderr if outcome == FAILED else sys.stdout).write(f"{outcome}: {why}\n")
    return 1 if outcome == FAILED else 0
