"""Models in ONNX files and what they decide: float32 ``[n, features]`` in, the first output is one label a record."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from twinops.errors import TwinopsError

from toolbox.metrics import Label

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read on import; why: edge/process/runtime.py
import onnxruntime

_BATCH = 65536
_FLOATS = "tensor(float)"


class ModelError(TwinopsError):
    """A model cannot be used: says which, what it has and what was expected."""


@dataclass(frozen=True)
class Decisions:
    """What a model decides about records, one label each."""

    labels: NDArray[Any]
    """Integers, or texts (dtype object)."""
    classes: frozenset[Label] | None
    """All classes that the model knows; None where it does not tell."""


class Model:
    """An ONNX classifier. It computes in one thread, as on a device: the same decisions everywhere."""

    def __init__(self, path: str | Path) -> None:
        """:raises ModelError: no such file, not an ONNX model, or another input than float32 ``[n, features]``"""
        self._where = str(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what matters is raised
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise ModelError(f"{path}: expected an ONNX model: {error.strerror}") from error
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises a dozen types that share nothing but Exception
            raise ModelError(f"{path}: expected an ONNX model: {_first_line(error)}") from error
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type != _FLOATS or len(inputs[0].shape) != 2:
            found = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
            raise ModelError(f"{path}: expected one input {_FLOATS} [n, features], got {found}")
        self._input = inputs[0]

    def decide(self, features: NDArray[np.float32], names: list[str]) -> Decisions:
        """Labels of records, whose columns are called ``names``.

        :raises ModelError: the model takes another number of features, crashes, or answers no label a record
        """
        batch, width = self._input.shape
        if isinstance(width, int) and width != len(names):
            raise ModelError(
                f"{self._where}: input {self._input.name}: expected {width} features, got {len(names)} "
                f"({', '.join(names[:12])}{', …' if len(names) > 12 else ''})"
            )
        step = batch if isinstance(batch, int) else _BATCH
        answers = [self._run(features[start : start + step]) for start in range(0, len(features), step)]
        labels = np.concatenate([labels for labels, _ in answers]) if answers else np.zeros(0, np.int64)
        return Decisions(labels, _known_classes(labels, answers[0][1] if answers else None))

    def _run(self, features: NDArray[np.float32]) -> tuple[NDArray[Any], Any]:
        """(labels, the second output) of one batch."""
        try:
            outputs = self._session.run(None, {self._input.name: features})
        except Exception as error:  # as above
            raise ModelError(f"{self._where}: cannot decide {len(features)} records: {_first_line(error)}") from error
        labels = np.asarray(outputs[0])
        if labels.shape not in {(len(features),), (len(features), 1)}:
            name = self._session.get_outputs()[0].name
            raise ModelError(
                f"{self._where}: first output {name}: expected one label a record, [{len(features)}], "
                f"got {list(labels.shape)}"
            )
        return self._as_labels(labels.ravel()), outputs[1] if len(outputs) > 1 else None

    def _as_labels(self, values: NDArray[Any]) -> NDArray[Any]:
        if values.dtype.kind in "OUS":
            return values.astype(object)
        if values.dtype.kind == "f" and not np.array_equal(values, np.round(values)):
            odd = values[values != np.round(values)][0]
            raise ModelError(f"{self._where}: first output: expected labels, got {odd}; is it a regression?")
        return values.astype(np.int64)


def _known_classes(labels: NDArray[Any], second: Any) -> frozenset[Label] | None:
    """What the second output tells: scikit-learn's models answer a probability for each class there."""
    seen: frozenset[Label] = frozenset(labels.tolist())
    if isinstance(second, list) and second and isinstance(second[0], dict):
        return frozenset(second[0])
    width = second.shape[1] if isinstance(second, np.ndarray) and second.ndim == 2 else 0
    if len(seen) == width:
        return seen
    if seen <= frozenset(range(width)):
        return frozenset(range(width))
    if not width:
        return seen | {0, 1} if seen <= {0, 1} else seen
    return None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
