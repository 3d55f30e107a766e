"""A folder instead of the bucket: a copy of ``tuf/`` on a stick, for a host that has keys and no network."""

from __future__ import annotations

from pathlib import Path

from ..errors import TwinopsError


class Folder:
    """The paths of a bucket, below ``folder``. Has the methods of ``twinops.aws.releases.Bucket``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = str(folder)
        self.calls = 0

    def list(self) -> dict[str, int] | None:
        """path -> size in bytes; ``None`` when there is no such folder."""
        if not self.folder.is_dir():
            return None
        files = (path for path in self.folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        return {path.relative_to(self.folder).as_posix(): path.stat().st_size for path in files}

    def get(self, path: str) -> bytes:
        try:
            return (self.folder / path).read_bytes()
        except OSError as error:
            raise TwinopsError(f"{self.folder / path}: {error.strerror}; expected a whole copy of tuf/") from error

    def put(self, path: str, content: bytes) -> None:
        place = self.folder / path
        temporary = place.with_name(f".{place.name}.new")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(content)
            temporary.replace(place)
        except OSError as error:
            raise TwinopsError(f"{place}: {error.strerror}; expected a folder to write to") from error
