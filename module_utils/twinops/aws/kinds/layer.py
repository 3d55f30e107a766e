"""Lambda layers, published from a prepared archive.

AWS numbers the versions of a layer; we recognise ours by the digest in its description.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

from ...errors import TwinopsError
from ...plan import Change, Observed
from ...resources import Layer
from ..session import Aws

SERVICES = ("lambda",)
WORKERS = 1
READ_BACK = False

_DIGEST = "sha256:"


def observe(aws: Aws, names: Collection[str]) -> dict[str, Observed]:
    """The newest version of each layer. A layer without versions does not exist."""
    newest = {name: versions[0] for name in names if (versions := _versions(aws, name))}
    return {name: Observed(Layer(name=name, tags={}, sha256=_digest(version))) for name, version in newest.items()}


def create(aws: Aws, change: Change) -> None:
    layer = cast(Layer, change.desired)
    aws.forget(_memory(layer.name))
    aws.client("lambda").publish_layer_version(
        LayerName=layer.name, Description=f"{_DIGEST}{layer.sha256}", Content={"ZipFile": aws.archives[layer.sha256]}
    )


update = create  # versions are immutable: a change is a new version


def delete(aws: Aws, change: Change) -> None:
    for version in _versions(aws, change.name):
        aws.client("lambda").delete_layer_version(LayerName=change.name, VersionNumber=version["Version"])


def version_arn(aws: Aws, reference: str) -> str:
    """The ARN of the version that holds ``<name>@<sha256>``. Raises TwinopsError if there is none."""
    name, _, digest = reference.partition("@")
    for version in _versions(aws, name):
        if _digest(version) == digest:
            return str(version["LayerVersionArn"])
    raise TwinopsError(f"layer {name}: no version with digest {digest}; it was removed while we ran: rerun")


def references(aws: Aws, names: Collection[str]) -> dict[str, str]:
    """ARN -> ``<name>@<sha256>`` for every version of the layers ``names``."""
    return {
        version["LayerVersionArn"]: f"{name}@{_digest(version)}" for name in names for version in _versions(aws, name)
    }


def _versions(aws: Aws, name: str) -> list[dict[str, Any]]:
    """All versions, the newest first. AWS answers an unknown layer with an empty list."""

    def read() -> list[dict[str, Any]]:
        pages = aws.client("lambda").get_paginator("list_layer_versions").paginate(LayerName=name)
        versions = [version for page in pages for version in page["LayerVersions"]]
        return sorted(versions, key=lambda version: int(version["Version"]), reverse=True)

    return aws.once(_memory(name), read)


def _memory(name: str) -> str:
    return f"versions of layer {name}"


def _digest(version: dict[str, Any]) -> str:
    return str(version.get("Description", "")).removeprefix(_DIGEST)
