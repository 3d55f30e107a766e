"""The TUF repository of one environment, in memory: load what is published, change it, collect signatures, publish.

Roles: root (2 of 3) -> targets, which signs nothing itself but delegates ``<env>/current.json`` to ``<env>-current``
and everything else below ``<env>/`` to ``<env>``; snapshot and timestamp are online. What may be installed needs the
signatures of ``<env>``, in production of two people; which of that is current, also on the way back at night, one.

Snapshots are consistent: every file but ``timestamp.json`` carries its version or digest in its name, so a reader in
the middle of a publication still sees one consistent state.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Union

from securesystemslib.signer import Key  # type: ignore[attr-defined]
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (  # type: ignore[attr-defined]
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Role,
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
from . import keys as key_rules
from .keys import CURRENT, RELEASE, ROOT, SNAPSHOT, TARGETS, TIMESTAMP, KeyPlan, KeyRing, name_of

LIFETIME = {
    ROOT: timedelta(days=730),
    TARGETS: timedelta(days=730),
    RELEASE: timedelta(days=180),
    CURRENT: timedelta(days=180),
    SNAPSHOT: timedelta(days=60),
    TIMESTAMP: timedelta(days=30),
}
"""How long a signature is good for: how long an attacker who cuts devices off can pretend that nothing is new."""
RENEW_WITHIN = 0.5
"""Signed again when less than this share is left; so a fleet deployed to every two weeks never sees expiry."""

Target = Union[bytes, TargetFile]


def versioned(name: str, version: int) -> str:
    return f"metadata/{version}.{name}.json"


TIMESTAMP_PATH = "metadata/timestamp.json"
ROOT_PATH = "metadata/root.json"
"""The newest root under a fixed name: what a device is enrolled with. Only in copies of the repository."""


@dataclass(frozen=True)
class Signatures:
    """What a proposed role has of the signatures it needs: names of keys."""

    role: str
    signed: tuple[str, ...]
    unsigned: tuple[str, ...]
    threshold: int
    hint: str

    @property
    def is_enough(self) -> bool:
        return len(self.signed) >= self.threshold

    def __str__(self) -> str:
        have = f"{len(self.signed)} of {self.threshold} signatures"
        by = f" ({', '.join(self.signed)})" if self.signed else ""
        return f"{self.role}: {have}{by}, still to sign: {' or '.join(self.unsigned) or 'nobody else may'}{self.hint}"


@dataclass
class Repository:
    """Metadata of one environment. ``changed`` collects the roles that need a new version."""

    env: str
    keys: KeyRing
    now: datetime
    roles: dict[str, Metadata[Any]]
    changed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.published = copy.deepcopy(self.roles)
        """As devices see it; empty before the first publication."""

    # -- make or load ---------------------------------------------------------------------------------------------

    @classmethod
    def create(cls, env: str, keys: KeyRing, plan: KeyPlan, now: datetime) -> Repository:
        """Version 1 of everything. Needs the public keys of all roles; the signatures may come later."""
        repository = cls.empty(env, keys, now)
        repository.trust(plan)
        repository.changed.update(repository.signed_by_people)
        return repository

    @classmethod
    def empty(cls, env: str, keys: KeyRing, now: datetime) -> Repository:
        """A repository that trusts nobody yet, before :meth:`trust` or :meth:`adopt`."""
        repository = cls(env, keys, now, {})
        repository.roles = {
            "root": Metadata(Root(consistent_snapshot=True)),
            "targets": Metadata(Targets()),
            env: Metadata(Targets()),
            release.current_role(env): Metadata(Targets()),
            "snapshot": Metadata(Snapshot(meta={})),
            "timestamp": Metadata(Timestamp()),
        }
        return repository

    @classmethod
    def load(cls, env: str, keys: KeyRing, read: Callable[[str], bytes], now: datetime) -> Repository:
        """What is published. ``read`` returns the content of a path; ``metadata/root.json`` is the newest root.

        :raises TwinopsError: a file is missing or damaged, or was not signed by the roles that the root names
        """
        found = {"root": _read(ROOT_PATH, read)}
        timestamp = _read(TIMESTAMP_PATH, read)
        snapshot = _read(versioned("snapshot", timestamp.signed.snapshot_meta.version), read)
        for name in ("targets", env, release.current_role(env)):
            if f"{name}.json" not in snapshot.signed.meta:
                has = ", ".join(snapshot.signed.meta)
                raise TwinopsError(f"TUF repository: expected a role for {name}, it has {has}")
            found[name] = _read(versioned(name, snapshot.signed.meta[f"{name}.json"].version), read)
        repository = cls(env, keys, now, {**found, "snapshot": snapshot, "timestamp": timestamp})
        try:
            _verify(env, repository.roles)
        except RepositoryError as error:
            raise TwinopsError(
                f"TUF repository: not what these keys signed: {error}; expected our own metadata"
            ) from error
        return repository

    # -- ask ------------------------------------------------------------------------------------------------------

    @property
    def signed_by_people(self) -> tuple[str, ...]:
        """The roles whose signatures may have to come from several hosts; the others are signed at each publication."""
        return ("root", "targets", self.env, release.current_role(self.env))

    @property
    def targets(self) -> dict[str, TargetFile]:
        """path -> what is signed for the environment."""
        current = release.current_target(self.env)
        releases = {path: info for path, info in self._targets_of(self.env).items() if path != current}
        return {**releases, **self._targets_of(release.current_role(self.env))}

    def digest(self, target: str) -> str | None:
        """The signed SHA-256 of a target, or ``None``."""
        info = self.targets.get(target)
        return None if info is None else str(info.hashes["sha256"])

    def versions(self) -> dict[str, int]:
        return {name: metadata.signed.version for name, metadata in self.roles.items()}

    def keys_of(self, name: str, roles: Mapping[str, Metadata[Any]] | None = None) -> list[Key]:
        """The keys that may sign the metadata role ``name``."""
        root, delegations = (roles or self.roles)["root"].signed, (roles or self.roles)["targets"].signed.delegations
        if name in root.roles:
            return [root.keys[keyid] for keyid in root.roles[name].keyids]
        if delegations is None or name not in delegations.roles:
            return []
        return [delegations.keys[keyid] for keyid in delegations.roles[name].keyids]

    # -- change ---------------------------------------------------------------------------------------------------

    def put(self, targets: Mapping[str, Target]) -> None:
        """Have ``targets`` (path -> content, or what is known of it) signed; those signed already change nothing."""
        for path, target in targets.items():
            info = TargetFile.from_data(path, target, ["sha256"]) if isinstance(target, bytes) else target
            role = self._role_of(path)
            signed = self._targets_of(role)
            if path not in signed or signed[path] != info:
                signed[path] = info
                self.changed.add(role)

    def trust(self, plan: KeyPlan) -> None:
        """Have root and targets name exactly the keys of ``plan``; whoever loses or gains one signs again."""
        before = {name: {key.keyid for key in self.keys_of(name)} for name in self.roles}
        root, targets = self.roles["root"].signed, self.roles["targets"].signed
        rooted = {role: plan[role] for role in (ROOT, TARGETS, SNAPSHOT, TIMESTAMP)}
        public = {name: self.keys.public(name) for name in key_rules.all_keys(plan)}
        wanted_keys = {public[name].keyid: public[name] for of_role in rooted.values() for name in of_role.keys}
        wanted_roles = {
            role: Role([public[name].keyid for name in of_role.keys], of_role.threshold)
            for role, of_role in rooted.items()
        }
        if (root.keys, root.roles) != (wanted_keys, wanted_roles):
            root.keys, root.roles = wanted_keys, wanted_roles
            self.changed.add("root")
        delegations = self._delegations(plan, public)
        if targets.delegations != delegations:
            targets.delegations = delegations
            self.changed.add("targets")
        for name in (self.env, release.current_role(self.env), "targets"):
            if {key.keyid for key in self.keys_of(name)} != before[name]:
                self.changed.add(name)

    def _delegations(self, plan: KeyPlan, public: Mapping[str, Key]) -> Delegations:
        """``current`` comes first and ends the search: what the release role says about that path is never read."""
        rules = (
            (release.current_role(self.env), plan[CURRENT], [release.current_target(self.env)]),
            (self.env, plan[RELEASE], release.target_patterns(self.env)),
        )
        roles = {
            name: DelegatedRole(name, [public[key].keyid for key in of_role.keys], of_role.threshold, True, paths)
            for name, of_role, paths in rules
        }
        named = {key: public[key] for _, of_role, _ in rules for key in of_role.keys}
        return Delegations({key.keyid: key for key in named.values()}, roles)

    def renew(self, *, everything: bool = False) -> list[str]:
        """Mark what nears its expiry. Returns warnings about roles that this host cannot sign alone.

        With ``everything`` those are marked as well, so that others can sign them.
        """
        warnings = []
        signers = self.keys.signers()
        for name, metadata in self.published.items():
            if metadata.signed.expires - self.now > self._lifetime(name) * RENEW_WITHIN:
                continue
            here = [key for key in self.keys_of(name) if key.keyid in signers]
            if everything or len(here) >= self._threshold(name):
                self.changed.add(name)
            elif name not in self.changed:
                warnings.append(
                    f"TUF {name} expires on {metadata.signed.expires:%Y-%m-%d}; "
                    "propose it again with playbooks/keys.yml, and sign it where its keys are"
                )
        return warnings

    # -- sign -----------------------------------------------------------------------------------------------------

    def draft(self, pending: Mapping[str, Metadata[Any]]) -> dict[str, Metadata[Any]]:
        """The next version of what changed, with the signatures it has: those of ``pending`` and of the keys here."""
        drafts = {}
        signers = self.keys.signers()
        for name in [name for name in self.signed_by_people if name in self.changed]:
            metadata = self.roles[name]
            metadata.signed.version = self._next_version(name)
            metadata.signed.expires = self.now.replace(microsecond=0) + self._lifetime(name)
            metadata.signatures.clear()
            if name in pending and self._is_same(metadata, pending[name], self._lifetime(name)):
                self.roles[name] = metadata = copy.deepcopy(pending[name])
            drafts[name] = metadata
        for name, metadata in drafts.items():
            for keyid in self._may_sign(name):
                if keyid in signers and keyid not in metadata.signatures:
                    metadata.sign(signers[keyid], append=True)
        return drafts

    def adopt(self, pending: Mapping[str, Metadata[Any]]) -> None:
        """Make what others have proposed ours, where it follows what is published."""
        for name, metadata in pending.items():
            if name in self.signed_by_people and metadata.signed.version == self._next_version(name):
                self.roles[name] = copy.deepcopy(metadata)
                self.changed.add(name)

    @staticmethod
    def _is_same(wanted: Metadata[Any], pending: Metadata[Any], lifetime: timedelta) -> bool:
        """Whether signatures of ``pending`` serve as well: it says the same, and for long enough."""
        same = copy.deepcopy(wanted.signed)
        same.expires = pending.signed.expires
        return (
            bool(same == pending.signed) and wanted.signed.expires - pending.signed.expires <= lifetime * RENEW_WITHIN
        )

    def lacking(self, drafts: Mapping[str, Metadata[Any]]) -> list[Signatures]:
        """The drafts that have too few signatures, and whose they lack. A root also needs those of the root before."""
        states = []
        for name, metadata in drafts.items():
            delegators = [self.roles["targets" if name in (self.env, release.current_role(self.env)) else "root"]]
            if name == "root" and self._changes_root_keys():
                delegators.insert(0, self.published["root"])
            for delegator in delegators:
                result = delegator.signed.get_verification_result(name, metadata.signed_bytes, metadata.signatures)
                before = " by the keys of the root before" if delegator is not delegators[-1] else ""
                states.append(
                    Signatures(
                        role=f"{name}{before}",
                        signed=tuple(name_of(key) for key in result.signed.values()),
                        unsigned=tuple(name_of(key) for key in result.unsigned.values()),
                        threshold=result.threshold,
                        hint=self._hint(result.unsigned.values()),
                    )
                )
        return [state for state in states if not state.is_enough]

    def _changes_root_keys(self) -> bool:
        if not self.published:
            return False
        before, after = (roles["root"].signed.roles["root"] for roles in (self.published, self.roles))
        return bool(before != after)

    def _hint(self, unsigned: Iterable[Key]) -> str:
        """Where the keys that did not sign were looked for, and what was there."""
        others = [f"{self.keys.private_path(name_of(key))}" for key in unsigned if self.keys.has(name_of(key))]
        if others:
            return f" ({', '.join(others)} is another key; was this folder of keys made for another repository?)"
        return f" (not in {self.keys.folder})"

    def sign(self, pending: Mapping[str, Metadata[Any]] | None = None) -> list[tuple[str, bytes]]:
        """Publish what changed, each role one version up. Returns (path, content) in the order to write them.

        An interrupted publication stays invisible: ``timestamp.json``, the only file that is overwritten, is last.

        :raises TwinopsError: signatures are missing, or the online keys are not here
        """
        if not self.changed:
            return []
        drafts = self.draft(pending or {})
        lacking = self.lacking(drafts)
        if lacking:
            raise TwinopsError("; ".join(map(str, lacking)))
        return self.publication(drafts)

    def publication(self, drafts: Mapping[str, Metadata[Any]]) -> list[tuple[str, bytes]]:
        """The files of a publication of ``drafts``, which have their signatures, under a new snapshot and timestamp."""
        try:
            _verify(self.env, {name: self.roles[name] for name in self.signed_by_people})
        except RepositoryError as error:
            raise TwinopsError(
                f"TUF repository: after this publication devices would refuse it: {error}; "
                "expected each role to be signed by the keys that are trusted then"
            ) from error
        written = [(versioned(name, item.signed.version), item) for name, item in drafts.items() if name != "root"]
        snapshot, timestamp = self.roles["snapshot"], self.roles["timestamp"]
        delegated = [name for name in self.signed_by_people if name != "root"]
        snapshot.signed.meta = {f"{name}.json": MetaFile(self.roles[name].signed.version) for name in delegated}
        self._sign_online("snapshot")
        timestamp.signed.snapshot_meta = MetaFile(snapshot.signed.version)
        self._sign_online("timestamp")
        written.append((versioned("snapshot", snapshot.signed.version), snapshot))
        # Devices see a root as soon as it is there, and then refuse what its keys did not sign: as late as possible.
        written += [(versioned("root", item.signed.version), item) for name, item in drafts.items() if name == "root"]
        written.append((TIMESTAMP_PATH, timestamp))
        self.changed.clear()
        self.published = copy.deepcopy(self.roles)
        return [(path, serialized(metadata)) for path, metadata in written]

    def _sign_online(self, name: str) -> None:
        metadata, signers = self.roles[name], self.keys.signers()
        metadata.signed.version = self._next_version(name)
        metadata.signed.expires = self.now.replace(microsecond=0) + self._lifetime(name)
        metadata.signatures.clear()
        here = [key for key in self.keys_of(name) if key.keyid in signers]
        if len(here) < self._threshold(name):
            absent = next(key for key in self.keys_of(name) if key.keyid not in signers)
            path = self.keys.private_path(name_of(absent))
            if path.is_file():
                raise TwinopsError(
                    f"{path}: is not a key that may sign {name}; expected one of those that the "
                    "published root names. Was this folder of keys made for another repository?"
                )
            raise TwinopsError(
                key_rules.missing(path, "private key", f"openssl genpkey -algorithm ed25519 -out {path}")
            )
        for key in here:
            metadata.sign(signers[key.keyid], append=True)

    # -- within ---------------------------------------------------------------------------------------------------

    def _targets_of(self, role: str) -> dict[str, TargetFile]:
        targets: dict[str, TargetFile] = self.roles[role].signed.targets
        return targets

    def _role_of(self, path: str) -> str:
        return release.current_role(self.env) if path == release.current_target(self.env) else self.env

    def _next_version(self, name: str) -> int:
        return int(self.published[name].signed.version) + 1 if name in self.published else 1

    def _may_sign(self, name: str) -> list[str]:
        """Ids of the keys whose signature counts for the next version of ``name``."""
        before = self.keys_of(name, self.published) if name == "root" and self.published else []
        return list(dict.fromkeys(key.keyid for key in [*before, *self.keys_of(name)]))

    def _threshold(self, name: str) -> int:
        root, delegations = self.roles["root"].signed, self.roles["targets"].signed.delegations
        role = root.roles[name] if name in root.roles else delegations.roles[name]
        return int(role.threshold)

    def _lifetime(self, name: str) -> timedelta:
        return LIFETIME[{self.env: RELEASE, release.current_role(self.env): CURRENT}.get(name, name)]


def verify_roots(roots: list[bytes], pinned: bytes | None) -> None:
    """Each root has to be signed by the keys of the one before, and the pinned one has to be among them.

    :raises TwinopsError: somebody else has made one of them
    """
    try:
        chain = [Metadata.from_bytes(root) for root in roots]
        for before, root in zip(chain, chain[1:]):
            before.signed.verify_delegate("root", root.signed_bytes, root.signatures)
    except (RepositoryError, DeserializationError) as error:
        raise TwinopsError(
            f"TUF repository: a root that the one before did not sign: {error}; expected our own"
        ) from error
    if pinned is not None and pinned not in roots:
        raise TwinopsError("TUF repository: expected the root of trust that is pinned in git, the bucket has others")


def serialized(metadata: Metadata[Any]) -> bytes:
    return bytes(metadata.to_bytes(JSONSerializer(compact=True)))


def _read(path: str, read: Callable[[str], bytes]) -> Metadata[Any]:
    try:
        return Metadata.from_bytes(read(path))
    except DeserializationError as error:
        raise TwinopsError(f"TUF repository: {path} is damaged ({error}); expected what was published") from error


def _verify(env: str, roles: Mapping[str, Metadata[Any]]) -> None:
    """:raises RepositoryError: a role was not signed by enough of the keys that its delegator names"""
    delegated = (env, release.current_role(env))
    for name, metadata in roles.items():
        delegator = roles["targets" if name in delegated else "root"]
        delegator.signed.verify_delegate(name, metadata.signed_bytes, metadata.signatures)
