"""Fills the slot that does not run: unpacks what was pushed, reuses what the device has, and checks every byte."""

from __future__ import annotations

import contextlib
import gzip
import io
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .. import release
from ..errors import TwinopsError
from . import durable
from .digests import file_sha256
from .state import TARGETS, Device

if TYPE_CHECKING:
    from . import verify  # loads python-tuf, which a device that has nothing to do goes without

RESERVE_BYTES = 16 << 20
"""Left free on the disk: the running release needs room for its spool."""
PUSHED_NAME = re.compile(
    r"metadata/[A-Za-z0-9._-]+|targets/[a-z]+(/[A-Za-z0-9._-]+){1,2}|deltas/[0-9a-f]{64}-[0-9a-f]{64}"
)
PART = re.compile(r"[0-9a-f]{64}\.part")
"""A piece of a pushed archive, named by its SHA-256: what arrived of an interrupted push is not sent again."""


def lacking(device: Device, env: str, files: Mapping[str, int]) -> list[str]:
    """Of ``files`` (SHA-256 -> size in bytes), the digests whose bytes are nowhere on the device."""
    here = {digest for digest, _ in _held(device, set(files))}
    here |= {digest for digest, _ in _left(device, {digest: files[digest] for digest in set(files) - here})}
    delivered = device.incoming / TARGETS
    for digest in set(files) - here:
        path = delivered / release.stored_path(release.file_target(env, digest), digest)
        if path.is_file() and path.stat().st_size == files[digest] and file_sha256(path) == digest:
            here.add(digest)
    return sorted(set(files) - here)


def _held(device: Device, digests: set[str]) -> Iterator[tuple[str, Path]]:
    """Files in either slot whose bytes, read now, are among ``digests``. Says nothing about signatures."""
    for slot in ("a", "b"):
        with contextlib.suppress(OSError, TwinopsError):
            content = (device.slot(slot) / release.MANIFEST).read_bytes()
            for file in release.parse_manifest(content, slot).files:
                path = device.slot(slot) / file.path
                if file.sha256 in digests and path.is_file() and file_sha256(path) == file.sha256:
                    yield file.sha256, path


def _left(device: Device, files: Mapping[str, int]) -> Iterator[tuple[str, Path]]:
    """Files of a slot that an interrupted run was building, whose bytes, read now, are among ``files``."""
    for path in sorted(device.slots.glob("*.new/**/*")):
        with contextlib.suppress(FileNotFoundError):  # a pull that is at work has moved it
            if path.is_file() and path.stat().st_size in files.values() and (digest := file_sha256(path)) in files:
                yield digest, path


def require_room(device: Device, needed_bytes: int) -> None:
    """:raises TwinopsError: the disk has too little room for ``needed_bytes`` more"""
    free_bytes = shutil.disk_usage(device.root).free
    if free_bytes < needed_bytes + RESERVE_BYTES:
        raise TwinopsError(
            f"{device.root}: the disk is full: expected {needed_bytes + RESERVE_BYTES} free bytes "
            f"({RESERVE_BYTES} of them in reserve), got {free_bytes}"
        )


def part(incoming: Path, name: str) -> Path:
    """Where the part of an archive with this name lies.

    :raises TwinopsError: that is no name of one
    """
    if not PART.fullmatch(name):
        raise TwinopsError(f"archive: expected names of parts in incoming/, got {name!r}")
    return incoming / name


def receive(source: BinaryIO, incoming: Path, name: str, size_bytes: int) -> None:
    """Write the next ``size_bytes`` of ``source`` to the part ``name``. Their digest is looked at by who needs it.

    :raises TwinopsError: they end before, or it is no name of a part
    """
    with part(incoming, name).open("wb") as file:
        left = size_bytes
        while chunk := source.read(min(left, 1 << 18)):
            file.write(chunk)
            left -= len(chunk)
    if left:
        raise TwinopsError(f"{name}: expected {size_bytes} bytes, got {size_bytes - left}; push it again")


def received(device: Device) -> list[str]:
    """Names of the parts of an archive that an interrupted push left, each whole."""
    return sorted(
        path.name
        for path in device.incoming.glob("*.part")
        if PART.fullmatch(path.name) and file_sha256(path) == path.stem
    )


