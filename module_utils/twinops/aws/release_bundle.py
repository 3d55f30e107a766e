"""What ``release_bundle`` does: make one release published, or current, and say what a device needs of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tuf.api.metadata import TargetFile  # type: ignore[attr-defined]

from .. import release
from ..errors import TwinopsError
from ..publishing import build
from ..publishing.keys import KeyPlan, KeyRing, all_keys
from ..publishing.repository import Repository, Target
from . import model_versions
from .registry import Registry
from .releases import Bucket, Publication, ReleaseStore

PROPOSED = "proposed"
PUBLISHED = "published"
CURRENT = "current"
REAFFIRMED = "reaffirmed"


@dataclass(frozen=True)
class Options:
    """What is asked for. Paths are on the control host."""

    env: str
    spec: release.ReleaseSpec
    state: str
    clone: Path
    repository: Path
    build_cache: Path
    keys: KeyRing
    key_plan: KeyPlan
    development_keys: bool
    rebuild: bool
    challenger: release.ReleaseSpec | None = None
    """The release that ``spec.shadow`` names."""
    approver: str = ""
    """Who publishes, or makes it current; for the model registry."""
    rollout_id: str = ""
    """The rollout that makes it current."""


def reconcile(
    options: Options, bucket: Bucket, now: datetime, *, apply: bool, registry: Callable[[str], Registry]
) -> dict[str, Any]:
    """Bring the bucket to the wanted state; see RETURN of ``library/release_bundle.py``.

    ``registry`` opens the model registry by the model's name. A release is registered before it is published, and its
    model becomes the champion after it became the current one: who dies in between does both again.

    :raises TwinopsError: what is missing or contradicts, before anything is written
    """
    keys, env = options.keys, options.env
    store = ReleaseStore(bucket, options.repository, env, keys, plan=options.key_plan, now=now)
    if options.state == PROPOSED and not store.has_bucket:
        return {"changed": False, "release": options.spec.version, "waiting": f"s3://{bucket.name} is not there yet"}
    if apply and not store.has_bucket:
        raise TwinopsError(f"s3://{bucket.name}: expected the bucket for models, found none; deploy it: --tags cloud")
    if options.state == REAFFIRMED:
        return reaffirm(env, store, options.spec.version, apply=apply)
    before = describe(store)
    manifest, targets = _wanted(options, store, apply=apply)
    if manifest is None:
        return {"changed": True, "release": options.spec.version, "release_digest": None, "current": None} | {
            "diff": {"before": before, "after": {**before, options.spec.version: "built, signed and published"}}
        }
    if apply and targets:  # what was built now; what is published is registered
        model_versions.register(registry(manifest.model["name"]), manifest, approver=options.approver)
    infos: dict[str, Target] = {**release_infos(env, manifest)}
    if options.state == CURRENT:
        named = (manifest.release, manifest.digest)
        pointer = release.current_bytes(*named, store.current(), rollout_id=options.rollout_id)
        infos[release.current_target(env)] = targets[release.current_target(env)] = pointer
    if apply and options.development_keys and store.repository is None:
        keys.generate(all_keys(options.key_plan))
    published = store.publish(infos, targets, apply=apply)
    written, warnings = published.written, published.warnings
    if published.lacking and (options.state == PROPOSED or not apply):
        return _waiting(manifest, published, before)
    if published.lacking:
        raise TwinopsError(waiting_for(manifest, published))
    if apply:
        store.fetch(manifest)
        written += publish_deltas(store, manifest)
    promoted = (
        apply
        and options.state == CURRENT
        and model_versions.promote(
            registry(manifest.model["name"]),
            manifest,
            approver=options.approver,
            reason=f"{manifest.release} became the current release of {env}",
        )
    )
    result = {
        "changed": bool(written) or promoted,
        "promoted": promoted,
        "written": written,
        "warnings": warnings,
        "diff": {"before": before, "after": describe(store) if apply else {**before, "written": written}},
        "release": manifest.release,
        "release_digest": manifest.digest,
        "git_sha": manifest.git_sha,
        "model_sha256": manifest.model["sha256"],
        "data_version": manifest.data_version,
        "hold_out": hold_out(store.content(manifest, "training.json", targets)),
        "current": _current(store),
        "repository": str(options.repository),
        "calls": bucket.calls,
    }
    if store.repository is not None:
        result |= delivery(options.env, manifest, store.repository)
    return result


def reaffirm(env: str, store: ReleaseStore, blocked: str, *, apply: bool) -> dict[str, Any]:
    """Sign again, with a new serial, which release is current: a device that runs another one comes back when it pulls.

    Not where the version ``blocked`` is itself the current release, because devices were catching up, or an operator
    went back to it: a new serial would have the devices that left it install it once more.

    :raises TwinopsError: the keys for that are elsewhere; it is proposed to their keepers
    """
    current = store.current()
    if current is None:
        return {"changed": False, "current": None, "written": []}
    manifest = store.published(blocked)
    if manifest is not None and manifest.digest == current["manifest_sha256"]:
        warning = (
            f"{blocked} was blocked and is the current release of {env}: a device that pulls and has not tried it yet "
            "installs it. Expected another one: playbooks/rollback.yml -e release=<version>"
        )
        return {"changed": False, "current": _current(store), "written": [], "warnings": [warning]}
    target = release.current_target(env)
    named, by = (current["release"], current["manifest_sha256"]), current.get("rollout_id", "")
    pointer = release.current_bytes(*named, current, rollout_id=by, again=True)
    published = store.publish({target: pointer}, {target: pointer}, apply=apply)
    if published.lacking:
        raise TwinopsError(
            f"{target} is not signed again yet: {'; '.join(map(str, published.lacking))}. It waits in the bucket: sign "
            "it on the host of that key with playbooks/sign.yml. Until then devices out of reach keep what they run"
        )
    return {
        "changed": True,
        "current": _current(store) if apply else json.loads(pointer),
        "written": published.written,
        "warnings": published.warnings,
    }


def _waiting(manifest: release.Manifest, publication: Publication, before: dict[str, Any]) -> dict[str, Any]:
    """What there is to say of a release that others have yet to sign; no device can have it."""
    after = {**before, manifest.release: f"published, once signed: {manifest.digest[:12]}"}
    return {
        "changed": bool(publication.written),
        "release": manifest.release,
        "release_digest": None,
        "current": None,
        "waiting": waiting_for(manifest, publication),
        "diff": {"before": before, "after": after},
    }


def waiting_for(manifest: release.Manifest, publication: Publication) -> str:
    """What a person reads whose release is proposed, and lacks signatures."""
    return (
        f"{manifest.release} ({manifest.digest[:12]}) is not published yet: "
        f"{'; '.join(map(str, publication.lacking))}. It waits in the bucket: sign it on the host of that key with "
        "playbooks/sign.yml, then run this again"
    )


def release_infos(env: str, manifest: release.Manifest) -> dict[str, TargetFile]:
    """What is signed for a release: its files by their digest, and its manifest by its version."""
    content = manifest.to_bytes()
    sizes = {release.file_target(env, file.sha256): (file.size_bytes, file.sha256) for file in manifest.files}
    sizes[release.manifest_target(env, manifest.release)] = (len(content), manifest.digest)
    return {path: TargetFile(size, {"sha256": digest}, path) for path, (size, digest) in sizes.items()}


def _wanted(options: Options, store: ReleaseStore, *, apply: bool) -> tuple[release.Manifest | None, dict[str, bytes]]:
    """The manifest to have, and the targets to upload for it: none where it is published already, or waits to be.

    ``None`` in check mode, where building would write.
    """
    version = options.spec.version
    published = store.published(version)
    source = build.Source.read(options.clone, options.spec, options.challenger)
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
    proposed = store.proposed(version)
    if proposed is not None and proposed.inputs_sha256 == source.inputs:
        return proposed, {}  # those who have signed it signed these bytes; a new build may differ in the last bits
    if not apply:
        return None, {}
    manifest, files = build.build(source, options.build_cache)
    targets = {release.file_target(options.env, file.sha256): files[file.path] for file in manifest.files}
    return manifest, {**targets, release.manifest_target(options.env, version): manifest.to_bytes()}


def publish_deltas(store: ReleaseStore, manifest: release.Manifest) -> list[str]:
    """Have a delta of each large file that differs from the current release: for devices that pull, and to push.

    Returns the paths that were written to the bucket.
    """
    current = store.current()
    before = store.published(current["release"]) if current else None
    if current is None or before is None or before.digest != current["manifest_sha256"]:
        return []
    return [path for old, new in release.large_changes(before, manifest) for path in store.keep_delta(old, new)]


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
    named = ("snapshot", "targets", env, release.current_role(env))
    others = [f"metadata/{versions[name]}.{name}.json" for name in named]
    manifest_path = release.stored_path(release.manifest_target(env, manifest.release), manifest.digest)
    current, pointer = release.current_target(env), repository.digest(release.current_target(env))
    pointers = [f"targets/{release.stored_path(current, pointer)}"] if pointer else []
    return {
        "env": env,
        "metadata": [*roots, "metadata/timestamp.json", *others, *pointers, f"targets/{manifest_path}"],
        "files": {
            file.sha256: {
                "path": f"targets/{release.stored_path(release.file_target(env, file.sha256), file.sha256)}",
                "size_bytes": file.size_bytes,
                "name": file.path,
            }
            for file in manifest.files
        },
    }
