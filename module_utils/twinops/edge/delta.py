"""The difference between two versions of a large file: made once on the control host, applied on each device.

A delta is a sequence of records, one for each ``CHUNK_BYTES`` of the new file. A chunk that is what the old file has at
the same place is only named. Any other is the smaller of two encodings against a stretch of the old file near the same
place: zstd with that stretch as a prefix (what ``zstd --patch-from`` does; small where a change is in one place, also
where something was inserted), or the exclusive or of both, compressed (small where changes are scattered, as after
retraining). Either way a device needs ``MEMORY_BYTES`` at most, however
large the file is. A delta is not believed: whoever applies it compares the digest of the result.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import TwinopsError

CHUNK_BYTES = 4 << 20
REACH_BYTES = 2 << 20
"""How far before and behind a chunk's own place in the old file its bytes are looked for."""
MEMORY_BYTES = 48 << 20
"""What applying a delta takes at most, besides Python itself (``tests/edge/test_delta.py`` measures it)."""

PREFIX, XOR, SAME = 1, 2, 3
PREFIX_LEVEL, XOR_LEVEL = 1, 9
WINDOW_LOG = 24
"""2^24 bytes reach from the end of a chunk to the start of its stretch of the old file."""
STRETCH_BYTES = CHUNK_BYTES + 2 * REACH_BYTES
LARGEST_PACKED_BYTES = CHUNK_BYTES + (1 << 16)

_RECORD = struct.Struct(
    "<BQIII"
)  # encoding, offset and length in the old file, length in the new one, bytes that follow


class DeltaError(TwinopsError):
    """The delta cannot be made or applied; the whole file has to travel."""


def library() -> Any:
    """The module that Python 3.14 has as ``compression.zstd``.

    :raises DeltaError: this Python has none (a device enrolled before deltas)
    """
    for library_name in ("compression.zstd", "backports.zstd"):
        with contextlib.suppress(ImportError):
            return importlib.import_module(library_name)
    raise DeltaError("expected zstd in this Python environment, found none; enrol the device again (--tags edge_base)")


def can_apply() -> bool:
    """Whether this machine, now, has the library and the memory for a delta."""
    try:
        library()
    except DeltaError:
        return False
    return available_memory_bytes() >= 2 * MEMORY_BYTES


def available_memory_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """What the kernel says can be used without swapping; 0 where it does not say."""
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), 0)


def name(old_sha256: str, new_sha256: str) -> str:
    """What the delta of a pair of files is called, wherever it lies."""
    return f"{old_sha256}-{new_sha256}"


# -- making -------------------------------------------------------------------------------------------------------


def make(old: Path, new: Path, place: Path) -> int:
    """Write the delta that turns ``old`` into ``new`` to ``place``; returns its size in bytes."""
    zstd = library()
    old_size, new_size = old.stat().st_size, new.stat().st_size
    with old.open("rb") as before, new.open("rb") as after, place.open("wb") as file:
        for offset in range(0, new_size, CHUNK_BYTES):
            chunk = after.read(CHUNK_BYTES)
            if chunk == _read(before, offset, len(chunk)):
                file.write(_RECORD.pack(SAME, offset, len(chunk), len(chunk), 0))
                continue
            places = _stretches(offset, len(chunk), old_size, new_size)
            patches = [_encode_prefix(zstd, start, _read(before, start, length), chunk) for start, length in places]
            difference = _encode_xor(zstd, offset, _read(before, offset, len(chunk)), chunk)
            file.write(min([*patches, difference], key=len))
        return file.tell()