class _Joined(io.RawIOBase):
    """Files one after another, as one to read."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)
        self._file: BinaryIO | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            if self._file is None:
                if not self._paths:
                    return 0
                self._file = self._paths.pop(0).open("rb")
            count = self._file.readinto(buffer)  # type: ignore[attr-defined]
            if count:
                return int(count)
            self._file.close()
            self._file = None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        super().close()


def unpack(device: Device, parts: Sequence[Path]) -> None:
    """Unpack a pushed archive into ``incoming/``. Nothing in it is believed yet; it just may not leave the folder.

    :raises TwinopsError: it is damaged, holds something else than a delivery, or does not fit the disk
    """
    try:
        with _Joined(parts) as joined, tarfile.open(fileobj=io.BufferedReader(joined), mode="r|gz") as pushed:
            for member in pushed:
                if not member.isfile() or not PUSHED_NAME.fullmatch(member.name) or ".." in member.name:
                    raise TwinopsError(f"pushed archive: expected metadata and targets, got {member.name!r}")
                require_room(device, member.size)
                _extract(pushed, member, device.incoming / member.name)
    except (tarfile.TarError, EOFError, ValueError, zlib.error, gzip.BadGzipFile) as error:
        raise TwinopsError(f"pushed archive: damaged on the way ({error}); push it again") from error
    for part in parts:
        part.unlink()


def _extract(pushed: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    source = pushed.extractfile(member)
    if source is None:
        raise TwinopsError(f"{member.name}: expected a regular file")
    with source, path.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 18)


def stage(device: Device, slot: str, manifest: release.Manifest, manifest_bytes: bytes, trust: verify.Verifier) -> None:
    """Make ``slot`` hold exactly the release: built aside, synced, then renamed into place.

    Every file is compared with its *signed* digest after it is in place, wherever it came from. What was delivered is
    moved, not copied: a large model is written once. What an interrupted run had moved is put back first.
    """
    for digest, path in _left(device, {file.sha256: file.size_bytes for file in manifest.files}):
        delivered = trust.path(trust.file(digest))
        delivered.parent.mkdir(parents=True, exist_ok=True)
        path.replace(delivered)
    folder = device.slots / f"{slot}.new"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    held = dict(_held(device, {file.sha256 for file in manifest.files}))
    for file in manifest.files:
        info = trust.file(file.sha256)
        place = folder / file.path
        place.parent.mkdir(parents=True, exist_ok=True)
        why = f"not the signed bytes once in slot {slot}; is the disk failing?"
        if file.sha256 in held:
            # Never a hard link: one damaged block, or one write through the other name, would spoil both slots.
            shutil.copyfile(held[file.sha256], place)
        else:
            trust.take(info, place)
            held[file.sha256], why = place, trust.NOT_SIGNED
        if not trust.matches(info, place):
            raise TwinopsError(f"{file.path}: {why}")
    (folder / release.MANIFEST).write_bytes(manifest_bytes)
    durable.sync_tree(folder)
    shutil.rmtree(device.slot(slot), ignore_errors=True)
    folder.rename(device.slot(slot))
    durable.sync_folder(device.slots)


def check_slot(device: Device, slot: str, digest: str) -> None:
    """That ``slot`` still holds, byte for byte, the release ``digest`` that was verified when it was staged.

    :raises TwinopsError: it does not
    """
    folder = device.slot(slot)
    try:
        content = (folder / release.MANIFEST).read_bytes()
    except OSError as error:
        raise TwinopsError(f"slot {slot}: expected the release {digest[:12]}, got {error}") from error
    if release.sha256(content) != digest:
        raise TwinopsError(f"slot {slot}: expected the release {digest[:12]}, it holds another one")
    for file in release.parse_manifest(content, f"slot {slot}").files:
        path = folder / file.path
        if not path.is_file() or file_sha256(path) != file.sha256:
            raise TwinopsError(f"slot {slot}: {file.path} is missing or damaged")


def clean_incoming(device: Device) -> None:
    """Forget what was delivered: either it is in a slot now, or it was not worth keeping."""
    for path in device.incoming.glob("*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
