"""The model: records in, decisions out, checked before anybody acts on them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from errors import ModelError
from runtime import onnxruntime
from sensor import FEATURES


class Decisions(NamedTuple):
    """One entry a record: ``labels`` (1 = alarm) and ``scores`` (probability of an anomaly, 0–1)."""

    labels: np.ndarray
    scores: np.ndarray


class Model:
    """An ONNX classifier in one thread: a device has other work for its cores, and a hundred of them share two."""

    def __init__(self, path: Path, sha256: str) -> None:
        """Loads, verifies and tries the model. Raises ModelError."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ModelError(f"{path}: {error.strerror}; expected the release's model") from error
        found = hashlib.sha256(content).hexdigest()
        if found != sha256:
            raise ModelError(f"{path}: expected sha256 {sha256}, as the manifest says, got {found}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what matters is raised; the rest would fill a device's log
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises a dozen types that share nothing but Exception
            raise ModelError(f"{path}: onnxruntime cannot load it: {_first_line(error)}") from error
        self._input = self._session.get_inputs()[0].name
        self.decide(np.zeros((1, FEATURES), dtype=np.float32))

    def decide(self, features: np.ndarray) -> Decisions:
        """Decisions on float32 ``[n, FEATURES]``. Raises ModelError for anything that is not n sound decisions."""
        try:
            labels, probabilities = self._session.run(["label", "probabilities"], {self._input: features})
        except Exception as error:  # as above
            raise ModelError(f"the model crashed: {_first_line(error)}") from error
        count = len(features)
        if labels.shape != (count,) or probabilities.shape != (count, 2):
            raise ModelError(
                f"the model answers the wrong shape: expected label [{count}] and probabilities [{count}, 2], "
                f"got {list(labels.shape)} and {list(probabilities.shape)}"
            )
        scores = probabilities[:, 1]
        if not (np.all(scores >= 0) and np.all(scores <= 1)):  # also false for NaN
            raise ModelError("the model answers a probability that is not between 0 and 1")
        if not np.all((labels == 0) | (labels == 1)):
            raise ModelError("the model answers a label that is neither 0 nor 1")
        return Decisions(labels, scores)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
