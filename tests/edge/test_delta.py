"""Deltas of large files: both kinds of change, every kind of damage, and the memory of a device."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from backports import zstd
from twinops.edge import delta

from tests.edge.conftest import CLONE

MIB = 1 << 20
SIZE = 14 * MIB


def weights(size_bytes: int = SIZE) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Bytes like those of a model: float32, which nothing compresses."""
    generator = np.random.default_rng(1)
    return generator.normal(0, 0.02, size_bytes // 4).astype("<f4").view("u1").copy()


def in_one_place(share: float = 0.01) -> bytes:
    changed, length = weights(), int(SIZE * share)
    changed[SIZE // 3 : SIZE // 3 + length] = np.random.default_rng(2).integers(0, 256, length, dtype="u1")
    return changed.tobytes()


def scattered(share: float = 0.01) -> bytes:
    changed, generator = weights(), np.random.default_rng(3)
    places = generator.choice(SIZE, int(SIZE * share), replace=False)
    changed[places] ^= generator.integers(1, 256, len(places), dtype="u1")
    return changed.tobytes()


def inserted(size_bytes: int) -> bytes:
    old = weights().tobytes()
    return old[: SIZE // 3] + np.random.default_rng(4).bytes(size_bytes) + old[SIZE // 3 :]


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("delta") / "old"
    path.write_bytes(weights().tobytes())
    return path


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def delta_of(old: Path, content: bytes, folder: Path) -> Path:
    new, place = folder / "new", folder / "delta"
    new.write_bytes(content)
    assert delta.make(old, new, place) == place.stat().st_size
    return place


def whole_file_encodings(old: bytes, new: bytes) -> list[int]:
    """Sizes in bytes of both encodings applied to the file in one piece, as the issue measured them."""
    options = {
        zstd.CompressionParameter.compression_level: 3,
        zstd.CompressionParameter.enable_long_distance_matching: 1,
        zstd.CompressionParameter.window_log: 27,
    }
    patch = zstd.compress(new, options=options, zstd_dict=zstd.ZstdDict(old, is_raw=True).as_prefix)
    padded = np.frombuffer(old.ljust(len(new), b"\0")[: len(new)], "u1")
    return [len(patch), len(zstd.compress((padded ^ np.frombuffer(new, "u1")).tobytes(), 9))]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(in_one_place, id="one place"),
        pytest.param(scattered, id="scattered"),
        pytest.param(lambda: inserted(300_000), id="inserted"),
        pytest.param(lambda: inserted(3 * MIB), id="much inserted"),
        pytest.param(lambda: weights().tobytes()[: SIZE - 5 * MIB], id="shortened"),
        pytest.param(lambda: weights().tobytes()[5 * MIB :], id="shortened at the start"),
    ],
)
def test_a_delta_is_as_small_as_the_smaller_encoding(old: Path, tmp_path: Path, change: Callable[[], bytes]) -> None:
    content = change()
    made = delta_of(old, content, tmp_path)
    assert delta.apply(old, made, tmp_path / "result", size_bytes=len(content)) == sha256(content)
    assert (tmp_path / "result").read_bytes() == content
    smaller = min(whole_file_encodings(old.read_bytes(), content))
    assert made.stat().st_size <= max(
        1.1 * smaller, 4096
    )  # where nothing but an end is missing, headers are all there is


@pytest.mark.parametrize("length", [0, 1, 7, delta.CHUNK_BYTES, delta.CHUNK_BYTES + 1])
@pytest.mark.parametrize("old_length", [0, 5, 9, delta.CHUNK_BYTES + 3])
def test_every_length(tmp_path: Path, length: int, old_length: int) -> None:
    generator = random.Random(length)  # noqa: S311
    content, before = generator.randbytes(length), tmp_path / "old"
    before.write_bytes(generator.randbytes(old_length))
    made = delta_of(before, content, tmp_path)
    assert delta.apply(before, made, tmp_path / "result", size_bytes=length) == sha256(content)


def test_damage_is_an_error_or_another_digest_and_never_a_crash(old: Path, tmp_path: Path) -> None:
    content = in_one_place()[: 5 * MIB]
    made = delta_of(old, content, tmp_path)
    sound, generator = made.read_bytes(), random.Random(1)  # noqa: S311
    wrong = sha256(b"")
    for attempt in range(30):
        damaged = bytearray(sound)
        if attempt % 3 == 0:
            del damaged[generator.randrange(len(sound)) :]
        else:  # a bit of the first header, or of anything
            place = generator.randrange(delta._RECORD.size if attempt % 3 == 1 else len(sound))
            damaged[place] ^= 1 << generator.randrange(8)
        made.write_bytes(damaged)
        try:
            wrong = delta.apply(old, made, tmp_path / "result", size_bytes=len(content))
        except delta.DeltaError:
            continue
        assert wrong != sha256(content) or (tmp_path / "result").read_bytes() == content


def test_another_old_file_gives_an_error_or_another_digest(old: Path, tmp_path: Path) -> None:
    content = scattered()
    made = delta_of(old, content, tmp_path)
    other = tmp_path / "other"
    other.write_bytes(old.read_bytes()[:-1000] + bytes(1000))
    try:
        found = delta.apply(other, made, tmp_path / "result", size_bytes=len(content))
    except delta.DeltaError:
        return
    assert found != sha256(content)


def test_a_delta_cannot_fill_the_disk(old: Path, tmp_path: Path) -> None:
    made = delta_of(old, in_one_place(), tmp_path)
    with pytest.raises(delta.DeltaError, match=r"expected at most 1000000 bytes, it makes more"):
        delta.apply(old, made, tmp_path / "result", size_bytes=1_000_000)
    assert (tmp_path / "result").stat().st_size <= 1_000_000


def test_a_record_that_claims_too_much_is_refused_before_memory_is_taken(old: Path, tmp_path: Path) -> None:
    made = tmp_path / "delta"
    made.write_bytes(delta._RECORD.pack(delta.PREFIX, 0, 8, 2**32 - 1, 10) + bytes(10))
    with pytest.raises(delta.DeltaError, match="larger than one may be"):
        delta.apply(old, made, tmp_path / "result", size_bytes=SIZE)


def test_a_bomb_is_cut_off(old: Path, tmp_path: Path) -> None:
    bomb = zstd.compress(bytes(64 * MIB))
    made = tmp_path / "delta"
    made.write_bytes(delta._RECORD.pack(delta.XOR, 0, 1000, 1000, len(bomb)) + bomb)
    with pytest.raises(delta.DeltaError, match="expected 1000 bytes, got 1001 or more"):
        delta.apply(old, made, tmp_path / "result", size_bytes=SIZE)


APPLY = """
import pathlib, resource, sys
sys.path.insert(0, sys.argv[1])
from twinops.edge import delta
delta.library()
def peak_bytes():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM:")).split()[1]) << 10
before = peak_bytes()
old, patch, place = map(pathlib.Path, sys.argv[2:5])
delta.apply(old, patch, place, size_bytes=1 << 30)
print(peak_bytes() - before)
"""


@pytest.mark.parametrize("change", [in_one_place, scattered])
def test_the_memory_of_a_device_is_bounded(old: Path, tmp_path: Path, change: Callable[[], bytes]) -> None:
    made = delta_of(old, change(), tmp_path)
    arguments = [str(CLONE / "module_utils"), str(old), str(made), str(tmp_path / "result")]
    done = subprocess.run(
        [sys.executable, "-I", "-c", APPLY, *arguments], check=True, capture_output=True, text=True, timeout=60
    )
    assert MIB < int(done.stdout) <= delta.MEMORY_BYTES


def test_a_device_with_little_memory_takes_whole_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert delta.can_apply()
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  131072 kB\nMemAvailable:   65536 kB\n")
    little = delta.available_memory_bytes(meminfo)
    assert (little, delta.available_memory_bytes(tmp_path / "none")) == (64 * MIB, 0)
    monkeypatch.setattr(delta, "available_memory_bytes", lambda: little)
    assert not delta.can_apply()


def test_a_device_without_the_library_takes_whole_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "backports.zstd", None)
    assert not delta.can_apply()
