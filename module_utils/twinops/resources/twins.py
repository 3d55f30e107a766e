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
    """``subnet`` and ``security_groups`` are names, empty for a notebook outside any VPC.

    Its script runs at once and needs its way out of the VPC, so all of the network comes first.
    """

    kind: ClassVar[str] = "notebook"
    keeps_work: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("role", "lifecycle_config", "route_table", "security_rules", "vpc_endpoint")
    immutable: ClassVar[frozenset[str]] = frozenset({"subnet", "security_groups", "direct_internet_access"})
    changed_while_stopped: ClassVar[frozenset[str]] = frozenset(
        {"role", "instance_type", "volume_size_gb", "lifecycle_config", "root_access", "imds_version"}
    )

    role: str
    instance_type: str
    volume_size_gb: int
    lifecycle_config: str
    root_access: bool
    imds_version: str
    subnet: str
    security_groups: tuple[str, ...]
    direct_internet_access: bool
    running: bool

    def obstacle(self, field_name: str, observed: Resource) -> str:
        is_shrunk = isinstance(observed, Notebook) and self.volume_size_gb < observed.volume_size_gb
        if field_name == "volume_size_gb" and is_shrunk:
            return "a volume can only grow"
        if field_name in self.immutable:
            return "AWS cannot move a notebook: save what people keep on it, delete it in SageMaker and rerun"
        return super().obstacle(field_name, observed)
