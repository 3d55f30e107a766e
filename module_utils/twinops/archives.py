"""Deterministic archives: the same files give the same bytes, on every machine and on every day."""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

from .errors import TwinopsError

_EARLIEST = (1980, 1, 1, 0, 0, 0)
_REGULAR_FILE_MODE = 0o100644 << 16


def read_python_tree(folder: Path, prefix: str) -> dict[str, bytes]:
    """The Python files below ``folder`` as ``{prefix/relative path: content}``.

    Raises TwinopsError if there are none, because an empty function or layer would fail only when it is called.
    """
    found = {
        f"{prefix}/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for path in folder.rglob("*.py")
        if "__pycache__" not in path.parts
    }
    if not found:
        raise TwinopsError(f"{folder}: no Python files, expected the package {prefix}")
    return found


def imported_by(prefix: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Those of ``files`` that are below ``prefix``, or imported by one that is, however indirectly or late."""
    wanted, waiting = dict[str, bytes](), [path for path in files if path.startswith(f"{prefix}/")]
    while waiting:
        path = waiting.pop()
        if path not in wanted:
            wanted[path] = files[path]
            waiting += [found for found in _imports(path, files[path]) if found in files]
    return wanted


def _imports(path: str, content: bytes) -> Iterator[str]:
    """Where what a file imports may be: modules, packages, and the packages that those are in."""
    for node in ast.walk(ast.parse(content, path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = path.split("/")[: -node.level] if node.level else []
            module = ".".join([*package, *(node.module or "").split(".")]).strip(".")
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for parts in (name.split(".") for name in names):
            yield "/".join(parts) + ".py"
            yield from ("/".join(parts[:depth]) + "/__init__.py" for depth in range(1, len(parts) + 1))


def read_text(path: Path) -> str:
    """Content of a UTF-8 file; raises TwinopsError, naming it, if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TwinopsError(f"{path}: expected a readable UTF-8 file: {error}") from error


def read_distribution(name: str, package: str, below: str) -> dict[str, bytes]:
    """The Python files of ``package`` in the installed (and locked) distribution ``name``, without its tests.

    Their paths start with ``below``, where the reader of the archive looks for packages.
    """
    try:
        files = metadata.files(name) or []
    except metadata.PackageNotFoundError as error:
        raise TwinopsError(f"{name}: not installed in the control environment; run `make setup`") from error
    wanted = [file for file in files if file.suffix == ".py" and file.parts[0] == package and "tests" not in file.parts]
    return {f"{below}/{file.as_posix()}": Path(str(file.locate())).read_bytes() for file in wanted}


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """A zip of ``files``, sorted, without times and without compression, whose bytes differ between zlib versions."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(files):
            entry = zipfile.ZipInfo(path, _EARLIEST)
            entry.create_system = 3  # Unix, whatever the control host is: Lambda reads the mode
            entry.external_attr = _REGULAR_FILE_MODE
            archive.writestr(entry, files[path])
    return buffer.getvalue()


def sha256(content: bytes) -> str:
    """Hexadecimal SHA-256."""
    return hashlib.sha256(content).hexdigest()


def lambda_sha256(content: bytes) -> str:
    """SHA-256 in the spelling of Lambda's ``CodeSha256``."""
    return base64.b64encode(hashlib.sha256(content).digest()).decode()
