"""What ``release_bundle`` does: make one release published, or current, and say what a device needs of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from .. import release
from ..errors import TwinopsError
from ..publishing import build
from ..publishing.keys import KeyRing
from ..publishing.repository import Repository
from .releases import Bucket, ReleaseStore, required_keys

PUBLISHED = "published"
CURRENT = "current"


@dataclass(frozen=True)
class Options:
    """What is asked for. Paths are on the control host."""

    env: str
    spec: release.ReleaseSpec
    state: str
    clone: Path
    repository: Path
    build_cache: Path
    keys: Path
    development_keys: bool
    signature_threshold: int
    rebuild: bool


def reconcile(options: Options, bucket: Bucket, now: datetime, *, apply: bool) -> dict[str, Any]:
    """Bring the bucket to the wanted state; see RETURN of ``library/release_bundle.py``.

    :raises TwinopsError: what is missing or contradicts, before anything is written
    """
    keys = KeyRing(options.keys)
    store = ReleaseStore(bucket, options.repository, options.env, keys, threshold=options.signature_threshold, now=now)
    if apply and not store.has_bucket:
        raise TwinopsError(f"s3://{bucket.name}: expected the bucket for models, found none; deploy it: --tags cloud")
    before = describe(store)
    manifest, targets = _wanted(options, store, apply=apply)
    if manifest is None:
        return {"changed": True, "release": options.spec.version, "release_digest": None, "current": None} | {
            "diff": {"before": before, "after": {**before, options.spec.version: "built, signed and published"}}
        }
    if options.state == CURRENT:
        pointer = release.current_bytes(manifest.release, manifest.digest)
        targets = {**targets, release.current_target(options.env): pointer}
    if apply and options.development_keys and store.repository is None:
        keys.generate(required_keys(options.env, options.signature_threshold))
    written, warnings = store.publish(targets, apply=apply)
    if apply:
        store.fetch(manifest)
    result = {
        "changed": bool(written),
        "written": written,
        "warnings": warnings,
        "diff": {"before": before, "after": describe(store) if apply else {**before, "written": written}},
        "release": manifest.release,
        "release_digest": manifest.digest,
        "git_sha": manifest.git_sha,
        "model_sha256": manifest.model["sha256"],
        "hold_out": hold_out(store.content(manifest, "training.json", targets)),
        "current": _current(store),
        "repository": str(options.repository),
        "calls": bucket.calls,
    }
    if store.repository is not None:
        result |= delivery(options.env, manifest, store.repository)
    return result


def _wanted(options: Options, store: ReleaseStore, *, apply: bool) -> tuple[release.Manifest | None, dict[str, bytes]]:
    """The manifest to have, and the targets to sign for it: none where it is published already.

    ``None`` in check mode, where building would write.
    """
    version = options.spec.version
    published = store.published(version)
    source = build.Source.read(options.clone, options.spec)
    if published is not None:
        if published.inputs_sha256 == source.inputs:
            return published, {}
        if not options.rebuild:
            raise TwinopsError(
                f"{release.release_path(version)}: {version} was published from {published.git_sha[:12]}, and "
                "edge/ has changed since; expected the same inputs, because a release never changes. "
                "Add a release file with a new version, or restore edge/ as it was"
            )
    if not options.rebuild and source.uncommitted():
        raise TwinopsError(
            f"{release.release_path(version)}: expected everything that goes into {version} to be committed, "
            f"got:\n{source.uncommitted()}"
        )
    if not apply:
        return None, {}
    manifest, files = build.build(source, options.build_cache)
    targets = {release.file_target(options.env, file.sha256): files[file.path] for file in manifest.files}
    return manifest, {**targets, release.manifest_target(options.env, version): manifest.to_bytes()}


def describe(store: ReleaseStore) -> dict[str, Any]:
    """What is published, for the diff: version -> digest, and which is current."""
    if store.repository is None:
        return {}
    manifests = {
        path.split("/")[1]: str(info.hashes["sha256"])[:12]
        for path, info in store.repository.targets.items()
        if path.endswith(f"/{release.MANIFEST}")
    }
    current = store.current()
    return {**manifests, "current": current["release"] if current else None}


def hold_out(training: bytes) -> dict[str, int]:
    """Records and alarms of a model on data held out in training: what to expect before any device ran it."""
    content = json.loads(training)
    records = int(content["rows"]["held_out"])
    return {"records": records, "alarms": round(content["metrics"]["alarm_rate"] * records)}


def _current(store: ReleaseStore) -> dict[str, Any] | None:
    """``current.json`` plus what its model raised on held-out data."""
    current = store.current()
    if current is None:
        return None
    manifest = store.published(current["release"])
    if manifest is None or manifest.digest != current["manifest_sha256"]:
        return {**current, "hold_out": None}  # rebuilt under the same version: nobody knows its training any more
    return {**current, "hold_out": hold_out(store.content(manifest, "training.json", {}))}


def delivery(env: str, manifest: release.Manifest, repository: Repository) -> dict[str, Any]:
    """What a device needs to verify and install the release: paths in the repository."""
    versions = repository.versions()
    roots = [f"metadata/{version}.root.json" for version in range(2, versions["root"] + 1)]
    others = [f"metadata/{versions[name]}.{name}.json" for name in ("snapshot", "targets", env)]
    manifest_path = release.stored_path(release.manifest_target(env, manifest.release), manifest.digest)
    return {
        "metadata": [*roots, "metadata/timestamp.json", *others, f"targets/{manifest_path}"],
        "files": {
            file.sha256: {
                "path": f"targets/{release.stored_path(release.file_target(env, file.sha256), file.sha256)}",
                "size_bytes": file.size_bytes,
            }
            for file in manifest.files
        },
    }
