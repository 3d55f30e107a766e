"""Proposals that wait for signatures: ``pending/<role>.json``, and each signature in a file of its own.

So people on different hosts, also at once, never overwrite each other's signatures. Nothing here is believed: a
signature counts when it verifies, a proposal when its role has enough of them. What is left of an earlier proposal is
ignored, because it signs other bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from securesystemslib.signer import Signature  # type: ignore[attr-defined]
from tuf.api.metadata import Metadata
from tuf.api.serialization import DeserializationError

from .. import release
from .repository import serialized

FOLDER = "pending/"


def read(paths: Iterable[str], get: Callable[[str], bytes]) -> dict[str, Metadata[Any]]:
    """Role -> what is proposed for it, with the signatures that were given to exactly that."""
    names = sorted(path for path in paths if path.startswith(FOLDER) and path.endswith(".json"))
    proposals: dict[str, Metadata[Any]] = {}
    for path in [path for path in names if path.count("/") == 1]:
        try:
            proposals[path[len(FOLDER) : -len(".json")]] = Metadata.from_bytes(get(path))
        except DeserializationError:
            continue  # nobody can sign it; whoever proposed it writes it again
    for path in [path for path in names if path.count("/") == 2]:
        role = path.split("/")[1]
        if role in proposals:
            _add_signature(proposals[role], get(path))
    return proposals


def _add_signature(proposal: Metadata[Any], content: bytes) -> None:
    try:
        given = json.loads(content)
        if given["signs"] == digest(proposal):
            proposal.signatures[given["keyid"]] = Signature(given["keyid"], given["sig"])
    except (ValueError, KeyError, TypeError):
        return  # not a signature


def files(drafts: Mapping[str, Metadata[Any]]) -> dict[str, bytes]:
    """Path -> content of the proposals and all their signatures."""
    written = {}
    for role, draft in drafts.items():
        bare: Metadata[Any] = Metadata(draft.signed)
        written[f"{FOLDER}{role}.json"] = serialized(bare)
        for keyid, signature in draft.signatures.items():
            given = {"signs": digest(draft), "keyid": keyid, "sig": signature.signature}
            written[f"{FOLDER}{role}/{keyid}.json"] = release.as_json_bytes(given)
    return written


def digest(proposal: Metadata[Any]) -> str:
    """SHA-256 of the bytes that are signed."""
    return release.sha256(proposal.signed_bytes)


def digest_of_all(proposals: Mapping[str, Metadata[Any]]) -> str:
    """One digest for what a person is asked to sign: 16 hexadecimal digits that change when anything of it does."""
    return release.sha256(release.as_json_bytes({role: digest(item) for role, item in proposals.items()}))[:16]
