"""Publishes releases: the TUF repository in ``s3://<models>/tuf/``, with a copy on this disk to push to devices from.

The bucket is the truth. Every publication starts from what it holds, uploads files first and ``timestamp.json`` last,
and updates the copy only afterwards; so one that was interrupted is simply done again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from .. import release
from ..errors import TwinopsError
from ..publishing.keys import ROOT_KEYS, SNAPSHOT_KEY, TARGETS_KEY, TIMESTAMP_KEY, KeyRing, environment_keys
from ..publishing.repository import ROOT_PATH, TIMESTAMP_PATH, Repository, versioned

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


class ReleaseStore:
    """The releases of one environment. ``folder`` is the copy on this disk."""

    def __init__(self, bucket: Bucket, folder: Path, env: str, keys: KeyRing, *, threshold: int, now: datetime) -> None:
        self._bucket = bucket
        self._folder = folder
        self._env = env
        self._keys = keys
        self._threshold = threshold
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
        for version in range(1, newest + 1):
            self._files[ROOT_PATH] = read(versioned("root", version))
        return Repository.load(self._env, self._keys, read, self._now)

    # -- ask ------------------------------------------------------------------------------------------------------

    def published(self, version: str) -> release.Manifest | None:
        """The signed manifest of ``version``, or ``None``."""
        target = release.manifest_target(self._env, version)
        digest = self.repository.digest(target) if self.repository else None
        if digest is None:
            return None
        content = self._target(release.stored_path(target, digest), digest)
        return release.parse_manifest(content, f"s3://{self._bucket.name}/{PREFIX}: {target}")

    def current(self) -> dict[str, Any] | None:
        """What ``current.json`` says, or ``None`` before the first completed rollout."""
        target = release.current_target(self._env)
        digest = self.repository.digest(target) if self.repository else None
        return None if digest is None else dict(json.loads(self._target(release.stored_path(target, digest), digest)))

    def content(self, manifest: release.Manifest, path: str, fresh: Mapping[str, bytes]) -> bytes:
        """A file of a bundle: from the targets that are just being signed, or as published."""
        digest = next(file.sha256 for file in manifest.files if file.path == path)
        target = release.file_target(self._env, digest)
        return fresh[target] if target in fresh else self._target(release.stored_path(target, digest), digest)

    def _target(self, stored: str, digest: str) -> bytes:
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

    # -- change ---------------------------------------------------------------------------------------------------

    def publish(self, targets: Mapping[str, bytes], *, apply: bool) -> tuple[list[str], list[str]]:
        """Sign and upload ``targets`` (path -> content), and renew what nears its expiry.

        Returns (paths written to the bucket, warnings); nothing to do writes nothing. With ``apply`` false, nothing is
        written anywhere, and the paths are those that would be.
        """
        repository = self.repository
        if repository is None:
            if not apply:
                return ["metadata/1.root.json", *targets], []
            repository = Repository.create(self._env, self._keys, self._threshold, self._now)
            shutil.rmtree(self._folder, ignore_errors=True)  # at most the copy of a repository that is no more
        repository.put(targets)
        warnings = repository.renew()
        contents = {
            f"targets/{release.stored_path(path, release.sha256(content))}": content
            for path, content in targets.items()
        }
        absent = {path: c for path, c in contents.items() if self._paths.get(path) != len(c)}
        if not apply:
            return [*absent, *sorted(repository.changed)], warnings
        signed = repository.sign()
        self._upload(absent, signed)
        self.repository = repository
        self._keep(contents, signed)
        return [*absent, *(path for path, _ in signed)], warnings

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
        for file in manifest.files:
            wanted[release.stored_path(release.file_target(self._env, file.sha256), file.sha256)] = file.sha256
        missing = {path: digest for path, digest in wanted.items() if not (self._folder / "targets" / path).is_file()}
        with ThreadPoolExecutor(PARALLEL_CALLS) as pool:
            contents = dict(zip(missing, pool.map(self._target, missing.keys(), missing.values())))
        self._keep({f"targets/{path}": content for path, content in contents.items()}, [])

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


def required_keys(env: str, threshold: int) -> tuple[str, ...]:
    """The names of all keys of an environment's repository."""
    return (*ROOT_KEYS, TARGETS_KEY, SNAPSHOT_KEY, TIMESTAMP_KEY, *environment_keys(env, threshold))


def _write_if_changed(path: Path, content: bytes) -> None:
    if path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(content)
    temporary.replace(path)
