"""The program that a device pulls and reports with: our own files that it needs, in one, which Python runs as it is.

Made on the device from what is running there (an enrolment brings these files along anyway), so what pulls is the very
code that was pushed with, and one write replaces all of it.
"""

from __future__ import annotations

import io
import pkgutil
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Not loaded here: Ansible sends along with a module what it sees imported.
    from . import pull, report  # noqa: F401

PROGRAM = "bin/twinops-edge.zip"
SETTINGS = "pull.json"
REPORT_SETTINGS = "report.json"

FILES = (
    "__init__.py",
    "conversions.py",
    "diagnosis.py",
    "errors.py",
    "release.py",
    "slots.py",
    "windows.py",
    "edge/__init__.py",
    "edge/agent.py",
    "edge/alarms.py",
    "edge/bucket.py",
    "edge/delta.py",
    "edge/device_status.py",
    "edge/durable.py",
    "edge/facts.py",
    "edge/install.py",
    "edge/pull.py",
    "edge/rebuilding.py",
    "edge/report.py",
    "edge/service.py",
    "edge/smoke.py",
    "edge/staging.py",
    "edge/state.py",
    "edge/verify.py",
)
"""What ``twinops.edge.pull`` and ``twinops.edge.report`` import of ours, themselves included."""

MAIN = """import sys
from pathlib import Path
root, command = Path(sys.argv[0]).resolve().parents[1], (sys.argv[1:] or ["pull"])[0]
if command == "pull":
    from twinops.edge import pull
    sys.exit(pull.main(root))
from twinops.edge import report
sys.exit(report.main(root, command))
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
