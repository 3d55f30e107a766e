"""Builds a bundle from the work tree: trains when these inputs were never trained before, and never twice."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .. import release, sbom
from ..errors import TwinopsError

PROCESS = "edge/process"
TRAINING = "edge/training"
LOCK = "locks/device.txt"
TRAINING_LIBRARIES = ("numpy", "onnx", "onnxruntime", "river", "scikit-learn", "skl2onnx")
TRAINING_TIMEOUT_S = 1800


@dataclass(frozen=True)
class Source:
    """What a release is built from, as it lies in the work tree."""

    clone: Path
    spec: release.ReleaseSpec
    training: dict[str, bytes]
    process: dict[str, bytes]
    lock: str
    """The Python packages of devices: in the bill of materials. They change without a new release."""
    challenger: release.ReleaseSpec | None = None
    """The release that ``spec.shadow`` names."""

    @classmethod
    def read(cls, clone: Path, spec: release.ReleaseSpec, challenger: release.ReleaseSpec | None = None) -> Source:
        try:
            lock = (clone / LOCK).read_text(encoding="utf-8")
        except OSError as error:
            raise TwinopsError(f"{clone / LOCK}: {error.strerror}; expected the packages of devices") from error
        return cls(clone, spec, _python_files(clone / TRAINING), _python_files(clone / PROCESS), lock, challenger)

    @property
    def inputs(self) -> str:
        return release.inputs_sha256(self.spec, self.training, self.process, self.challenger)

    @property
    def _paths(self) -> tuple[str, ...]:
        specs = [self.spec, self.challenger] if self.challenger else [self.spec]
        return (PROCESS, TRAINING, LOCK, *(release.release_path(spec.version) for spec in specs))

    def git_sha(self) -> str:
        """The commit that last changed these inputs (not HEAD: a release does not change with the README)."""
        sha = _git(self.clone, "log", "-1", "--format=%H", "--", *self._paths)
        return f"{sha or 'uncommitted'}-dirty" if self.uncommitted() or not sha else sha

    def uncommitted(self) -> str:
        """What git says about uncommitted changes in the inputs; empty when there are none."""
        return _git(self.clone, "status", "--porcelain", "--", *self._paths)


def build(source: Source, cache: Path) -> tuple[release.Manifest, dict[str, bytes]]:
    """The manifest and the files of the bundle; a folder ``releases/<version>-<digest>`` in ``cache`` holds them, too.

    :raises TwinopsError: training failed; the message ends with what it said
    """
    model = {path.name: path.read_bytes() for path in sorted(trained(source, source.spec, cache).iterdir())}
    files = release.bundle_files(source.spec, model, source.process)
    if source.challenger:
        challenger = trained(source, source.challenger, cache) / "model.onnx"
        files = {**files, release.CHALLENGER: challenger.read_bytes()}
    training, git_sha = json.loads(model["training.json"]), source.git_sha()
    data_version = str(training["data_version"])
    materials = sbom.make(
        version=source.spec.version,
        models=[
            release.model_item(source.spec, files),
            *([release.challenger_item(source.challenger, files)] if source.challenger else []),
        ],
        training=training,
        files={path: release.sha256(content) for path, content in files.items()},
        lock=source.lock,
        git_sha=git_sha,
        inputs_sha256=source.inputs,
    )
    files = {**files, release.SBOM: release.as_json_bytes(materials)}
    manifest = release.make_manifest(
        source.spec,
        files,
        git_sha=git_sha,
        inputs=source.inputs,
        data_version=data_version,
        challenger=source.challenger,
    )
    folder = cache / "releases" / f"{manifest.release}-{manifest.digest[:12]}"
    if not folder.is_dir():
        _write_folder(folder, {**files, release.MANIFEST: manifest.to_bytes()})
    return manifest, files


def trained(source: Source, spec: release.ReleaseSpec, cache: Path) -> Path:
    """The folder with the trained model of ``spec``: from the cache if these inputs have been trained before."""
    libraries = {name: importlib.metadata.version(name) for name in TRAINING_LIBRARIES}
    inputs = release.model_inputs_sha256(spec, source.training)
    key = release.sha256(release.as_json_bytes({"inputs": inputs, "libraries": libraries}))
    folder = cache / "models" / key
    if folder.is_dir():
        return folder
    temporary = folder.with_name(f"{key}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    command = [sys.executable, str(source.clone / TRAINING / "train.py"), spec.version, str(temporary)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TRAINING_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise TwinopsError(f"training {spec.version}: not done after {TRAINING_TIMEOUT_S} s") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()[-500:]
        raise TwinopsError(f"training {spec.version}: exit code {done.returncode}: {said}")
    temporary.rename(folder)
    return folder


def _write_folder(folder: Path, files: dict[str, bytes]) -> None:
    temporary = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    for path, content in files.items():
        place = temporary / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    temporary.rename(folder)


def _python_files(folder: Path) -> dict[str, bytes]:
    """Path below ``folder`` -> content, of every Python file."""
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.py"))}
    if not files:
        raise TwinopsError(f"{folder}: expected Python files, found none")
    return files


def _git(clone: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(clone), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TwinopsError(f"git {arguments[0]}: {error}; expected git and a clone at {clone}") from error
    if done.returncode != 0:
        raise TwinopsError(f"git {arguments[0]} in {clone}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode().strip()
