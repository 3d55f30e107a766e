"""Makes the new files of a release from what the device holds and the deltas that were delivered.

Nothing here is trusted: which file a delta is said to make is compared with what is signed, and so is the result. A
delta that does not give it, for whatever reason, is dropped, and the whole file has to be delivered instead.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import release
from ..errors import TwinopsError
from . import delta, staging
from .state import DELTAS, Device

if TYPE_CHECKING:
    from . import verify


class WholeFilesNeededError(TwinopsError):
    """Deltas did not give what is signed. ``digests`` are the files that have to be delivered whole."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{digest[:12]}: {reason}" for digest, reason in sorted(reasons.items())))
        self.digests = sorted(reasons)


def bases(device: Device, wanted: Mapping[str, str]) -> dict[str, list[str]]:
    """For each digest of ``wanted`` (digest -> path in the bundle): digests of files there that a delta can start from.

    What runs comes first. Their bytes are not read: a damaged one shows when the result is compared.
    """
    if not wanted or not delta.can_apply():
        return {}
    held = list(_large_files(device))
    found = {
        digest: [sha256 for path, sha256, _ in held if path == name and sha256 != digest]
        for digest, name in wanted.items()
    }
    return {digest: list(dict.fromkeys(olds)) for digest, olds in found.items() if olds}


def rebuild(device: Device, trust: verify.Verifier) -> None:
    """Apply every delivered delta; what it makes lies among the delivered files then.

    :raises WholeFilesNeededError: one or more did not give what is signed
    """
    folder = device.incoming / DELTAS
    reasons = {}
    for patch in sorted(folder.glob("*-*")):
        old, _, new = patch.name.partition("-")
        try:
            _rebuild_one(device, trust, old, new, patch)
        except (TwinopsError, OSError) as error:
            reasons[new] = str(error)
    shutil.rmtree(folder, ignore_errors=True)
    if reasons:
        raise WholeFilesNeededError(reasons)


def _rebuild_one(device: Device, trust: verify.Verifier, old: str, new: str, patch: Path) -> None:
    info = trust.file(new)
    place = trust.path(info)
    source = next((path for _, sha256, path in _large_files(device) if sha256 == old), None)
    if source is None:
        raise delta.DeltaError(f"expected the file {old[:12]} in a slot, found none")
    staging.require_room(device, info.length)
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = patch.with_suffix(".new")
    if delta.apply(source, patch, temporary, size_bytes=info.length) != new:
        raise delta.DeltaError("the delta gave other bytes than the signed ones")
    temporary.replace(place)


def _large_files(device: Device) -> Iterator[tuple[str, str, Path]]:
    """(path in the bundle, SHA-256 according to the slot's manifest, path on the device), what runs first."""
    running = device.linked_slot()
    order: Sequence[str] = sorted(("a", "b"), key=lambda name: name != running)
    for slot in order:
        with contextlib.suppress(OSError, TwinopsError):
            content = (device.slot(slot) / release.MANIFEST).read_bytes()
            for file in release.parse_manifest(content, slot).files:
                if file.size_bytes >= release.LARGE_BYTES:
                    yield file.path, file.sha256, device.slot(slot) / file.path
