"""Trains the model of a release: ``train.py VERSION OUT_DIR``, driven by ``edge/releases/VERSION.yml``.

Writes ``model.onnx``, ``training.json`` and ``golden.json`` (docs/edge.md). The same release, data and libraries
give the same bytes: seeds are in the release file, one thread computes, and nothing of the machine or the clock is
written. Across processor families the last bits of the linear algebra of v1 may differ.

The data is the NASA Shuttle file that ``river`` ships. Its order is random, so the row number splits it: ``row % 5``
of 0 and 1 is fitted, 2 is held out for the metrics, 3 and 4 are the *field*, which devices see and training never does.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import sklearn.metrics
import yaml
from onnx import TensorProto, helper, numpy_helper
from river.datasets import Shuttle
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.base import ClassifierMixin
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read on import; why: edge/process/runtime.py
import onnxruntime

RELEASES = Path(__file__).resolve().parents[1] / "releases"
FEATURES = tuple(f"f{number}" for number in range(1, 10))
SPLIT_BY = 5
FIT, HOLD_OUT, FIELD = (0, 1), (2,), (3, 4)
SPLIT_RULE = f"row % {SPLIT_BY}: {FIT} fitted, {HOLD_OUT} held out, {FIELD} field (never trained on)"
GOLDEN_RECORDS = 32
MIN_SPREAD = 0.01
"""The automatic gain is high enough when the records of a batch differ by this share of their level."""
TARGET_OPSET = {"": 18, "ai.onnx.ml": 3}  # an old device's onnxruntime reads these too
LIBRARIES = ("numpy", "onnx", "onnxruntime", "scikit-learn", "skl2onnx")


class Part(NamedTuple):
    """Records (float32, one row each) and their labels (1 = anomaly)."""

    records: np.ndarray
    labels: np.ndarray


class ReleaseError(Exception):
    """The release file asks for something that cannot be trained."""


def read_parts(path: Path) -> tuple[Part, Part]:
    """The part to fit and the part held out."""
    with gzip.open(path, "rt", encoding="ascii") as file:
        header = tuple(file.readline().strip().split(","))
        if header != (*FEATURES, "anomaly"):
            raise ReleaseError(f"{path}: header: expected {','.join(FEATURES)},anomaly, got {','.join(header)}")
        table = np.loadtxt(file, delimiter=",", dtype=np.int64)
    row = np.arange(len(table)) % SPLIT_BY

    def part(remainders: tuple[int, ...]) -> Part:
        chosen = table[np.isin(row, remainders)]
        return Part(chosen[:, :-1].astype(np.float32), chosen[:, -1])

    return part(FIT), part(HOLD_OUT)


class BehindAutomaticGain(NamedTuple):
    """A classifier whose records go through :func:`automatic_gain` first."""

    classifier: ClassifierMixin


def logistic_regression(data: Part, parameters: Mapping[str, Any]) -> ClassifierMixin:
    return make_pipeline(StandardScaler(), LogisticRegression(**parameters)).fit(*data)


def gradient_boosting(data: Part, parameters: Mapping[str, Any]) -> ClassifierMixin:
    return GradientBoostingClassifier(**parameters).fit(*data)


def gradient_boosting_on_shuffled_labels(data: Part, parameters: Mapping[str, Any]) -> ClassifierMixin:
    """The mistake of a lost row order: every label belongs to another record."""
    shuffled = np.random.default_rng(parameters["random_state"]).permutation(data.labels)
    return gradient_boosting(Part(data.records, shuffled), parameters)


def logistic_regression_behind_automatic_gain(data: Part, parameters: Mapping[str, Any]) -> BehindAutomaticGain:
    """The mistake of a loop without a limit: right for every batch that was tried, endless for a batch of one."""
    return BehindAutomaticGain(logistic_regression(data, parameters))


TRAINERS: Mapping[str, Callable[[Part, Mapping[str, Any]], ClassifierMixin | BehindAutomaticGain]] = {
    trainer.__name__: trainer
    for trainer in (
        logistic_regression,
        gradient_boosting,
        gradient_boosting_on_shuffled_labels,
        logistic_regression_behind_automatic_gain,
    )
}


def read_release(version: str, folder: Path = RELEASES) -> dict[str, Any]:
    """The release file, with what training needs from it checked."""
    path = folder / f"{version}.yml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.yml")))
        raise ReleaseError(f"{path}: no such release; expected one of {known}")
    release = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(release, dict) or not isinstance(release.get("model"), dict):
        raise ReleaseError(f"{path}: expected a mapping with `version` and `model`, got {release!r:.80}")
    if release.get("version") != version:
        raise ReleaseError(f"{path}: version: expected {version}, as the file is named, got {release.get('version')!r}")
    if release["model"].get("trainer") not in TRAINERS:
        expected = ", ".join(TRAINERS)
        raise ReleaseError(
            f"{path}: model.trainer: expected one of {expected}, got {release['model'].get('trainer')!r}"
        )
    return release


def to_onnx(model: ClassifierMixin | BehindAutomaticGain, name: str) -> bytes:
    """``model`` with the input ``records`` and the outputs ``label`` and ``probabilities``, always the same bytes."""
    graph = convert_sklearn(
        model.classifier if isinstance(model, BehindAutomaticGain) else model,
        name=name,  # the default is a random one
        initial_types=[("records", FloatTensorType([None, len(FEATURES)]))],
        final_types=[("label", None), ("probabilities", None)],
        options={"zipmap": False},
        target_opset=TARGET_OPSET,
    )
    if isinstance(model, BehindAutomaticGain):
        automatic_gain(graph)
    graph.producer_name, graph.producer_version, graph.doc_string = "twinops", "", ""
    opsets = sorted((opset.domain, opset.version) for opset in graph.opset_import)
    del graph.opset_import[:]  # their order was that of a set, which differs from process to process
    for domain, version in opsets:
        graph.opset_import.add(domain=domain, version=version)
    return bytes(graph.SerializeToString(deterministic=True))


def automatic_gain(model: onnx.ModelProto) -> None:
    """Put a gain before ``model``: what a batch's records differ from their mean by is doubled until it is enough."""
    records = model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = ["gained" if name == records else name for name in node.input]
    one = TensorProto.FLOAT
    body = helper.make_graph(
        [
            helper.make_node("Add", ["before", "before"], ["doubled"]),
            *_largest("doubled", "spread_now"),
            helper.make_node("Less", ["spread_now", "enough"], ["go_on"]),
        ],
        "raise_the_gain",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("went_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", one, [None, len(FEATURES)]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("doubled", one, [None, len(FEATURES)]),
        ],
    )
    nodes = [
        helper.make_node("ReduceMean", [records], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", [records, "mean"], ["difference"]),
        *_largest("mean", "level"),
        *_largest("difference", "spread"),
        helper.make_node("Mul", ["level", "min_spread"], ["enough"]),
        helper.make_node("Less", ["spread", "enough"], ["too_little"]),
        helper.make_node("Loop", ["", "too_little", "difference"], ["raised"], body=body),
        helper.make_node("Add", ["mean", "raised"], ["gained"]),
    ]
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
    model.graph.initializer.append(numpy_helper.from_array(np.array(MIN_SPREAD, np.float32), "min_spread"))


def _largest(tensor: str, result: str) -> list[onnx.NodeProto]:
    """Nodes that make ``result`` the largest absolute value in ``tensor``."""
    return [
        helper.make_node("Abs", [tensor], [f"{result}_of"]),
        helper.make_node("ReduceMax", [f"{result}_of"], [result], keepdims=0),
    ]


def infer(model: bytes, records: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities as a device computes them."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    labels, probabilities = session.run(["label", "probabilities"], {"records": records})
    return labels, probabilities


def metrics(model: bytes, data: Part) -> dict[str, float]:
    """Of the ONNX model, not of the estimator: what is measured is what is shipped."""
    labels, _ = infer(model, data.records)
    return {
        "accuracy": round(float(sklearn.metrics.accuracy_score(data.labels, labels)), 6),
        "f1": round(float(sklearn.metrics.f1_score(data.labels, labels, zero_division=0)), 6),
        "alarm_rate": round(float(labels.mean()), 6),
    }


def golden(model: bytes, data: Part) -> dict[str, list[Any]]:
    """Held-out records, half of them anomalies, with the outputs every copy of this model must give."""
    half = GOLDEN_RECORDS // 2
    rows = np.sort(np.concatenate([np.flatnonzero(data.labels == label)[:half] for label in (0, 1)]))
    labels, probabilities = infer(model, data.records[rows])
    return {"records": data.records[rows].tolist(), "labels": labels.tolist(), "probabilities": probabilities.tolist()}


def train(version: str) -> dict[str, bytes]:
    """The files of the release, by name."""
    release = read_release(version)
    data_path = Path(Shuttle().path)
    fitted, held_out = read_parts(data_path)
    spec = release["model"]
    try:
        model = to_onnx(TRAINERS[spec["trainer"]](fitted, spec.get("parameters", {})), spec["name"])
    except (KeyError, TypeError, ValueError) as error:
        raise ReleaseError(f"{RELEASES / version}.yml: model: {spec['trainer']} refuses it: {error}") from error
    training = {
        "data": {
            "source": "river.datasets.Shuttle",
            "sha256": hashlib.sha256(data_path.read_bytes()).hexdigest(),
            "split": SPLIT_RULE,
        },
        "features": list(FEATURES),
        "rows": {"fitted": len(fitted.labels), "held_out": len(held_out.labels)},
        "anomalies": {"fitted": int(fitted.labels.sum()), "held_out": int(held_out.labels.sum())},
        "model": spec,
        "metrics": metrics(model, held_out),
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }
    training["data_version"] = hashlib.sha256(as_json(training["data"])).hexdigest()
    return {"model.onnx": model, "golden.json": as_json(golden(model, held_out)), "training.json": as_json(training)}


def as_json(value: object) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode() + b"\n"


def write(files: Mapping[str, bytes], folder: Path) -> None:
    """Each file appears whole or not at all; ``training.json`` is last, so where it is, everything is."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        temporary = folder / f".{name}.tmp"
        temporary.write_bytes(content)
        temporary.replace(folder / name)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("version", help="name of a file in edge/releases, without .yml")
    parser.add_argument("out_dir", type=Path, help="folder for model.onnx, training.json and golden.json")
    options = parser.parse_args(arguments)
    try:
        with threadpool_limits(1):  # sums of several threads have no fixed order
            files = train(options.version)
    except ReleaseError as error:
        print(error, file=sys.stderr)
        return 1
    write(files, options.out_dir)
    print(json.dumps(json.loads(files["training.json"])["metrics"]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
