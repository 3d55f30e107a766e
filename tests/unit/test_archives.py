"""Archives for Lambda: the same tree gives the same bytes."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from twinops import archives
from twinops.errors import TwinopsError


def test_archives_have_the_same_bytes_whatever_the_order_and_the_time(tmp_path: Path) -> None:
    (tmp_path / "package/__pycache__").mkdir(parents=True)
    (tmp_path / "package/__pycache__/a.py").write_text("not source")
    for name in ("b.py", "a.py"):
        (tmp_path / "package" / name).write_text(f"# {name}\n")
    files = archives.read_python_tree(tmp_path / "package", "dispatch")
    backwards = dict(reversed(files.items()))
    assert set(files) == {"dispatch/a.py", "dispatch/b.py"}
    assert archives.zip_bytes(files) == archives.zip_bytes(backwards)
    assert archives.zip_bytes(files) != archives.zip_bytes({**files, "dispatch/c.py": b""})
    with zipfile.ZipFile(io.BytesIO(archives.zip_bytes(files))) as archive:
        assert {(each.date_time, each.external_attr >> 16, each.compress_type) for each in archive.infolist()} == {
            ((1980, 1, 1, 0, 0, 0), 0o100644, zipfile.ZIP_STORED)
        }


def test_layer_has_the_client_of_the_lock_where_lambda_looks_for_it() -> None:
    files = archives.read_distribution("websocket-client", "websocket", below="python")
    assert "python/websocket/__init__.py" in files
    assert not [path for path in files if "tests" in path or "bin" in path or not path.endswith(".py")]


def test_an_archive_is_never_empty(tmp_path: Path) -> None:
    with pytest.raises(TwinopsError, match="no Python files"):
        archives.read_python_tree(tmp_path, "dispatch")
    with pytest.raises(TwinopsError, match="not installed"):
        archives.read_distribution("no-such-distribution", "nothing", below="python")


def test_only_what_is_imported_goes_in_however_indirectly_or_late() -> None:
    files = {
        "dispatch/__init__.py": b"",
        "dispatch/handler.py": b"from twinops import runs\nfrom .claims import claim_of\n",
        "dispatch/claims.py": b"def claim_of():\n    import twinops.aws.late\n",
        "twinops/__init__.py": b"",
        "twinops/runs.py": b"from .errors import TwinopsError\n",
        "twinops/errors.py": b"",
        "twinops/aws/__init__.py": b"",
        "twinops/aws/late.py": b"from ..names import deep\nfrom . import table\n",
        "twinops/aws/table.py": b"import json, botocore\n",
        "twinops/names/__init__.py": b"",
        "twinops/names/deep.py": b"",
        "twinops/rollout.py": b"",
    }
    assert set(archives.imported_by("dispatch", files)) == set(files) - {"twinops/rollout.py"}
