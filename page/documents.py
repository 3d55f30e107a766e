"""Status documents, read from files: what cannot be read becomes a sentence on the page."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCHEMA = 1


@dataclass(frozen=True)
class Environment:
    """An environment of the page: its document, or why there is none."""

    name: str
    document: dict[str, Any] = field(default_factory=dict)
    problem: str = ""

    @property
    def tone(self) -> str:
        return "act" if self.problem else str(self.document["answer"]["tone"])


def load(folder: Path, name: str) -> Environment:
    """The document ``<folder>/<name>.json``. Never raises for what may be wrong with it: ``problem`` says it.

    Where reading the environment failed, the job has left the reason in ``<folder>/<name>.problem``.
    """
    path, reason = folder / f"{name}.json", folder / f"{name}.problem"
    if reason.exists():
        return Environment(name, problem=reason.read_text("utf-8", errors="replace").strip())
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        return Environment(name, problem=f"{path.name}: {error.strerror}; expected what `make page` writes")
    except ValueError as error:
        return Environment(name, problem=f"{path.name}: expected JSON: {error}")
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        got = document.get("schema") if isinstance(document, dict) else type(document).__name__
        return Environment(name, problem=f"{path.name}: schema: expected {SCHEMA}, got {got!r}")
    if document.get("env") != name:
        return Environment(name, problem=f"{path.name}: env: expected {name}, got {document.get('env')!r}")
    return Environment(name, document)
