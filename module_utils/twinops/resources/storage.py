"""Where data is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from .base import Json, Resource


@dataclass(frozen=True)
class Bucket(Resource):
    """An S3 bucket. ``encryption``: AES256, or aws:kms with the key of name ``key``."""

    kind: ClassVar[str] = "bucket"
    needs: ClassVar[tuple[str, ...]] = ("key",)
    data: ClassVar[bool] = True

    versioning: str
    encryption: str
    key: str
    public_access_blocked: bool
    policy: Json
    lifecycle: tuple[Json, ...]


@dataclass(frozen=True)
class Table(Resource):
    """A DynamoDB table, paid per request. ``key`` and the keys of ``indexes`` are attribute names (all strings)."""

    kind: ClassVar[str] = "table"
    data: ClassVar[bool] = True
    immutable: ClassVar[frozenset[str]] = frozenset({"key"})

    key: tuple[str, ...]
    indexes: Mapping[str, tuple[str, ...]]
    billing: str
    point_in_time_recovery: bool
