"""The machines on which workflows are written and run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import Resource


@dataclass(frozen=True)
class LifecycleConfig(Resource):
    """The script that a notebook instance runs when it starts; a change takes effect at the next start. No tags."""

    kind: ClassVar[str] = "lifecycle_config"
    taggable: ClassVar[bool] = False

    on_start: str


@dataclass(frozen=True)
class Notebook(Resource):
    kind: ClassVar[str] = "notebook"
    needs: ClassVar[tuple[str, ...]] = ("role", "lifecycle_config")
    immutable: ClassVar[frozenset[str]] = frozenset({"direct_internet_access"})
    changed_while_stopped: ClassVar[frozenset[str]] = frozenset(
        {"role", "instance_type", "volume_size_gb", "lifecycle_config", "root_access", "imds_version"}
    )

    role: str
    instance_type: str
    volume_size_gb: int
    lifecycle_config: str
    root_access: bool
    imds_version: str
    direct_internet_access: bool
    running: bool

    def obstacle(self, field_name: str, observed: Resource) -> str:
        is_shrunk = isinstance(observed, Notebook) and self.volume_size_gb < observed.volume_size_gb
        if field_name == "volume_size_gb" and is_shrunk:
            return "a volume can only grow"
        return super().obstacle(field_name, observed)
