"""Who may do what: IAM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from ..names import OWNER, OWNER_TAG
from .base import Json, Resource


@dataclass(frozen=True)
class OidcProvider(Resource):
    """Whose tokens may be exchanged for keys of a role. ``name`` is the issuer's URL without ``https://``.

    ``audiences`` are the values of a token's ``aud`` that the account accepts.
    """

    kind: ClassVar[str] = "oidc_provider"

    audiences: tuple[str, ...]

    def obstacle(self, name: str, observed: Resource) -> str:
        """An account has one provider for an issuer. One that others made has their audiences, which must stay."""
        theirs = name == "audiences" and observed.tags.get(OWNER_TAG) != OWNER
        return "somebody else made it: set manage_provider: false" if theirs else super().obstacle(name, observed)


@dataclass(frozen=True)
class ManagedPolicy(Resource):
    """A policy that can be attached to several roles, or bound them. AWS keeps its last five versions.

    ``description`` is set on creation only: AWS cannot change it.
    """

    kind: ClassVar[str] = "managed_policy"

    document: Json
    description: str = field(default="", metadata={"owned": False})


@dataclass(frozen=True)
class Role(Resource):
    """An IAM role. All its policies are owned: one that somebody adds by hand is a difference.

    ``policies``: inline policies by name; ``attached``: ARNs of managed ones; ``boundary``: ARN, or empty;
    ``session_s``: for how many seconds at most somebody may assume it (3600-43200).
    """

    kind: ClassVar[str] = "role"
    needs: ClassVar[tuple[str, ...]] = ("oidc_provider", "managed_policy")

    trust: Json
    policies: Mapping[str, Json]
    attached: tuple[str, ...] = ()
    boundary: str = ""
    session_s: int = 3600
    description: str = ""
