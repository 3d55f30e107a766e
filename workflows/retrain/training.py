"""Trains candidates as releases are trained: with ``edge/training/train.py`` of a clone of the run's commit, a program.

So the model that is judged here is the one that a release of the same file brings, to the byte, where the libraries are
the same; ``workflows/requirements.txt`` has the versions of ``locks/control.txt`` for that.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from twinops import release
from twinops.errors import SpecError, TwinopsError

TIMEOUT_S = 1800
_NUMBERED = re.compile(r"v(\d+)(?:-.*)?")


class TrainingError(TwinopsError):
    """A candidate cannot be trained: says which, and why."""


@dataclass(frozen=True)
class Candidate:
    """One entry of ``candidates.yml``."""

    name: str
    trainer: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Trained:
    """A candidate, and the folder with its ``model.onnx`` and ``training.json``, which is there while the run lasts."""

    candidate: Candidate
    folder: Path
    training: Mapping[str, Any]
    """``training.json``: data, rows, metrics on held-out records."""

    @property
    def held_out_f1(self) -> float:
        """On the records that training held out; by this candidates are chosen, so nothing is judged by it."""
        return float(self.training["metrics"]["f1"])

    def sha256(self, file: str) -> str:
        return hashlib.sha256((self.folder / file).read_bytes()).hexdigest()


def read_candidates(file: Path, wanted: str) -> list[Candidate]:
    """The candidates, or those whose names ``wanted`` has (spaces between).

    :raises TrainingError: the file is not as expected, or has none of a name
    """
    try:
        known = [Candidate(**one) for one in yaml.safe_load(file.read_text("utf-8"))["candidates"]]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise TrainingError(f"{file}: expected candidates with name, trainer and parameters: {error!r}") from error
    names = wanted.split() or [one.name for one in known]
    unknown = set(names) - {one.name for one in known}
    if unknown:
        offered = ", ".join(one.name for one in known)
        raise TrainingError(f"{file}: candidates: expected some of {offered}, got {', '.join(sorted(unknown))}")
    return [one for one in known if one.name in names]


def release_file(tree: Path, version: str) -> Path | None:
    """The release file of a registered version; None where this commit has none.

    One that was rebuilt in a sandbox has the digest of its release behind its name.
    """
    names = (version, version.rpartition("-")[0])
    return next((file for name in names if name and (file := tree / release.release_path(name)).is_file()), None)


def release_like(tree: Path, candidate: Candidate, *, but: str) -> list[str]:
    """Releases of this commit, but one, that are trained as a candidate is: theirs is the same model."""
    found = []
    for file in sorted((tree / "edge/releases").glob("*.yml")):
        spec = release.parse_release(yaml.safe_load(file.read_text("utf-8")), release.release_path(file.stem))
        if (spec.trainer, dict(spec.parameters)) == (
            candidate.trainer,
            dict(candidate.parameters),
        ) and file.stem != but:
            found.append(file.stem)
    return found


def describe(champion: str, data_version: str, candidate: Candidate) -> str:
    """Of the new release. It follows from what was trained, so that a repeated run proposes the same file."""
    return f"Challenger of {champion}, retrained on data version {data_version[:12]} ({candidate.name})."


def next_version(tree: Path, registered: Sequence[str]) -> str:
    """A name for a new release: one more than the highest ``v<number>`` in ``edge/releases`` and in the registry."""
    names = [*(file.stem for file in (tree / "edge/releases").glob("*.yml")), *registered]
    numbers = [int(match[1]) for name in names if (match := _NUMBERED.fullmatch(name))]
    return f"v{max(numbers, default=0) + 1}"


def release_text(base: str, version: str, candidate: Candidate, description: str) -> str:
    """The release file of a candidate: what the text of the champion's, ``base``, says, but for version, description
    and model. Its ``config`` is taken over with its comments.

    :raises TrainingError: ``base`` is not laid out as releases are
    """
    spec = release.parse_release(yaml.safe_load(base), f"edge/releases/{yaml.safe_load(base).get('version')}.yml")
    start = re.search(r"^config:", base, re.MULTILINE)
    rest = base[start.start() :] if start else ""
    device_class = "" if spec.device_class == release.ANY_CLASS else f"device_class: {spec.device_class}\n"
    parameters = yaml.safe_dump(
        dict(candidate.parameters), default_flow_style=True, sort_keys=False, width=1000
    ).strip()
    text = (
        f"version: {version}\n{device_class}description: {json.dumps(description)}\nmodel:\n  name: {spec.model_name}\n"
        f"  trainer: {candidate.trainer}\n  parameters: {parameters}\n{rest}"
    )
    where = release.release_path(version)
    try:
        made = release.parse_release(yaml.safe_load(text), where)
    except (SpecError, yaml.YAMLError) as error:
        raise TrainingError(f"{where}: expected a release after the pattern of {spec.version}: {error}") from error
    if dict(made.config) != dict(spec.config):
        raise TrainingError(f"edge/releases/{spec.version}.yml: config: expected it as the last key, to take it over")
    return text


def train(tree: Path, version: str, text: str, candidate: Candidate, folder: Path) -> Trained:
    """Train one candidate as the release ``version`` of the work tree ``tree``.

    :raises TrainingError: it failed; the message ends with what it said
    """
    file = tree / release.release_path(version)
    file.write_text(text, "utf-8")
    command = [sys.executable, str(tree / "edge/training/train.py"), version, str(folder)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise TrainingError(f"candidate {candidate.name}: training took more than {TIMEOUT_S} s") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[-500:]
        raise TrainingError(f"candidate {candidate.name}: training ended with exit code {done.returncode}: {said}")
    return Trained(candidate, folder, json.loads((folder / "training.json").read_bytes()))
