"""The programs that a device keeps: one that pulls and reports, in one file, and one that does what a push asks for.

Made on the device from what is running there (an enrolment brings these files along anyway), so both are the very code
that the device was enrolled with. The one for pushes is a folder, so that Python keeps it compiled: it is started twice
in each rollout. Its name is the digest of its files, by which a push knows whether it is the right one.
"""

from __future__ import annotations

import functools
import hashlib
import io
import pkgutil
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Not loaded here: Ansible sends along with a module what it sees imported.
    from . import pull, push, report  # noqa: F401

PROGRAM = "bin/twinops-edge.zip"
PUSHED_TO = "bin/push-"
"""How the folder of the program for pushes begins; its digest follows."""
SETTINGS = "pull.json"
REPORT_SETTINGS = "report.json"

FILES = (
    "__init__.py",
    "conversions.py",
    "devices.py",
    "diagnosis.py",
    "errors.py",
    "release.py",
    "slots.py",
    "windows.py",
    "edge/__init__.py",
    "edge/agent.py",
    "edge/alarms.py",
    "edge/bucket.py",
    "edge/clients.py",
    "edge/delta.py",
    "edge/device_status.py",
    "edge/digests.py",
    "edge/durable.py",
    "edge/facts.py",
    "edge/install.py",
    "edge/pull.py",
    "edge/push.py",
    "edge/rebuilding.py",
    "edge/report.py",
    "edge/service.py",
    "edge/smoke.py",
    "edge/staging.py",
    "edge/state.py",
    "edge/supervisord.py",
    "edge/verify.py",
)
"""What ``twinops.edge.pull``, ``push`` and ``report`` import of ours, themselves included."""

MAIN = """import sys
from pathlib import Path
root, command = Path(sys.argv[0]).resolve().parents[1], (sys.argv[1:] or ["pull"])[0]
if command == "pull":
    from twinops.edge import pull
    sys.exit(pull.main(root))
from twinops.edge import report
sys.exit(report.main(root, command))
"""


PUSH_MAIN = """import sys
from twinops.edge import push
sys.exit(push.main(sys.stdin.buffer))
"""


def program() -> bytes:
    """A zip that Python runs; the same files give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in {**_files(), "__main__.py": MAIN.encode()}.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


@functools.lru_cache(maxsize=1)
def push_program() -> tuple[str, Mapping[str, bytes]]:
    """(its folder below the device's root, path in it -> content): a folder that Python runs."""
    files = {**_files(), "__main__.py": PUSH_MAIN.encode()}
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return f"{PUSHED_TO}{digest.hexdigest()[:16]}", files


def _files() -> dict[str, bytes]:
    package = __name__.rpartition(".edge.")[0]
    return {f"twinops/{name}": pkgutil.get_data(package, name) or b"" for name in FILES}
