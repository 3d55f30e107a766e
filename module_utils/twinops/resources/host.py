"""The machine on which Airflow and Ansible run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from .base import Resource


@dataclass(frozen=True)
class InstanceProfile(Resource):
    """What gives an instance its role. Ours by its name: AWS lists profiles with their roles, and without tags."""

    kind: ClassVar[str] = "instance_profile"
    needs: ClassVar[tuple[str, ...]] = ("role",)
    taggable: ClassVar[bool] = False

    role: str


@dataclass(frozen=True)
class Instance(Resource):
    """``subnet``, ``security_groups`` and ``profile`` are names.

    ``image_parameter`` (of SSM, with the image's id) and ``user_data`` (a script) take effect on the first boot only:
    a newer image is no reason to lose a machine, so neither is compared.
    """

    kind: ClassVar[str] = "instance"
    keeps_work: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("instance_profile", "route_table", "security_rules", "vpc_endpoint")
    immutable: ClassVar[frozenset[str]] = frozenset({"subnet", "public_address", "volume_encrypted"})
    changed_while_stopped: ClassVar[frozenset[str]] = frozenset({"instance_type", "volume_size_gb"})

    instance_type: str
    subnet: str
    security_groups: tuple[str, ...]
    profile: str
    public_address: bool
    metadata_tokens: str
    metadata_hop_limit: int
    volume_type: str
    volume_size_gb: int
    volume_encrypted: bool
    running: bool
    image_parameter: str = field(default="", metadata={"owned": False})
    user_data: str = field(default="", metadata={"owned": False})

    def obstacle(self, field_name: str, observed: Resource) -> str:
        if field_name == "volume_size_gb" and self.volume_size_gb < getattr(observed, field_name):
            return "a volume can only grow"
        if field_name == "public_address":
            return "somebody attached an elastic IP: disassociate it in the EC2 console and rerun"
        if field_name in self.immutable:
            return "AWS cannot change it in place; save what is on it, terminate it in the EC2 console and rerun"
        return super().obstacle(field_name, observed)
