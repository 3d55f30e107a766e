"""The program that a device pulls with: our own files that it needs, in one, which Python runs as it is.

Made on the device from what is running there (an enrolment brings these files along anyway), so what pulls is the very
code that was pushed with, and one write replaces all of it.
"""

from __future__ import annotations

import io
import pkgutil
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import pull  # noqa: F401  (not loaded here: Ansible sends along with a module what it sees imported)

PROGRAM = "bin/twinops-edge.zip"
SETTINGS = "pull.json"

FILES = (
    "__init__.py",
    "errors.py",
    "release.py",
    "slots.py",
    "windows.py",
    "edge/__init__.py",
    "edge/agent.py",
    "edge/bucket.py",
    "edge/delta.py",
    "edge/durable.py",
    "edge/install.py",
    "edge/pull.py",
    "edge/rebuilding.py",
    "edge/service.py",
    "edge/smoke.py",
    "edge/staging.py",
    "edge/state.py",
    "edge/verify.py",
)
"""What ``twinops.edge.pull`` imports of ours, itself included."""

MAIN = """import sys
from pathlib import Path
from twinops.edge import pull
sys.exit(pull.main(Path(sys.argv[0]).resolve().parents[1]))
"""


def program() -> bytes:
    """A zip that Python runs; the same files give the same bytes."""
    package = __name__.rpartition(".edge.")[0]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in FILES:
            archive.writestr(zipfile.ZipInfo(f"twinops/{name}"), pkgutil.get_data(package, name) or b"")
        archive.writestr(zipfile.ZipInfo("__main__.py"), MAIN)
    return buffer.getvalue()
