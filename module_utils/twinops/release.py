"""Releases as data: the spec a person writes, the manifest that is signed, and where both lie. Pure: no I/O, no clock.

A release is one unit: model + process + config. Its identity is the SHA-256 of ``manifest.json``; same inputs, same
bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import SpecError

VERSION = re.compile(r"[a-z0-9][a-z0-9._-]{0,40}")
PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
SHA256 = re.compile(r"[0-9a-f]{64}")

MANIFEST = "manifest.json"
SBOM = "sbom.json"
CHALLENGER = "challenger.onnx"
MODEL_FILES = ("golden.json", "model.onnx", "training.json")
ANY_CLASS = "any"
"""Runs on every device. Else the name of a product class, or of a processor such as ``aarch64``."""
MAX_MANIFEST_BYTES = 1 << 20
MAX_FILES = 1000


@dataclass(frozen=True)
class ReleaseSpec:
    """``edge/releases/<version>.yml``, checked."""

    version: str
    description: str
    model_name: str
    trainer: str
    parameters: Mapping[str, Any]
    config: Mapping[str, Any]
    device_class: str = ANY_CLASS
    shadow: str | None = None
    """The release whose model runs beside this one's, recorded and compared, and not acted on."""


@dataclass(frozen=True)
class BundleFile:
    """A file of a bundle: its path in the slot, and what its bytes must be."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Manifest:
    """What a bundle consists of and where it came from (docs/interfaces.md, "Models and releases")."""

    release: str
    git_sha: str
    data_version: str
    inputs_sha256: str
    model: Mapping[str, str]
    files: tuple[BundleFile, ...]
    device_class: str = ANY_CLASS
    challenger: Mapping[str, str] | None = None

    def to_bytes(self) -> bytes:
        """``manifest.json``: sorted, so that the same inputs give the same digest."""
        return as_json_bytes(
            {
                **_class_item(self.device_class),
                **({"challenger": dict(self.challenger)} if self.challenger else {}),
                "release": self.release,
                "git_sha": self.git_sha,
                "data_version": self.data_version,
                "inputs_sha256": self.inputs_sha256,
                "model": dict(self.model),
                "files": {file.path: {"sha256": file.sha256, "size_bytes": file.size_bytes} for file in self.files},
            }
        )

    @property
    def digest(self) -> str:
        """The release digest."""
        return sha256(self.to_bytes())

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


def _class_item(device_class: str) -> dict[str, str]:
    """Left out where it says nothing."""
    return {} if device_class == ANY_CLASS else {"device_class": device_class}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def as_json_bytes(value: object) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def release_path(version: str) -> str:
    """Where a person writes the release, relative to the repository."""
    return f"edge/releases/{version}.yml"


def parse_release(data: object, where: str) -> ReleaseSpec:
    """Check a release file's content.

    :raises SpecError: every mistake, as ``edge/releases/v2.yml: model.trainer: expected a string, got 3``
    """
    mistakes: list[str] = []

    def expect(holder: object, key: str, kind: type, name: str, path: str) -> Any:
        value = holder.get(key) if isinstance(holder, Mapping) else None
        if not isinstance(value, kind) or value == "":
            mistakes.append(f"{where}: {path}: expected {name}, got {'nothing' if value is None else repr(value)}")
            return kind()
        return value

    if not isinstance(data, Mapping):
        raise SpecError([f"{where}: expected a mapping with version, model and config, got {type(data).__name__}"])
    mistakes += _unknown(data, ("version", "description", "model", "config", "device_class", "shadow"), where, "")
    version = expect(data, "version", str, "a string such as v2", "version")
    if version and not VERSION.fullmatch(version):
        mistakes.append(f"{where}: version: expected lower-case letters, digits, '.', '_' or '-', got {version!r}")
    if version and not where.endswith(f"{version}.yml"):
        mistakes.append(f"{where}: version: expected the name of the file, got {version!r}")
    description = expect(data, "description", str, "a sentence", "description")
    model = expect(data, "model", dict, "a mapping", "model")
    mistakes += _unknown(model, ("name", "trainer", "parameters"), where, "model.")
    name = expect(model, "name", str, "a string", "model.name")
    trainer = expect(model, "trainer", str, "a string", "model.trainer")
    parameters = expect(model, "parameters", dict, "a mapping", "model.parameters")
    config = expect(data, "config", dict, "a mapping", "config")
    device_class = data.get("device_class", ANY_CLASS)
    if not isinstance(device_class, str) or not VERSION.fullmatch(device_class):
        mistakes.append(
            f"{where}: device_class: expected a class of devices such as gateway-2 or aarch64, got {device_class!r}"
        )
    shadow = data.get("shadow")
    if shadow is not None and (not isinstance(shadow, str) or not VERSION.fullmatch(shadow) or shadow == version):
        mistakes.append(f"{where}: shadow: expected another release such as v2, got {shadow!r}")
    if mistakes:
        raise SpecError(mistakes)
    return ReleaseSpec(version, description, name, trainer, parameters, config, device_class, shadow)


def _unknown(holder: Mapping[str, Any], known: tuple[str, ...], where: str, path: str) -> list[str]:
    return [
        f"{where}: {path}{key}: unknown key, expected one of {', '.join(known)}" for key in holder if key not in known
    ]


def model_inputs_sha256(spec: ReleaseSpec, training: Mapping[str, bytes]) -> str:
    """What a model is trained from: its part of the spec and the training code (path -> content)."""
    return sha256(
        as_json_bytes(
            {
                "version": spec.version,
                "model": {"name": spec.model_name, "trainer": spec.trainer, "parameters": dict(spec.parameters)},
                "training": {path: sha256(content) for path, content in training.items()},
            }
        )
    )


def inputs_sha256(
    spec: ReleaseSpec,
    training: Mapping[str, bytes],
    process: Mapping[str, bytes],
    challenger: ReleaseSpec | None = None,
) -> str:
    """What a release is made from, all of it in git: equal inputs need no new build, on any machine.

    The description is left out, because it does not reach a device. ``challenger``: the release that ``shadow`` names.
    """
    shadow = {"challenger": model_inputs_sha256(challenger, training)} if challenger else {}
    return sha256(
        as_json_bytes(
            {
                "model": model_inputs_sha256(spec, training),
                "config": dict(spec.config),
                **_class_item(spec.device_class),
                **shadow,
                "process": {path: sha256(content) for path, content in process.items()},
            }
        )
    )


def bundle_files(spec: ReleaseSpec, model: Mapping[str, bytes], process: Mapping[str, bytes]) -> dict[str, bytes]:
    """Every file of the bundle but its manifest. ``process``: path below ``process/`` -> content.

    :raises SpecError: training left a file out
    """
    missing = [name for name in MODEL_FILES if name not in model]
    if missing or "main.py" not in process:
        missing += [] if "main.py" in process else ["process/main.py"]
        raise SpecError(
            [f"release {spec.version}: expected the file {name} in the bundle, got none" for name in missing]
        )
    files = {name: model[name] for name in MODEL_FILES}
    files["config.json"] = as_json_bytes(dict(spec.config))
    files.update({f"process/{path}": content for path, content in process.items()})
    return dict(sorted(files.items()))


def model_item(spec: ReleaseSpec, files: Mapping[str, bytes]) -> dict[str, str]:
    """What the manifest says about the model."""
    return {"name": spec.model_name, "version": spec.version, "sha256": sha256(files["model.onnx"])}


def challenger_item(challenger: ReleaseSpec, files: Mapping[str, bytes]) -> dict[str, str]:
    """What the manifest says about the model that runs in shadow mode."""
    return {"name": challenger.model_name, "version": challenger.version, "sha256": sha256(files[CHALLENGER])}


def make_manifest(
    spec: ReleaseSpec,
    files: Mapping[str, bytes],
    *,
    git_sha: str,
    inputs: str,
    data_version: str,
    challenger: ReleaseSpec | None = None,
) -> Manifest:
    """The manifest of :func:`bundle_files`, and of :data:`CHALLENGER` where there is one."""
    return Manifest(
        release=spec.version,
        git_sha=git_sha,
        data_version=data_version,
        inputs_sha256=inputs,
        model=model_item(spec, files),
        files=tuple(BundleFile(path, sha256(content), len(content)) for path, content in sorted(files.items())),
        device_class=spec.device_class,
        challenger=challenger_item(challenger, files) if challenger else None,
    )


def parse_manifest(content: bytes, where: str) -> Manifest:
    """Read a manifest whose bytes were verified already; still refuses paths that leave the slot.

    :raises SpecError: it is not a manifest
    """
    try:
        data = json.loads(content)
        manifest = Manifest(
            release=str(data["release"]),
            git_sha=str(data["git_sha"]),
            data_version=str(data["data_version"]),
            inputs_sha256=str(data["inputs_sha256"]),
            model={key: str(data["model"][key]) for key in ("name", "version", "sha256")},
            files=tuple(
                BundleFile(str(path), str(file["sha256"]), int(file["size_bytes"]))
                for path, file in sorted(data["files"].items())
            ),
            device_class=str(data.get("device_class", ANY_CLASS)),
            challenger={key: str(data["challenger"][key]) for key in ("name", "version", "sha256")}
            if "challenger" in data
            else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SpecError([f"{where}: expected a release manifest, got something else ({error!r})"]) from error
    bad = [file for file in manifest.files if not _is_safe(file)]
    if bad or len(manifest.files) > MAX_FILES or not VERSION.fullmatch(manifest.release):
        raise SpecError([f"{where}: expected files with plain relative paths and a SHA-256, got {bad[:3]}"])
    return manifest


def _is_safe(file: BundleFile) -> bool:
    return bool(PATH.fullmatch(file.path)) and bool(SHA256.fullmatch(file.sha256)) and file.size_bytes >= 0


def fits(device_class: str, device: Mapping[str, Any], machine: str) -> bool:
    """Whether a release for ``device_class`` may run on a device with these settings and this processor."""
    return device_class in (ANY_CLASS, device.get("device_class"), machine)


# -- names of TUF targets (signed by the delegated role of the environment) ---------------------------------------


def manifest_target(env: str, version: str) -> str:
    return f"{env}/{version}/{MANIFEST}"


def file_target(env: str, digest: str) -> str:
    """Content-addressed, so that releases share what did not change."""
    return f"{env}/files/{digest}"


def current_target(env: str) -> str:
    """Which release the environment runs; moved only when a rollout passed its last gate."""
    return f"{env}/current.json"


def current_role(env: str) -> str:
    """The delegated role that signs :func:`current_target`, and nothing else."""
    return f"{env}-current"


def target_patterns(env: str) -> list[str]:
    """What the environment's role may sign. TUF compares segment by segment, so each depth is named."""
    return [f"{env}/*", f"{env}/*/*"]


