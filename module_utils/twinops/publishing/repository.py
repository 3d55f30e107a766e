"""The TUF repository of one environment, in memory: load what is published, add targets, sign what changed.

Roles: root (2 of 3) -> targets, which signs nothing itself but delegates ``<env>/*`` to the environment's keys;
snapshot and timestamp are online. Snapshots are consistent: every file but ``timestamp.json`` carries its version or
digest in its name, so a reader in the middle of a publication still sees one consistent state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from securesystemslib.signer import Key  # type: ignore[attr-defined]
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (  # type: ignore[attr-defined]
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError
from tuf.api.serialization.json import JSONSerializer

from .. import release
from ..errors import TwinopsError
from .keys import ROOT_KEYS, ROOT_THRESHOLD, SNAPSHOT_KEY, TARGETS_KEY, TIMESTAMP_KEY, KeyRing, environment_keys

LIFETIME = {
    "root": timedelta(days=730),
    "targets": timedelta(days=730),
    "environment": timedelta(days=180),
    "snapshot": timedelta(days=60),
    "timestamp": timedelta(days=30),
}
"""How long a signature is good for: how long an attacker who cuts devices off can pretend that nothing is new."""
RENEW_WITHIN = 0.5
"""Signed again when less than this share is left; so a fleet deployed to every two weeks never sees expiry."""


def versioned(name: str, version: int) -> str:
    return f"metadata/{version}.{name}.json"


TIMESTAMP_PATH = "metadata/timestamp.json"
ROOT_PATH = "metadata/root.json"
"""The newest root under a fixed name: what a device is enrolled with. Only in copies of the repository."""


@dataclass
class Repository:
    """Metadata of one environment. ``changed`` collects the roles to sign; nothing is signed twice."""

    env: str
    keys: KeyRing
    now: datetime
    roles: dict[str, Metadata[Any]]
    changed: set[str] = field(default_factory=set)

    # -- make or load ---------------------------------------------------------------------------------------------

    @classmethod
    def create(cls, env: str, keys: KeyRing, threshold: int, now: datetime) -> Repository:
        """Version 1 of everything. Needs the public keys of all roles and two private root keys."""
        root = Root(consistent_snapshot=True)
        for name in ROOT_KEYS:
            root.add_key(keys.public(name), "root")
        root.roles["root"].threshold = ROOT_THRESHOLD
        root.add_key(keys.public(TARGETS_KEY), "targets")
        root.add_key(keys.public(SNAPSHOT_KEY), "snapshot")
        root.add_key(keys.public(TIMESTAMP_KEY), "timestamp")
        signers = [keys.public(name) for name in environment_keys(env, threshold)]
        role = DelegatedRole(env, [key.keyid for key in signers], threshold, True, release.target_patterns(env))
        targets = Targets(delegations=Delegations({key.keyid: key for key in signers}, {env: role}))
        roles: dict[str, Metadata[Any]] = {
            "root": Metadata(root),
            "targets": Metadata(targets),
            env: Metadata(Targets()),
            "snapshot": Metadata(Snapshot(meta={})),
            "timestamp": Metadata(Timestamp()),
        }
        for metadata in roles.values():
            metadata.signed.version = 0  # the first signature makes it 1
        return cls(env, keys, now, roles, set(roles))

    @classmethod
    def load(cls, env: str, keys: KeyRing, read: Callable[[str], bytes], now: datetime) -> Repository:
        """What is published. ``read`` returns the content of a path; ``metadata/root.json`` is the newest root.

        :raises TwinopsError: a file is missing or damaged, or was not signed by the roles that the root names
        """
        repository = cls(env, keys, now, {})
        repository._read("root", ROOT_PATH, read)
        timestamp = repository._read("timestamp", TIMESTAMP_PATH, read).signed
        snapshot = repository._read("snapshot", versioned("snapshot", timestamp.snapshot_meta.version), read).signed
        for name in ("targets", env):
            if f"{name}.json" not in snapshot.meta:
                raise TwinopsError(f"TUF repository: expected a role for {name}, it has {', '.join(snapshot.meta)}")
            repository._read(name, versioned(name, snapshot.meta[f"{name}.json"].version), read)
        repository._verify()
        return repository

    def _read(self, name: str, path: str, read: Callable[[str], bytes]) -> Metadata[Any]:
        try:
            self.roles[name] = Metadata.from_bytes(read(path))
        except DeserializationError as error:
            raise TwinopsError(f"TUF repository: {path} is damaged ({error}); expected what was published") from error
        return self.roles[name]

    def _verify(self) -> None:
        delegators = {"root": "root", "targets": "root", "snapshot": "root", "timestamp": "root", self.env: "targets"}
        try:
            for name, delegator in delegators.items():
                metadata = self.roles[name]
                self.roles[delegator].signed.verify_delegate(name, metadata.signed_bytes, metadata.signatures)
        except RepositoryError as error:
            raise TwinopsError(
                f"TUF repository: not what these keys signed: {error}; expected our own metadata"
            ) from error

    # -- ask ------------------------------------------------------------------------------------------------------

    @property
    def targets(self) -> dict[str, TargetFile]:
        """path -> what is signed for the environment."""
        return dict(self.roles[self.env].signed.targets)

    def digest(self, target: str) -> str | None:
        """The signed SHA-256 of a target, or ``None``."""
        info = self.targets.get(target)
        return None if info is None else str(info.hashes["sha256"])

    def versions(self) -> dict[str, int]:
        return {name: metadata.signed.version for name, metadata in self.roles.items()}

    # -- change ---------------------------------------------------------------------------------------------------

    def put(self, targets: Mapping[str, bytes]) -> None:
        """Sign ``targets`` (path -> content) for the environment; those signed already change nothing."""
        signed = self.roles[self.env].signed.targets
        for path, content in targets.items():
            info = TargetFile.from_data(path, content, ["sha256"])
            if path not in signed or signed[path] != info:
                signed[path] = info
                self.changed.add(self.env)

    def renew(self) -> list[str]:
        """Mark what nears its expiry. Returns warnings about roles whose keys are not on this host."""
        warnings = []
        for name, metadata in self.roles.items():
            lifetime = LIFETIME.get(name, LIFETIME["environment"])
            if metadata.signed.expires - self.now > lifetime * RENEW_WITHIN:
                continue
            if all(self.keys.has(key) for key in self._signer_names(name)):
                self.changed.add(name)
            elif name not in self.changed:
                warnings.append(f"TUF {name} expires on {metadata.signed.expires:%Y-%m-%d}; sign it where its keys are")
        return warnings

    def sign(self) -> list[tuple[str, bytes]]:
        """Sign what changed, each role one version up. Returns (path, content) in the order to write them.

        An interrupted publication stays invisible: ``timestamp.json``, the only file that is overwritten, is last.
        """
        if not self.changed:
            return []
        written = [self._sign(name) for name in ("root", "targets", self.env) if name in self.changed]
        snapshot = self.roles["snapshot"].signed
        snapshot.meta = {f"{name}.json": MetaFile(self.roles[name].signed.version) for name in ("targets", self.env)}
        written.append(self._sign("snapshot"))
        self.roles["timestamp"].signed.snapshot_meta = MetaFile(snapshot.version)
        written.append(self._sign("timestamp"))
        self.changed.clear()
        return written

    def _sign(self, name: str) -> tuple[str, bytes]:
        metadata = self.roles[name]
        metadata.signed.version += 1
        lifetime = LIFETIME.get(name, LIFETIME["environment"])
        metadata.signed.expires = self.now.replace(microsecond=0) + lifetime
        signers = [self.keys.signer(key) for key in self._signer_names(name)]
        for key, signer in zip(self._signer_names(name), signers):
            self._require_trusted(name, key, signer.public_key)
        metadata.signatures.clear()
        for signer in signers:
            metadata.sign(signer, append=True)
        path = TIMESTAMP_PATH if name == "timestamp" else versioned(name, metadata.signed.version)
        return path, metadata.to_bytes(JSONSerializer(compact=True))

    def _signer_names(self, name: str) -> tuple[str, ...]:
        """The keys that sign a role; of the root keys, two that are here."""
        if name == "root":
            here = [key for key in ROOT_KEYS if self.keys.has(key)]
            return tuple(here[:ROOT_THRESHOLD]) if len(here) >= ROOT_THRESHOLD else ROOT_KEYS[:ROOT_THRESHOLD]
        if name == self.env:
            return environment_keys(self.env, self._role(name).threshold)
        return (f"{name}-1",)

    def _role(self, name: str) -> Any:
        if name == self.env:
            return self.roles["targets"].signed.delegations.roles[name]
        return self.roles["root"].signed.roles[name]

    def _require_trusted(self, role: str, key: str, public: Key) -> None:
        if public.keyid not in self._role(role).keyids:
            raise TwinopsError(
                f"{self.keys.folder}/{key}.pem: is not a key that may sign {role}; expected one of those that the "
                "published root names. Was this folder of keys made for another repository?"
            )
