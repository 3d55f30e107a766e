"""Who may do what: IAM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from .base import Json, Resource


@dataclass(frozen=True)
class Role(Resource):
    """An IAM role. All its policies are owned: one that somebody adds by hand is a difference.

    ``policies``: inline policies by name; ``attached``: ARNs of managed ones; ``boundary``: ARN, or empty.
    ``description`` is set on creation only: AWS does not list it where it lists the rest.
    """

    kind: ClassVar[str] = "role"

    trust: Json
    policies: Mapping[str, Json]
    attached: tuple[str, ...] = ()
    boundary: str = ""
    description: str = field(default="", metadata={"owned": False})
