"""What shows how workflows are doing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import Resource


@dataclass(frozen=True)
class LogGroup(Resource):
    kind: ClassVar[str] = "log_group"

    retention_days: int
