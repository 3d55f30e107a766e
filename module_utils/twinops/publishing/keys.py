"""Signing keys: one Ed25519 key a file, ``<name>.pem`` private and ``<name>.pub`` public; and who may sign what.

Names are for people. What counts is the key itself: a role is signed by every private key in the folder that the
published metadata names for it. So a key is replaced by one of another name, and nobody has to rename files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from securesystemslib.signer import CryptoSigner, Key, SSlibKey  # type: ignore[attr-defined]

from ..errors import SpecError, TwinopsError

ROOT, TARGETS, RELEASE, CURRENT, SNAPSHOT, TIMESTAMP = "root", "targets", "release", "current", "snapshot", "timestamp"
ROLES = (ROOT, TARGETS, RELEASE, CURRENT, SNAPSHOT, TIMESTAMP)
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")
NAME_FIELD = "x-twinops-name"
"""Where the metadata keeps the name of a key, so that a message can say who has to sign."""


PINNED_ROOT = "root.json"


@dataclass(frozen=True)
class RoleKeys:
    """Which keys may sign a role, by name, and how many of them have to."""

    keys: tuple[str, ...]
    threshold: int


KeyPlan = Mapping[str, RoleKeys]
"""Role -> its keys, for each of :data:`ROLES`. ``release`` says what may be installed, ``current`` what is."""


def key_plan(env: str, threshold: int, data: Mapping[str, Any] | None = None) -> KeyPlan:
    """The keys of an environment: those that ``data`` (``edge_release_key_roles``) names, else the usual ones.

    ``threshold`` is how many keys sign a release where ``data`` does not say it.

    :raises SpecError: unknown roles, or a threshold that its keys cannot reach
    """
    plan = {
        ROOT: RoleKeys(("root-1", "root-2", "root-3"), 2),
        TARGETS: RoleKeys(("targets-1",), 1),
        RELEASE: RoleKeys(tuple(f"{env}-{number}" for number in range(1, threshold + 1)), threshold),
        CURRENT: RoleKeys((f"{env}-1",), 1),
        SNAPSHOT: RoleKeys(("snapshot-1",), 1),
        TIMESTAMP: RoleKeys(("timestamp-1",), 1),
    }
    mistakes = []
    for role, wanted in (data or {}).items():
        where = f"edge_release_key_roles: {role}"
        if role not in ROLES:
            mistakes.append(f"{where}: unknown role, expected one of {', '.join(ROLES)}")
            continue
        found = _role_mistakes(wanted, where)
        mistakes += found
        if not found:
            plan[role] = RoleKeys(tuple(wanted["keys"]), int(wanted["threshold"]))
    if mistakes:
        raise SpecError(mistakes)
    return plan


def _role_mistakes(wanted: Any, where: str) -> list[str]:
    if not isinstance(wanted, Mapping) or set(wanted) != {"keys", "threshold"}:
        return [f"{where}: expected a mapping with keys and threshold, got {wanted!r:.80}"]
    names = wanted["keys"]
    if not isinstance(names, list) or not all(isinstance(name, str) and NAME.fullmatch(name) for name in names):
        return [f"{where}.keys: expected names of lower-case letters, digits and '-', got {names!r:.80}"]
    if len(set(names)) != len(names):
        return [f"{where}.keys: expected each name once, got {', '.join(names)}"]
    threshold = wanted["threshold"]
    if not isinstance(threshold, int) or isinstance(threshold, bool) or not 1 <= threshold <= len(names):
        return [f"{where}.threshold: expected 1–{len(names)}, as many as there are keys, got {threshold!r}"]
    return []


def all_keys(plan: KeyPlan) -> tuple[str, ...]:
    """The names of all keys of ``plan``, each once."""
    return tuple(dict.fromkeys(name for role in ROLES for name in plan[role].keys))


def name_of(key: Key) -> str:
    """What people call a key: its name in the metadata, else the beginning of its id."""
    return str(key.unrecognized_fields.get(NAME_FIELD) or key.keyid[:8])


class KeyRing:
    """The keys in one folder. Private keys never leave it, and are never in a message.

    ``public_folder`` has public keys of other people too, such as ``edge/keys/<env>`` in git.
    """

    def __init__(self, folder: Path, public_folder: Path | None = None) -> None:
        self.folder = folder
        self.public_folder = public_folder or folder

    def generate(self, names: Iterable[str]) -> list[str]:
        """Make the keys that are missing. Returns their names.

        A private key whose public part is missing, because the first attempt was interrupted, gets it now.

        :raises TwinopsError: a public key is known whose private part is not here: it is somebody else's
        """
        made = []
        for name in names:
            if self.private_path(name).is_file():
                if not self._public(name).is_file():
                    self._write_public(name, self._private_key(name))
                    made.append(name)
                continue
            if self._public(name).is_file():
                raise TwinopsError(
                    f"{self._public(name)}: {name} was made before, and its private part is not in {self.folder}; "
                    "expected a new name: a key is replaced, never made twice"
                )
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            key = Ed25519PrivateKey.generate()
            private = key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            self._write(self.private_path(name), private, 0o600)
            self._write_public(name, key)
            made.append(name)
        return made

    def has(self, name: str) -> bool:
        """Whether there is a private key of that name on this host."""
        return self.private_path(name).is_file()

    def signers(self) -> dict[str, CryptoSigner]:
        """Key id -> what signs with it, for every private key in the folder.

        :raises TwinopsError: a file is not an Ed25519 key
        """
        found = [CryptoSigner(self._private_key(path.stem)) for path in sorted(self.folder.glob("*.pem"))]
        return {signer.public_key.keyid: signer for signer in found}

    def public(self, name: str) -> SSlibKey:
        """The public key, with its name in it.

        :raises TwinopsError: the public key is missing or is not an Ed25519 key
        """
        path = self._public(name)
        try:
            key = serialization.load_pem_public_key(path.read_bytes())
        except FileNotFoundError as error:
            how = f"openssl pkey -in {self.private_path(name)} -pubout -out {path}"
            raise TwinopsError(missing(path, "public key", how)) from error
        except (ValueError, UnsupportedAlgorithm) as error:
            raise TwinopsError(f"{path}: expected an Ed25519 public key in PEM, got {error}") from error
        if not isinstance(key, Ed25519PublicKey):
            raise TwinopsError(f"{path}: expected an Ed25519 public key, got {type(key).__name__}")
        named = SSlibKey.from_crypto(key)
        named.unrecognized_fields[NAME_FIELD] = name
        return named

    def pinned_root(self) -> bytes | None:
        """The root of trust in git, beside the public keys, with which devices are enrolled; ``None`` before the first.

        Where public and private keys share a folder, nothing is in git, and nothing is pinned.
        """
        path = self.public_folder / PINNED_ROOT
        return path.read_bytes() if path.is_file() and self.public_folder != self.folder else None

    def pin_root(self, content: bytes) -> bool:
        """Keep the root of trust beside the public keys, to be committed; whether it is new."""
        if self.public_folder == self.folder or self.pinned_root() == content:
            return False
        self.public_folder.mkdir(parents=True, exist_ok=True)
        self._write(self.public_folder / PINNED_ROOT, content, 0o644)
        return True

    def private_path(self, name: str) -> Path:
        return self.folder / f"{name}.pem"

    def _private_key(self, name: str) -> Ed25519PrivateKey:
        path = self.private_path(name)
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise TwinopsError(f"{path}: expected an unencrypted Ed25519 private key in PEM, got {error}") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise TwinopsError(f"{path}: expected an Ed25519 private key, got {type(key).__name__}")
        return key

    def _public(self, name: str) -> Path:
        """Where the public key is, or belongs: what git says goes before what lies beside the private one."""
        beside = self.folder / f"{name}.pub"
        shared = self.public_folder / f"{name}.pub"
        return beside if beside.is_file() and not shared.is_file() else shared

    def _write_public(self, name: str, key: Ed25519PrivateKey) -> None:
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.public_folder.mkdir(parents=True, exist_ok=True)
        self._write(self.public_folder / f"{name}.pub", public, 0o644)

    @staticmethod
    def _write(path: Path, content: bytes, mode: int) -> None:
        temporary = path.with_name(f".{path.name}.new")
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


def missing(path: Path, kind: str, how: str) -> str:
    return (
        f"{path}: expected the {kind} {path.stem}, found none; "
        f"fetch it from where your keys are kept, or make it: {how}"
    )