def stored_path(target: str, digest: str) -> str:
    """The path of a target in a repository with consistent snapshots: its file name carries its digest."""
    folder, _, name = target.rpartition("/")
    return f"{folder}/{digest}.{name}"


def current_bytes(
    version: str, manifest_sha256: str, before: Mapping[str, Any] | None, *, rollout_id: str = "", again: bool = False
) -> bytes:
    """``current.json``. Its serial grows with each move away from ``before``, so that a device tells old from new.

    ``rollout_id`` is the rollout that made it current, where one did. ``again`` lets the serial grow without a move:
    whoever left this release for another one is to come back.
    """
    named = {"release": version, "manifest_sha256": manifest_sha256}
    if before is not None and not again and {key: before.get(key) for key in named} == named:
        return as_json_bytes(dict(before))
    by = {"rollout_id": rollout_id} if rollout_id else {}
    return as_json_bytes({**named, **by, "serial": current_serial(before) + 1})


def current_serial(current: Mapping[str, Any] | None) -> int:
    """0 before the first; a ``current.json`` without a serial is as old as the first one."""
    return 0 if current is None else int(current.get("serial", 1))


def parse_current(content: bytes, where: str) -> dict[str, Any]:
    """Read a ``current.json`` whose bytes were verified.

    :raises SpecError: it is something else
    """
    try:
        data = json.loads(content)
        version, digest, serial = data["release"], data["manifest_sha256"], current_serial(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SpecError([f"{where}: expected release and manifest_sha256, got something else ({error!r})"]) from error
    if not VERSION.fullmatch(str(version)) or not SHA256.fullmatch(str(digest)):
        raise SpecError([f"{where}: expected a release and its digest, got {version!r} and {digest!r}"])
    rollout_id = str(data.get("rollout_id", ""))
    return {"release": version, "manifest_sha256": digest, "serial": serial, "rollout_id": rollout_id}


LARGE_BYTES = 256 << 10
"""From this size on a changed file travels as a delta; below there is little to gain."""


def large_changes(before: Manifest, after: Manifest) -> list[tuple[str, str]]:
    """(SHA-256 before, SHA-256 after) of each large file that both releases have with different bytes."""
    olds = {file.path: file.sha256 for file in before.files}
    return [
        (olds[file.path], file.sha256)
        for file in after.files
        if file.size_bytes >= LARGE_BYTES and olds.get(file.path, file.sha256) != file.sha256
    ]


def delta_path(old_sha256: str, new_sha256: str) -> str:
    """Where the difference of two content-addressed files lies in a repository. Not signed: the result is checked."""
    return f"deltas/{old_sha256}-{new_sha256}"
