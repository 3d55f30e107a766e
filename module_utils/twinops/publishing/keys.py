"""Signing keys: one Ed25519 key a file, ``<name>.pem`` private and ``<name>.pub`` public.

Names: ``root-1 root-2 root-3`` (offline, two of three sign), ``targets-1`` (offline), ``snapshot-1`` and
``timestamp-1`` (online), and ``<env>-1 .. <env>-<threshold>`` (who may release to the environment).
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]

from ..errors import TwinopsError

ROOT_KEYS = ("root-1", "root-2", "root-3")
ROOT_THRESHOLD = 2
TARGETS_KEY = "targets-1"
SNAPSHOT_KEY = "snapshot-1"
TIMESTAMP_KEY = "timestamp-1"


def environment_keys(env: str, threshold: int) -> tuple[str, ...]:
    """All of them sign: with two, no single host can release."""
    return tuple(f"{env}-{number}" for number in range(1, threshold + 1))


class KeyRing:
    """The keys in one folder. Private keys never leave it, and are never in a message."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def generate(self, names: tuple[str, ...]) -> list[str]:
        """Make the keys that are missing (development only: all of them on one disk). Returns their names."""
        missing = [name for name in names if not self._private(name).is_file()]
        if missing:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in missing:
            key = Ed25519PrivateKey.generate()
            public = key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            private = key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            self._write(self._public(name), public, 0o644)
            self._write(self._private(name), private, 0o600)
        return missing

    def has(self, name: str) -> bool:
        """Whether this host can sign with the key."""
        return self._private(name).is_file()

    def signer(self, name: str) -> CryptoSigner:
        """:raises TwinopsError: the private key is missing or is not an Ed25519 key"""
        path = self._private(name)
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except FileNotFoundError as error:
            raise TwinopsError(
                _missing(path, "private key", f"openssl genpkey -algorithm ed25519 -out {path}")
            ) from error
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise TwinopsError(f"{path}: expected an unencrypted Ed25519 private key in PEM, got {error}") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise TwinopsError(f"{path}: expected an Ed25519 private key, got {type(key).__name__}")
        return CryptoSigner(key)

    def public(self, name: str) -> SSlibKey:
        """:raises TwinopsError: the public key is missing or is not an Ed25519 key"""
        path = self._public(name)
        try:
            key = serialization.load_pem_public_key(path.read_bytes())
        except FileNotFoundError as error:
            how = f"openssl pkey -in {self._private(name)} -pubout -out {path}"
            raise TwinopsError(_missing(path, "public key", how)) from error
        except (ValueError, UnsupportedAlgorithm) as error:
            raise TwinopsError(f"{path}: expected an Ed25519 public key in PEM, got {error}") from error
        if not isinstance(key, Ed25519PublicKey):
            raise TwinopsError(f"{path}: expected an Ed25519 public key, got {type(key).__name__}")
        return SSlibKey.from_crypto(key)

    def _private(self, name: str) -> Path:
        return self.folder / f"{name}.pem"

    def _public(self, name: str) -> Path:
        return self.folder / f"{name}.pub"

    @staticmethod
    def _write(path: Path, content: bytes, mode: int) -> None:
        temporary = path.with_name(f".{path.name}.new")
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        temporary.replace(path)


def _missing(path: Path, kind: str, how: str) -> str:
    return (
        f"{path}: expected the {kind} {path.stem}, found none; "
        f"fetch it from where your keys are kept, or make it: {how}"
    )