def _stretches(offset: int, length: int, old_size: int, new_size: int) -> Iterator[tuple[int, int]]:
    """(offset, length) in the old file: around the same place counted from the start, and from the end."""
    shift = old_size - new_size
    for place in {offset, offset + shift if abs(shift) > REACH_BYTES // 2 else offset}:
        start = min(max(0, place - REACH_BYTES), old_size)
        yield start, max(0, min(old_size, place + length + REACH_BYTES) - start)


def _encode_prefix(zstd: Any, start: int, stretch: bytes, chunk: bytes) -> bytes:
    options = {
        zstd.CompressionParameter.compression_level: PREFIX_LEVEL,
        zstd.CompressionParameter.enable_long_distance_matching: 1,
        zstd.CompressionParameter.window_log: WINDOW_LOG,
    }
    packed: bytes = zstd.compress(chunk, options=options, zstd_dict=_prefix(zstd, stretch))
    return _RECORD.pack(PREFIX, start, len(stretch), len(chunk), len(packed)) + packed


def _encode_xor(zstd: Any, offset: int, same_place: bytes, chunk: bytes) -> bytes:
    packed: bytes = zstd.compress(_xor(same_place, chunk), XOR_LEVEL)
    return _RECORD.pack(XOR, offset if same_place else 0, len(same_place), len(chunk), len(packed)) + packed


def _prefix(zstd: Any, stretch: bytes) -> Any:
    """``stretch`` as zstd takes it; it takes none that is shorter than eight bytes."""
    return zstd.ZstdDict(stretch, is_raw=True).as_prefix if len(stretch) >= 8 else None


def _read(file: BinaryIO, start: int, length: int) -> bytes:
    file.seek(start)
    return file.read(length)


# -- applying -----------------------------------------------------------------------------------------------------


def apply(old: Path, delta: Path, place: Path, *, size_bytes: int) -> str:
    """Write to ``place`` what ``delta`` makes of ``old``, at most ``size_bytes``; returns the SHA-256 of the result.

    :raises DeltaError: it is no delta, or not one of this file; ``place`` holds nothing to be believed then
    """
    zstd = library()
    digest, written = hashlib.sha256(), 0
    with old.open("rb") as before, delta.open("rb") as records, place.open("wb") as after:
        while header := records.read(_RECORD.size):
            chunk = _decode(zstd, before, records, header)
            written += len(chunk)
            if written > size_bytes:
                raise DeltaError(f"{delta.name}: expected at most {size_bytes} bytes, it makes more")
            digest.update(chunk)
            after.write(chunk)
    return digest.hexdigest()


def _decode(zstd: Any, before: BinaryIO, records: BinaryIO, header: bytes) -> bytes:
    if len(header) != _RECORD.size:
        raise DeltaError("the delta ends in the middle of a record")
    encoding, start, length, new_length, packed_length = _RECORD.unpack(header)
    if length > STRETCH_BYTES or new_length > CHUNK_BYTES or packed_length > LARGEST_PACKED_BYTES:
        raise DeltaError("a record of the delta is larger than one may be")
    packed = records.read(packed_length)
    is_inside = start + length <= os.fstat(before.fileno()).st_size
    if len(packed) != packed_length or not is_inside or encoding not in (PREFIX, XOR, SAME):
        raise DeltaError("the delta is damaged, or is not one of this file")
    stretch = _read(before, start, length)
    if encoding == SAME:
        return stretch[:new_length]
    is_prefix = encoding == PREFIX and length >= 8
    content = _decompress(
        zstd, packed, new_length, zstd.ZstdDict(stretch, is_raw=True).as_prefix if is_prefix else None
    )
    return content if encoding == PREFIX else _xor(stretch, content)


def _decompress(zstd: Any, packed: bytes, length: int, prefix: Any) -> bytes:
    """``length`` bytes and not one more, whatever the frame says about itself."""
    options = {zstd.DecompressionParameter.window_log_max: WINDOW_LOG}
    try:
        decompressor = zstd.ZstdDecompressor(zstd_dict=prefix, options=options)
        content = bytes(decompressor.decompress(packed, max_length=length + 1))
    except (zstd.ZstdError, EOFError) as error:
        raise DeltaError(f"the delta is damaged, or is not one of this file: {error}") from error
    if len(content) != length:
        raise DeltaError(f"a record of the delta: expected {length} bytes, got {len(content)} or more")
    return content


def _xor(old: bytes, new: bytes) -> bytes:
    """The exclusive or of both; ``old`` is as long as ``new``, or is taken to go on with zeros."""
    value = int.from_bytes(old, "little") ^ int.from_bytes(new, "little")
    return value.to_bytes(max(len(old), len(new)), "little")[: len(new)]
