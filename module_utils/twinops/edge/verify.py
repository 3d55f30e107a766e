"""The only verifier on a device: python-tuf, reading what was pushed, or what a pull fetches.

The root of trust is pinned when the device is enrolled. Everything else is believed only with enough signatures,
unexpired, and never older than what this device has seen before.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

# ruff: noqa: E402
# python-tuf loads an HTTP client along with its updater, which takes a device as long as all else of python-tuf. What
# brings the files here is always a fetcher of ours.
HTTP_CLIENT = "tuf.ngclient.urllib3_fetcher"
if HTTP_CLIENT not in sys.modules:
    sys.modules[HTTP_CLIENT] = types.ModuleType(HTTP_CLIENT)
    sys.modules[HTTP_CLIENT].Urllib3Fetcher = types.new_class("Urllib3Fetcher")  # type: ignore[attr-defined]

from tuf.api import exceptions
from tuf.api.metadata import TargetFile  # type: ignore[attr-defined]
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater

from .. import release
from ..errors import TwinopsError
from . import durable
from .state import METADATA, TARGETS

CHUNK_BYTES = 1 << 18


class FolderFetcher(FetcherInterface):
    """Serves ``folder:///a/b`` from a folder laid out like the repository."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = self.folder / unquote(urlparse(url).path).lstrip("/")
        if not path.is_file():
            raise exceptions.DownloadHTTPError(f"{path.name} was not delivered", 404)
        return self._chunks(path)

    @staticmethod
    def _chunks(path: Path) -> Iterator[bytes]:
        with path.open("rb") as file:
            yield from iter(lambda: file.read(CHUNK_BYTES), b"")


class Verifier:
    """Says which bytes the environment signed. ``tuf_folder`` keeps what this device has seen; ``source`` delivers.

    ``fetcher`` brings metadata from elsewhere; without it they lie in ``source``.

    :raises TwinopsError: the metadata in ``source`` is not to be trusted; the message says why
    """

    NOT_SIGNED = "the delivered bytes are not the signed ones; damaged on the way, or changed"

    def __init__(self, tuf_folder: Path, source: Path, env: str, fetcher: FetcherInterface | None = None) -> None:
        self.env = env
        self.targets = source / TARGETS
        metadata = tuf_folder / METADATA
        try:
            self._updater = Updater(
                metadata_dir=str(metadata),
                metadata_base_url=f"folder:///{METADATA}/",
                target_dir=str(source),
                target_base_url=f"folder:///{TARGETS}/",
                fetcher=fetcher or FolderFetcher(source),
                bootstrap=pinned_root(tuf_folder),
            )
            self._updater.refresh()
        except (exceptions.RepositoryError, exceptions.DownloadError) as error:
            raise TwinopsError(_explain(error, env)) from error
        # python-tuf renames without fsync: what was seen must not be forgotten, or an old release could be replayed.
        durable.sync_tree(metadata)

    def manifest(self, version: str, digest: str) -> tuple[release.Manifest, bytes]:
        """The signed manifest of ``version``, if it is the one with ``digest``."""
        info = self._info(release.manifest_target(self.env, version))
        signed = info.hashes.get("sha256")
        if signed != digest:
            raise TwinopsError(f"release {version}: expected the manifest {digest[:12]}, the signed one is {signed}")
        if info.length > release.MAX_MANIFEST_BYTES:
            raise TwinopsError(f"release {version}: a manifest of {info.length} bytes; expected at most 1 MiB")
        content = self.delivered(info).read_bytes()
        return release.parse_manifest(content, f"manifest of {version}"), content

    def current(self) -> dict[str, Any] | None:
        """What the environment runs: the signed ``current.json``; ``None`` before the first, or where not delivered."""
        info = self.find(release.current_target(self.env))
        if info is None:
            return None
        path = self.path(info)
        return release.parse_current(self.delivered(info).read_bytes(), "current.json") if path.is_file() else None

    def file(self, digest: str) -> TargetFile:
        """The signed description of a content-addressed file."""
        return self._info(release.file_target(self.env, digest))

    def delivered(self, info: TargetFile) -> Path:
        """The delivered file that ``info`` describes, verified to the last byte."""
        path = self._must_be_delivered(info)
        if not self.matches(info, path):
            raise TwinopsError(f"{info.path}: {self.NOT_SIGNED}")
        return path

    def take(self, info: TargetFile, place: Path) -> None:
        """Move the delivered file that ``info`` describes to ``place``. Its bytes are not looked at."""
        self._must_be_delivered(info).replace(place)

    def _must_be_delivered(self, info: TargetFile) -> Path:
        path = self.path(info)
        if not path.is_file():
            raise TwinopsError(f"{info.path}: was not delivered")
        return path

    @staticmethod
    def matches(info: TargetFile, path: Path) -> bool:
        """Whether the bytes of ``path`` are those that ``info`` signs."""
        with path.open("rb") as file:
            try:
                info.verify_length_and_hashes(file)
            except exceptions.LengthOrHashMismatchError:
                return False
        return True

    def path(self, info: TargetFile) -> Path:
        """Where the file that ``info`` describes is delivered."""
        return self.targets / release.stored_path(info.path, info.hashes["sha256"])

    def find(self, target: str) -> TargetFile | None:
        """The signed description of ``target``; ``None`` where none is signed for the environment."""
        try:
            return self._updater.get_targetinfo(target)
        except (exceptions.RepositoryError, exceptions.DownloadError) as error:
            raise TwinopsError(_explain(error, self.env)) from error

    def _info(self, target: str) -> TargetFile:
        info = self.find(target)
        if info is None or "sha256" not in info.hashes:
            raise TwinopsError(f"{target}: is not signed for {self.env}; another environment's release, or none at all")
        return info


def pinned_root(tuf_folder: Path) -> bytes:
    """The root this device was enrolled with. A copy of our own: python-tuf replaces ``root.json`` in two steps.

    :raises TwinopsError: the device has none
    """
    pinned = tuf_folder / "pinned_root.json"
    if not pinned.is_file():
        enrolled = tuf_folder / METADATA / "root.json"
        if not enrolled.is_file():
            raise TwinopsError(
                f"{enrolled}: expected the root of trust, found none; enrol the device (--tags edge_base)"
            )
        durable.write_file(pinned, enrolled.read_bytes())
    return pinned.read_bytes()


def _explain(error: Exception, env: str) -> str:
    """What a person can do about it; python-tuf names the file."""
    here = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    if isinstance(error, exceptions.ExpiredMetadataError):
        return (
            f"release metadata: {error}; this device's clock says {here}. Expected unexpired metadata: either the "
            "clock is wrong, or nobody has published for too long (run playbooks/release.yml)"
        )
    if isinstance(error, exceptions.BadVersionNumberError):
        return (
            f"release metadata: {error}; this device has seen newer metadata and refuses to go back. "
            "Expected what the bucket holds now: an old copy, or an attack"
        )
    if isinstance(error, exceptions.UnsignedMetadataError):
        return f"release metadata: {error}; expected enough signatures of the keys this device trusts for {env}"
    return f"release metadata: {error}; expected intact metadata of {env}"
