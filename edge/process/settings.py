"""The three files that steer the service: ``device.json``, and ``manifest.json`` and ``config.json`` of its release."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Callable, Union

from errors import SettingsError

Kinds = Union[type, tuple[type, ...]]
NUMBER = (int, float)


@dataclass(frozen=True)
class Upload:
    """Where decisions go. ``prefix`` ends in a slash; a batch has about ``batch_records`` decisions."""

    bucket: str
    prefix: str
    batch_records: int
    interval_s: float


@dataclass(frozen=True)
class Device:
    """``device.json``. ``sensor`` is for the sensor of that ``kind`` to understand."""

    device: str
    env: str
    address: str
    health_port: int
    sensor: Mapping[str, Any]
    upload: Upload


@dataclass(frozen=True)
class Challenger:
    """The model that runs beside the release's own, without being acted on."""

    version: str
    sha256: str


@dataclass(frozen=True)
class Release:
    """``manifest.json`` of the release that this file belongs to; ``digest`` is that of the manifest itself."""

    release: str
    digest: str
    model_sha256: str
    challenger: Challenger | None = None


@dataclass(frozen=True)
class Config:
    """``config.json``: how this release operates; every key has a default here.

    A decision waits for at most ``commit_interval_ms`` before it is durable. ``max_batch_records`` go to the model in
    one call. Beyond ``spool_limit_records`` the oldest decisions are dropped, and counted. A step that takes longer
    than ``stall_s`` is a hanging one. In shadow mode a batch waits for the challenger at most ``shadow_wait_ms``,
    and the challenger may have ``shadow_memory_mb``.
    """

    commit_interval_ms: int = 100
    max_batch_records: int = 256
    spool_limit_records: int = 2_000_000
    stall_s: int = 10
    shadow_wait_ms: int = 10
    shadow_memory_mb: int = 512


def read_device(path: Path) -> Device:
    content = _read(path)
    need = _needs(content, path)
    upload = need("upload", dict)
    need_upload = _needs(upload, path, "upload.")
    return Device(
        device=need("device", str),
        env=need("env", str),
        address=need("address", str),
        health_port=need("health_port", int),
        sensor=need("sensor", dict),
        upload=Upload(
            bucket=need_upload("bucket", str),
            prefix=need_upload("prefix", str),
            batch_records=_at_least_one(need_upload("batch_records", int), path, "upload.batch_records"),
            interval_s=need_upload("interval_s", NUMBER),
        ),
    )


def read_release(path: Path) -> Release:
    content = _read(path)
    need = _needs(content, path)
    return Release(
        release=need("release", str),
        digest=hashlib.sha256(path.read_bytes()).hexdigest(),
        model_sha256=_needs(need("model", dict), path, "model.")("sha256", str),
        challenger=_read_challenger(need("challenger", dict), path) if "challenger" in content else None,
    )


def _read_challenger(content: Mapping[str, Any], path: Path) -> Challenger:
    need = _needs(content, path, "challenger.")
    return Challenger(version=need("version", str), sha256=need("sha256", str))


def read_config(path: Path) -> Config:
    content = _read(path)
    known = [field.name for field in fields(Config)]
    unknown = sorted(set(content) - set(known))
    if unknown:
        raise SettingsError(f"{path}: {unknown[0]}: unknown key; expected one of {', '.join(known)}")
    need = _needs(content, path)
    return Config(**{key: _at_least_one(need(key, int), path, key) for key in content})


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}; expected a JSON file") from error
    except ValueError as error:
        raise SettingsError(f"{path}: expected JSON: {error}") from error
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: expected an object, got {content!r:.60}")
    return content


def _needs(content: Mapping[str, Any], path: Path, within: str = "") -> Callable[[str, Kinds], Any]:
    def need(key: str, kind: Kinds) -> Any:
        value = content.get(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            names = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
            raise SettingsError(f"{path}: {within}{key}: expected {names}, got {value!r:.60}")
        return value

    return need


def _at_least_one(value: int, path: Path, key: str) -> int:
    if value < 1:
        raise SettingsError(f"{path}: {key}: expected at least 1, got {value}")
    return value
