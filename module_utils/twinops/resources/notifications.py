"""How people are told, and the key that what they are told is encrypted with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from .base import Json, Resource


@dataclass(frozen=True)
class Key(Resource):
    """A customer-managed KMS key, known by its alias ``alias/<name>``; ``aliased`` is false where that is not so.

    ``enabled`` is false also while it waits for its deletion. Without it, what it encrypted is lost: it is ``data``.
    """

    kind: ClassVar[str] = "key"
    data: ClassVar[bool] = True

    description: str
    aliased: bool
    enabled: bool
    rotated: bool
    policy: Json


@dataclass(frozen=True)
class Topic(Resource):
    """An SNS topic, encrypted with the key of name ``key`` (empty: not encrypted).

    ``unconfirmed`` (observed only) are addresses in ``mail_to`` whose owner has not agreed yet.
    """

    kind: ClassVar[str] = "topic"
    needs: ClassVar[tuple[str, ...]] = ("key",)

    mail_to: tuple[str, ...]
    policy: Json
    key: str
    unconfirmed: tuple[str, ...] = field(default=(), metadata={"owned": False})

    def differs(self, field_name: str, observed: Resource) -> bool:
        """AWS cannot remove an unconfirmed address, it forgets it after some days: such a leftover is no difference."""
        if field_name == "mail_to" and isinstance(observed, Topic):
            return set(self.mail_to) != set(observed.mail_to) - (set(observed.unconfirmed) - set(self.mail_to))
        return super().differs(field_name, observed)
