"""A release in the model registry: which version of which model it is, and that it became the champion."""

from __future__ import annotations

from dataclasses import replace

from ..errors import TwinopsError
from ..release import Manifest
from .registry import Registry, State, Version, after

TRAINING = "training.json"
"""The file of a bundle that says how the model did on records held out of its training: what speaks for it."""


def version_of(manifest: Manifest) -> Version:
    """The version of a model that a release brings, under the release's name.

    :raises TwinopsError: the bundle has no :data:`TRAINING`
    """
    digests = {file.path: file.sha256 for file in manifest.files}
    if TRAINING not in digests:
        raise TwinopsError(f"{manifest.release}: manifest.json: files: expected {TRAINING}, which speaks for the model")
    return Version(
        name=manifest.release,
        sha256=manifest.model["sha256"],
        data_version=manifest.data_version,
        git_sha=manifest.git_sha,
        evaluation_sha256=digests[TRAINING],
    )


def register(registry: Registry, manifest: Manifest, *, approver: str) -> str:
    """Register the model of a release; returns its name in the registry. Again it changes nothing.

    A model that is there already with the same bytes and the same :data:`TRAINING` (retraining has registered it) stays
    as it was registered. Where the name stands for others, as after a rebuild in a sandbox or with other libraries, the
    name is ``<release>-<12 of its digest>``: what a version names is what was published.
    """
    version = _named(after(registry.history()), version_of(manifest), manifest)
    if version is not None:
        registry.register(version, approver=approver, reason=f"published as {manifest.release} ({manifest.digest})")
    return name_in(after(registry.history()), manifest)


def promote(registry: Registry, manifest: Manifest, *, approver: str, reason: str) -> bool:
    """Make the model of a release the champion; False where it is.

    A release that was published before there was a registry is registered first.
    """
    return registry.promote(register(registry, manifest, approver=approver), approver=approver, reason=reason)


def name_in(state: State, manifest: Manifest) -> str:
    """The name of a release's model in the registry. Raises TwinopsError where it is not registered."""
    version = version_of(manifest)
    for name in _names(manifest):
        if name in state.versions and _are_same(state.versions[name], version):
            return name
    raise TwinopsError(
        f"{manifest.release}: expected model {manifest.model['sha256'][:12]} in the registry, found none"
    )


def _named(state: State, version: Version, manifest: Manifest) -> Version | None:
    """The version under the name to register it with; None where it is registered under one of its names."""
    for name in _names(manifest):
        known = state.versions.get(name)
        if known is None:
            return replace(version, name=name)
        if _are_same(known, version):
            return None
    raise TwinopsError(f"{manifest.release}: release {manifest.digest[:12]} is registered with another model already")


def _are_same(known: Version, version: Version) -> bool:
    return (known.sha256, known.evaluation_sha256) == (version.sha256, version.evaluation_sha256)


def _names(manifest: Manifest) -> tuple[str, str]:
    return manifest.release, f"{manifest.release}-{manifest.digest[:12]}"
