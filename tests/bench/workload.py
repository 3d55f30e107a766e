"""W workflows, as each contender wants them: a git repository for twinops, variables and archives for the peer."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox.settings import CLONE

GIT_TIMEOUT_S = 120
AUTHOR = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@example.com", "-c", "commit.gpgsign=false")

WORKFLOW = """\
description: {description}
owner: mlops@example.com
entrypoint: run.py
schedule: {schedule}
timeout_s: 900
idempotent: true
report: {{topic: workflows}}
"""
HANDLER = "def dispatch(event, context):\n    return event\n\n\nbackup = dispatch\n"


@dataclass(frozen=True)
class Workload:
    """A folder with what ``workflows`` workflows need."""

    folder: Path
    workflows: int

    @property
    def repository(self) -> Path:
        """Work tree of twinops with these workflows committed, and no others."""
        return self.folder / "repository"

    @property
    def peer_variables(self) -> Path:
        return self.folder / "peer.json"


def name(number: int) -> str:
    return f"workflow_{number:04d}"


def make(folder: Path, workflows: int) -> Workload:
    """Write the workload into a new ``folder``."""
    workload = Workload(folder, workflows)
    folder.mkdir(parents=True)
    specs = [
        {"name": name(i), "description": f"Workflow {i} of the benchmark.", "schedule": f"rate({2 + i % 20} hours)"}
        for i in range(1, workflows + 1)
    ]
    _make_repository(workload.repository, specs)
    _write_zip(folder / "code.zip", {"handler.py": HANDLER})
    _write_zip(folder / "layer.zip", {"python/layer_of_the_benchmark.py": "VERSION = 1\n"})
    digest = hashlib.sha256((folder / "layer.zip").read_bytes()).hexdigest()
    (folder / "layer.zip.sha256").write_text(digest)
    workload.peer_variables.write_text(json.dumps({"archives": str(folder), "workflows": specs}, indent=1))
    return workload


def _make_repository(root: Path, specs: list[dict[str, str]]) -> None:
    """A clone of this work tree's last commit, its workflows replaced by ``specs``, committed."""
    _git("clone", "--quiet", "--shared", str(CLONE), str(root))
    for committed in root.glob("workflows/*/workflow.yml"):
        shutil.rmtree(committed.parent)
    for spec in specs:
        folder = root / "workflows" / spec["name"]
        folder.mkdir()
        (folder / "workflow.yml").write_text(WORKFLOW.format_map(spec))
        (folder / "run.py").write_text("print('done')\n")
    _git("-C", str(root), "add", "--all")
    _git("-C", str(root), *AUTHOR, "commit", "--quiet", "--no-verify", "-m", f"{len(specs)} workflows")


def _write_zip(path: Path, files: Mapping[str, str]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in files.items():
            archive.writestr(zipfile.ZipInfo(member), text)  # ZipInfo's own time: same content, same bytes


def _git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True, timeout=GIT_TIMEOUT_S, stdin=subprocess.DEVNULL)
