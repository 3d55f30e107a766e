"""What is pushed to a device: an archive of what it lacks, in parts, and the deltas in it.

Made once for all devices that lack the same, however many of Ansible's workers ask for it at once, and kept beside the
copy of the repository on the control host.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import os
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import release
from ..edge import delta

PART_BYTES = 8 << 20
SMALLEST_PART_BYTES = 256 << 10
PART_S = 2
"""Where the bandwidth is limited, a part takes so long: what an interruption costs at most."""
UNUSED_S = 86400
"""What nobody was sent for so long is removed when something new is made."""
GZIP_LEVEL = 6


def part_bytes(bandwidth_kib_s: float) -> int:
    """The size of the parts for a link of this bandwidth; 0 is unlimited."""
    if not bandwidth_kib_s:
        return PART_BYTES
    return int(min(PART_BYTES, max(SMALLEST_PART_BYTES, bandwidth_kib_s * 1024 * PART_S)))


def choose_deltas(repository: Path, bundle: Mapping[str, Any], bases: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """New digest -> path in the repository of a delta, for files where there is one or it can be made here.

    ``bases``: new digest -> digests that the device could start from, the best first.
    """
    chosen = {}
    for new, olds in bases.items():
        for old in olds:
            path = ensure_delta(repository, bundle["env"], old, new)
            if path is not None:
                chosen[new] = path
                break
    return chosen


def ensure_delta(repository: Path, env: str, old: str, new: str) -> str | None:
    """The path in the repository of the delta of two files, made where it is missing.

    ``None`` where a file is not here, or where the delta would not be smaller than the new file.
    """
    path = release.delta_path(old, new)
    place = repository / path
    if not place.is_file():
        sources = [_stored(repository, env, digest) for digest in (old, new)]
        if not all(source.is_file() for source in sources):
            return None
        with contextlib.suppress(delta.DeltaError), _alone(place.parent):
            if not place.is_file():
                _make_delta(sources[0], sources[1], place)
    with contextlib.suppress(FileNotFoundError):
        os.utime(place)
        return path if place.stat().st_size else None
    return None


def _make_delta(old: Path, new: Path, place: Path) -> None:
    """An empty file says that a delta is not worth it."""
    _remove_unused(place.parent)
    temporary = place.with_name(f".{place.name}.new")
    if delta.make(old, new, temporary) >= new.stat().st_size:
        temporary.write_bytes(b"")
    temporary.replace(place)


def _stored(repository: Path, env: str, digest: str) -> Path:
    return repository / "targets" / release.stored_path(release.file_target(env, digest), digest)


def paths(bundle: Mapping[str, Any], lacking: Sequence[str], deltas: Mapping[str, str]) -> list[str]:
    """What a device is sent: the metadata, always, and a delta or the whole of each file that it lacks."""
    files = (deltas.get(digest) or bundle["files"][digest]["path"] for digest in lacking)
    return sorted([*bundle["metadata"], *files])


def pack(repository: Path, wanted: Sequence[str], size_bytes: int = PART_BYTES) -> list[Path]:
    """The parts of an archive of ``wanted`` (paths in the repository), each named by its digest, in their order."""
    name = _name(repository, wanted, size_bytes)
    folder = repository / "push"
    index = folder / f"{name}.parts"
    with _alone(folder):
        if not index.is_file():
            _remove_unused(folder)
            archive = folder / f".{name}.new"
            _write_archive(archive, repository, wanted)
            parts = _split(archive, folder, size_bytes)
            archive.unlink()
            temporary = index.with_suffix(".new")
            temporary.write_text("\n".join(parts), encoding="ascii")
            temporary.replace(index)
        parts = index.read_text(encoding="ascii").split()
        for used in (index, *(folder / part for part in parts)):
            os.utime(used)
    return [folder / part for part in parts]


def _name(repository: Path, wanted: Sequence[str], size_bytes: int) -> str:
    """Paths carry a digest or a version; only what is small is read."""
    digest = hashlib.sha256(str(size_bytes).encode())
    for path in wanted:
        digest.update(b"\0" + path.encode())
        if path.startswith("metadata/"):
            digest.update(b"\0" + (repository / path).read_bytes())
    return digest.hexdigest()


def _write_archive(archive: Path, repository: Path, wanted: Sequence[str]) -> None:
    with (
        archive.open("wb") as file,
        gzip.GzipFile(fileobj=file, filename="", mode="wb", compresslevel=GZIP_LEVEL, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|") as tar,
    ):
        for path in wanted:
            member = tarfile.TarInfo(path)
            member.size = (repository / path).stat().st_size
            with (repository / path).open("rb") as content:
                tar.addfile(member, content)


def _split(archive: Path, folder: Path, size_bytes: int) -> list[str]:
    names = []
    with archive.open("rb") as file:
        while content := file.read(size_bytes):
            name = f"{release.sha256(content)}.part"
            temporary = folder / f".{name}.new"
            temporary.write_bytes(content)
            temporary.replace(folder / name)
            names.append(name)
    return names


def _remove_unused(folder: Path) -> None:
    oldest = time.time() - UNUSED_S
    for path in folder.iterdir():
        if path.name != LOCK and path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)


LOCK = ".lock"


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One worker makes what all of them need; the kernel lets go of the lock of one that is killed."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
