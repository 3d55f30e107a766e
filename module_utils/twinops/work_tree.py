"""The commit of a work tree, and the archives that are built from its files."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from . import archives
from .errors import TwinopsError

GIT_TIMEOUT_S = 60


def head(repository: Path) -> str:
    """The commit that is checked out, 40 hexadecimal digits. Raises TwinopsError."""
    return _git(repository, "rev-parse", "--verify", "HEAD").strip()


def uncommitted(repository: Path, folders: Sequence[str]) -> list[str]:
    """Paths below ``folders`` that differ from the commit. Raises TwinopsError."""
    # -z: paths as they are, whatever characters they have; a renamed file's old path follows without a status
    status = _git(repository, "status", "--porcelain", "--no-renames", "-z", "--", *folders)
    return [entry[3:] for entry in status.split("\0") if entry]


def not_in_commit(repository: Path, git_sha: str, paths: Sequence[str]) -> str:
    """What to say about uncommitted files."""
    return f"{repository}: not in commit {git_sha[:12]}, so it would not run: {', '.join(paths)}"


def function_archives(repository: Path) -> tuple[bytes, bytes]:
    """The archives of the functions and of their layer; the same files give the same bytes.

    The functions get what they import and no more: a change elsewhere in twinops is none of theirs.
    """
    files = {
        **archives.read_python_tree(repository / "dispatch", "dispatch"),
        **archives.read_python_tree(repository / "module_utils/twinops", "twinops"),
    }
    code = archives.zip_bytes(archives.imported_by("dispatch", files))
    layer = archives.zip_bytes(archives.read_distribution("websocket-client", "websocket", below="python"))
    return code, layer


def _git(repository: Path, *arguments: str) -> str:
    command = ["git", "-C", str(repository), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=GIT_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TwinopsError(f"git: {error}; expected git on the control host") from error
    if done.returncode:
        raise TwinopsError(f"{repository}: git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
