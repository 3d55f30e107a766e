"""The data that a model was trained on, found by its version in the registry: what drift is measured against.

A registered version names the digest of its ``training.json`` (the evaluation that speaks for it), which is among the
signed files of its release; that names the data: a source, the digest of its file, and which rows were fitted. What is
read here is compared with all three digests, so it is the very data, or an error.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv
from twinops import release
from twinops.errors import TwinopsError

from toolbox import published
from toolbox.context import Context
from toolbox.published import PublishedError
from toolbox.registry import Version

LABEL = "anomaly"
"""The column of labels in the training data."""
_SPLIT = re.compile(r"row % (\d+): \(([\d, ]+)\) fitted")
_SOURCE = re.compile(r"river\.datasets\.([A-Z][A-Za-z]+)")


class TrainingDataError(TwinopsError):
    """The data of a model version cannot be had: says which version, and what was expected."""


def of_version(run: Context, version: Version) -> dict[str, Any]:
    """``training.json`` of a registered version.

    :raises TrainingDataError: the bucket for models has it no more, or with other bytes
    """
    digest = version.evaluation_sha256
    target = release.file_target(run.twin["env"], digest)
    try:
        content = published.read(run.client("s3"), run.twin["models_bucket"], target, digest)
    except PublishedError as error:
        raise TrainingDataError(f"model {version.name}: training.json: {error}") from error
    training: dict[str, Any] = json.loads(content)
    described = hashlib.sha256(release.as_json_bytes(training["data"])).hexdigest()
    if described != version.data_version:
        raise TrainingDataError(
            f"model {version.name}: data: expected version {version.data_version[:12]}, as registered, "
            f"training.json describes {described[:12]}"
        )
    return training


def fitted(version: Version, training: dict[str, Any]) -> pa.Table:
    """The rows that a version was fitted on: its features and :data:`LABEL`, in the order of the file.

    :raises TrainingDataError: the source is not installed, or is another file than the one that was trained on
    """
    where = f"model {version.name}: data"
    data = training["data"]
    source, split = _SOURCE.fullmatch(data["source"]), _SPLIT.match(data["split"])
    if not source or not split:
        raise TrainingDataError(
            f"{where}: expected a data set of river and a rule 'row % n: (...) fitted', "
            f"got {data['source']!r} and {data['split']!r}"
        )
    path = Path(getattr(importlib.import_module("river.datasets"), source[1])().path)
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != data["sha256"]:
        raise TrainingDataError(f"{where}: {path}: expected the file with SHA-256 {data['sha256'][:12]}, got another")
    table = csv.read_csv(pa.BufferReader(gzip.decompress(content)))
    by, wanted = int(split[1]), {int(number) for number in split[2].split(",") if number.strip()}
    chosen = [row % by in wanted for row in range(table.num_rows)]
    rows = table.filter(pa.array(chosen)).select([*training["features"], LABEL])
    if rows.num_rows != training["rows"]["fitted"]:
        raise TrainingDataError(f"{where}: expected {training['rows']['fitted']} fitted rows, got {rows.num_rows}")
    return rows
