"""How people are told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from .base import Resource


@dataclass(frozen=True)
class Topic(Resource):
    """An SNS topic. ``unconfirmed`` (observed only) are addresses in ``mail_to`` whose owner has not agreed yet."""

    kind: ClassVar[str] = "topic"

    mail_to: tuple[str, ...]
    unconfirmed: tuple[str, ...] = field(default=(), metadata={"owned": False})

    def differs(self, field_name: str, observed: Resource) -> bool:
        """AWS cannot remove an unconfirmed address, it forgets it after some days: such a leftover is no difference."""
        if field_name == "mail_to" and isinstance(observed, Topic):
            return set(self.mail_to) != set(observed.mail_to) - (set(observed.unconfirmed) - set(self.mail_to))
        return super().differs(field_name, observed)
