"""What a workflow's script is told about its run, and where it puts what it makes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from twinops import runs
from twinops.aws import session
from twinops.errors import TwinopsError


class ContextError(TwinopsError):
    """The script was not started as a run."""


@dataclass(frozen=True)
class Context:
    """A run as its script sees it (docs/interfaces.md, "On the twin")."""

    run_id: str
    git_sha: str
    started_at: str
    parameters: Mapping[str, Any]
    twin: Mapping[str, Any]
    """The content of ``twin.json``: env, buckets, data store."""
    output: Path
    """Folder of what is kept: report.html, summary.txt, metrics.json and anything else."""

    @property
    def started(self) -> datetime:
        """When the run started, in UTC."""
        return runs.parse(self.started_at)

    def client(self, service: str) -> Any:
        """A boto3 client with the twin's own credentials."""
        return session.client(service)


def load() -> Context:
    """The context of the run that started this process.

    :raises ContextError: the process was not started by ``run-once``
    """
    run, output = os.environ.get("TWINOPS_RUN"), os.environ.get("TWINOPS_OUTPUT")
    if not run or not output:
        raise ContextError("TWINOPS_RUN, TWINOPS_OUTPUT: expected a run, start one by playbooks/invoke.yml")
    content = json.loads(Path(run).read_text("utf-8"))
    fields = {name: content[name] for name in ("run_id", "git_sha", "started_at", "parameters", "twin")}
    return Context(**fields, output=Path(output))
