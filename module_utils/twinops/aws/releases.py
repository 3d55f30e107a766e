"""Publishes releases: the TUF repository in ``s3://<models>/tuf/``, with a copy on this disk to push to devices from.

The bucket is the truth. Every publication starts from what it holds, uploads files first and ``timestamp.json`` last,
and updates the copy only afterwards; so one that was interrupted is simply done again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from tuf.api.metadata import Metadata

from .. import release
from ..errors import TwinopsError
from ..publishing import delivery, pending
from ..publishing.exchange import Folder
from ..publishing.keys import KeyPlan, KeyRing
from ..publishing.repository import ROOT_PATH, TIMESTAMP_PATH, Repository, Signatures, Target, verify_roots, versioned

PREFIX = "tuf/"
PARALLEL_CALLS = 8


class Bucket:
    """Objects below ``tuf/`` of one bucket. Counts its calls."""

    def __init__(self, name: str, client: Any) -> None:
        self.name = name
        self.calls = 0
        self._client = client

    def list(self) -> dict[str, int] | None:
        """path -> size in bytes of everything published; ``None`` when there is no such bucket."""
        found: dict[str, int] = {}
        request = {"Bucket": self.name, "Prefix": PREFIX}
        while True:
            try:
                page = self._call("list_objects_v2", **request)
            except ClientError as error:
                if error.response["Error"]["Code"] in ("NoSuchBucket", "404"):
                    return None
                raise self._error("ListObjectsV2", PREFIX, error) from error
            found.update({item["Key"][len(PREFIX) :]: item["Size"] for item in page.get("Contents", ())})
            if not page.get("IsTruncated"):
                return found
            request["ContinuationToken"] = page["NextContinuationToken"]

    def get(self, path: str) -> bytes:
        try:
            return bytes(self._call("get_object", Bucket=self.name, Key=PREFIX + path)["Body"].read())
        except (ClientError, BotoCoreError) as error:
            raise self._error("GetObject", path, error) from error

    def put(self, path: str, content: bytes) -> None:
        kind = "application/json" if path.endswith(".json") else "application/octet-stream"
        try:
            self._call("put_object", Bucket=self.name, Key=PREFIX + path, Body=content, ContentType=kind)
        except (ClientError, BotoCoreError) as error:
            raise self._error("PutObject", path, error) from error

    def _call(self, operation: str, **request: Any) -> dict[str, Any]:
        self.calls += 1
        return dict(getattr(self._client, operation)(**request))

    def _error(self, operation: str, path: str, error: Exception) -> TwinopsError:
        return TwinopsError(f"s3://{self.name}/{PREFIX}{path}: {operation}: {error}")


@dataclass(frozen=True)
class Publication:
    """What a publication did. ``lacking``: why it is only a proposal yet, that waits for these signatures."""

    written: list[str]
    warnings: list[str]
    lacking: list[Signatures]


class ReleaseStore:
    """The releases of one environment. ``folder`` is the copy on this disk; ``plan`` the keys of a new repository."""

    def __init__(
        self, bucket: Bucket | Folder, folder: Path, env: str, keys: KeyRing, *, plan: KeyPlan, now: datetime
    ) -> None:
        self._bucket = bucket
        self._folder = folder
        self._env = env
        self._keys = keys
        self._plan = plan
        self._now = now
        self._files: dict[str, bytes] = {}
        self._published = bucket.list()
        self.has_bucket = self._published is not None
        self.repository = self._load()

    @property
    def _paths(self) -> Mapping[str, int]:
        return self._published or {}

    def _load(self) -> Repository | None:
        """Read what is published; what is the same on this disk is not fetched again."""
        if TIMESTAMP_PATH not in self._paths:
            return None  # nothing, or a first publication that was interrupted before it became visible
        timestamp = self._files[TIMESTAMP_PATH] = self._bucket.get(TIMESTAMP_PATH)
        local = self._folder / TIMESTAMP_PATH
        is_same = local.is_file() and local.read_bytes() == timestamp

        def read(path: str) -> bytes:
            if path not in self._files:
                copy = self._folder / path
                self._files[path] = copy.read_bytes() if is_same and copy.is_file() else self._bucket.get(path)
            return self._files[path]

        newest = 1
        while versioned("root", newest + 1) in self._paths:
            newest += 1
        roots = [read(versioned("root", version)) for version in range(1, newest + 1)]
        verify_roots(roots, self._keys.pinned_root())
        self._files[ROOT_PATH] = roots[-1]
        try:
            return Repository.load(self._env, self._keys, read, self._now)
        except TwinopsError:
            if newest == 1 or not self._was_interrupted(newest):
                raise
            # Killed between a new root and its timestamp: go on from the root before, and publish the same one again.
            del self._files[versioned("root", newest)]
            self._files[ROOT_PATH] = roots[-2]
            return Repository.load(self._env, self._keys, read, self._now)

    @property
    def newest_root(self) -> bytes:
        """The root as it is published."""
        return self._files[ROOT_PATH]

    def _was_interrupted(self, root_version: int) -> bool:
        """Whether the newest root is one that was being published."""
        proposals = pending.read(self._paths, self._bucket.get)
        return "root" in proposals and proposals["root"].signed.version == root_version

    # -- ask ------------------------------------------------------------------------------------------------------

    def published(self, version: str) -> release.Manifest | None:
        """The signed manifest of ``version``, or ``None``."""
        target = release.manifest_target(self._env, version)
        digest = self._digest(target)
        if digest is None:
            return None
        content = self.target(release.stored_path(target, digest), digest)
        return release.parse_manifest(content, f"s3://{self._bucket.name}/{PREFIX}: {target}")

    def current(self) -> dict[str, Any] | None:
        """What ``current.json`` says, or ``None`` before the first completed rollout."""
        target = release.current_target(self._env)
        digest = self._digest(target)
        return None if digest is None else dict(json.loads(self.target(release.stored_path(target, digest), digest)))

    def _digest(self, target: str) -> str | None:
        return self.repository.digest(target) if self.repository else None

    def content(self, manifest: release.Manifest, path: str, fresh: Mapping[str, bytes]) -> bytes:
        """A file of a bundle: from the targets that are just being signed, or as published."""
        digest = next(file.sha256 for file in manifest.files if file.path == path)
        target = release.file_target(self._env, digest)
        return fresh[target] if target in fresh else self.target(release.stored_path(target, digest), digest)

    def target(self, stored: str, digest: str) -> bytes:
        """A target's bytes, from the disk or the bucket, and only if they are the signed ones."""
        copy = self._folder / "targets" / stored
        if copy.is_file():
            content = copy.read_bytes()
            if release.sha256(content) == digest:
                return content
        content = self._bucket.get(f"targets/{stored}")
        if release.sha256(content) != digest:
            raise TwinopsError(
                f"s3://{self._bucket.name}/{PREFIX}targets/{stored}: not the signed bytes; who changed it?"
            )
        return content

    def pending(self) -> dict[str, Metadata[Any]]:
        """Role -> what is proposed for it and waits for signatures; what was published meanwhile is left out."""
        published = self.repository.versions() if self.repository else {}
        proposals = pending.read(self._paths, self._bucket.get)
        return {
            role: proposal
            for role, proposal in proposals.items()
            if proposal.signed.version == published.get(role, 0) + 1
        }

    def proposed(self, version: str) -> release.Manifest | None:
        """The manifest of ``version`` in the release that waits for signatures, or ``None``."""
        target = release.manifest_target(self._env, version)
        proposal = self.pending().get(self._env)
        info = proposal.signed.targets.get(target) if proposal else None
        if info is None:
            return None
        digest = str(info.hashes["sha256"])
        return release.parse_manifest(self.target(release.stored_path(target, digest), digest), f"proposed {target}")

    # -- change ---------------------------------------------------------------------------------------------------

    def publish(self, infos: Mapping[str, Target], contents: Mapping[str, bytes], *, apply: bool) -> Publication:
        """Have targets signed (path -> content or description), and renew what nears its expiry.

        ``contents`` are uploaded first. Nothing to do writes nothing. With ``apply`` false, nothing is written
        anywhere, and the paths are those that would be.
        """
        if self.repository is None and not apply:
            return Publication(["metadata/1.root.json", *contents], [], [])
        repository = self._repository_or_new()
        repository.put(infos)
        return self.finish(repository, repository.renew(), contents, apply=apply)

    def change(self, make: Callable[[Repository], list[str]], *, apply: bool) -> Publication:
        """Publish, or propose, what ``make`` does to the repository; it returns warnings."""
        repository = self._repository_or_new()
        return self.finish(repository, make(repository), {}, apply=apply)

    def adopt_first(self, proposals: Mapping[str, Metadata[Any]]) -> Repository:
        """The repository of a first publication, as it is proposed."""
        repository = Repository.empty(self._env, self._keys, self._now)
        repository.adopt(proposals)
        return repository

    @property
    def place(self) -> str:
        """Where it is, for a message."""
        return f"{self._bucket.name}/{PREFIX}"

    def _repository_or_new(self) -> Repository:
        if self.repository is not None:
            return self.repository
        return Repository.create(self._env, self._keys, self._plan, self._now)

    def finish(
        self,
        repository: Repository,
        warnings: list[str],
        contents: Mapping[str, bytes],
        *,
        apply: bool,
        only_propose: bool = False,
    ) -> Publication:
        """Publish what changed if it has all signatures, else put it where others can sign it.

        ``only_propose`` leaves the publication to a host that has the online keys.
        """
        drafts = repository.draft(self.pending() if repository.changed else {})
        lacking = repository.lacking(drafts)
        stored = {
            f"targets/{release.stored_path(path, release.sha256(content))}": content
            for path, content in contents.items()
        }
        absent = {path: c for path, c in stored.items() if self._paths.get(path) != len(c)}
        if not apply:
            return Publication([*absent, *sorted(repository.changed)], warnings, lacking)
        if lacking or only_propose:
            proposals = {path: c for path, c in pending.files(drafts).items() if not self._has(path, c)}
            self._upload(absent, list(proposals.items()))
            return Publication([*absent, *proposals], warnings, lacking)
        signed = repository.publication(drafts) if repository.changed else []
        if self.repository is None:
            shutil.rmtree(self._folder, ignore_errors=True)  # at most the copy of a repository that is no more
        self._upload(absent, signed)
        self.repository = repository
        self._keep(stored, signed)
        return Publication([*absent, *(path for path, _ in signed)], warnings, [])

    def _has(self, path: str, content: bytes) -> bool:
        """Whether the bucket has exactly these bytes."""
        return self._paths.get(path) == len(content) and self._bucket.get(path) == content

    def _upload(self, targets: Mapping[str, bytes], metadata: list[tuple[str, bytes]]) -> None:
        with ThreadPoolExecutor(PARALLEL_CALLS) as pool:
            for _ in pool.map(self._bucket.put, targets.keys(), targets.values()):
                pass
        for path, content in metadata:
            self._bucket.put(path, content)

    def fetch(self, manifest: release.Manifest) -> None:
        """Have every file of a published release on this disk, to push from."""
        target = release.manifest_target(self._env, manifest.release)
        wanted = {release.stored_path(target, manifest.digest): manifest.digest}
        current, pointer = release.current_target(self._env), self._digest(release.current_target(self._env))
        if pointer:
            wanted[release.stored_path(current, pointer)] = pointer
        for file in manifest.files:
            wanted[release.stored_path(release.file_target(self._env, file.sha256), file.sha256)] = file.sha256
        missing = {path: digest for path, digest in wanted.items() if not (self._folder / "targets" / path).is_file()}
        with ThreadPoolExecutor(PARALLEL_CALLS) as pool:
            contents = dict(zip(missing, pool.map(self.target, missing.keys(), missing.values())))
        self._keep({f"targets/{path}": content for path, content in contents.items()}, [])

    def keep_delta(self, old: str, new: str) -> list[str]:
        """Have the delta of two published files on this disk and in the bucket. Returns what was written there."""
        path = release.delta_path(old, new)
        if path in self._paths:
            if not (self._folder / path).is_file():
                _write_if_changed(self._folder / path, self._bucket.get(path))
            return []
        for digest in (old, new):
            stored = release.stored_path(release.file_target(self._env, digest), digest)
            _write_if_changed(self._folder / "targets" / stored, self.target(stored, digest))
        if delivery.ensure_delta(self._folder, self._env, old, new) is None:
            return []
        self._bucket.put(path, (self._folder / path).read_bytes())
        return [path]

    def _keep(self, targets: Mapping[str, bytes], metadata: list[tuple[str, bytes]]) -> None:
        """Bring the copy on this disk up to date; ``timestamp.json`` last, because it vouches for the rest."""
        self._files.update(metadata)
        for path, content in metadata:
            if path.endswith(".root.json"):
                self._files[ROOT_PATH] = content
        first_root = versioned("root", 1)
        local = self._folder / first_root
        if local.is_file() and local.read_bytes() != self._files[first_root]:
            shutil.rmtree(self._folder)  # the copy of a repository that is no more
        ordered = sorted(self._files.items(), key=lambda item: item[0] == TIMESTAMP_PATH)
        for path, content in [*targets.items(), *ordered]:
            _write_if_changed(self._folder / path, content)


def _write_if_changed(path: Path, content: bytes) -> None:
    if path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(content)
    temporary.replace(path)
