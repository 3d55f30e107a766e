"""The model's guard: only sound decisions get through, and what is wrong is said. Real models, real onnxruntime."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from errors import ModelError
from model import Model
from onnx import TensorProto, helper

from sandbox.settings import CLONE
from tests.edge.models import answering, saved


def load(tmp_path: Path, content: bytes) -> Model:
    (tmp_path / "model.onnx").write_bytes(content)
    return Model(tmp_path / "model.onnx", hashlib.sha256(content).hexdigest())


def test_decides_as_it_was_trained(tmp_path: Path, trained: Callable[[str], Path]) -> None:
    model = load(tmp_path, (trained("v1") / "model.onnx").read_bytes())
    decisions = model.decide(np.random.default_rng(1).normal(30, 40, (50, 9)).astype(np.float32))
    assert decisions.labels.tolist() == (decisions.scores > 0.5).astype(int).tolist()
    assert 0 < decisions.labels.sum() < 50


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([0], [[0.5, float("nan")]], "a probability that is not between 0 and 1"),
        ([0], [[0.5, 1.5]], "a probability that is not between 0 and 1"),
        (
            [0],
            [[0.5, 0.2, 0.3]],
            r"wrong shape: expected label \[1\] and probabilities \[1, 2\], got \[1\] and \[1, 3\]",
        ),
        ([0, 1], [[0.5, 0.5]], "wrong shape"),
        ([7], [[0.5, 0.5]], "a label that is neither 0 nor 1"),
    ],
)
def test_answers_that_are_no_decisions(
    labels: list[int], probabilities: list[list[float]], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=message):
        load(tmp_path, answering(labels, probabilities))


def test_a_model_that_crashes(tmp_path: Path) -> None:
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [4, 7])  # 9 numbers have no such shape
    node = helper.make_node("Reshape", ["records", "shape"], ["probabilities"])
    content = saved([node, helper.make_node("Cast", ["probabilities"], ["label"], to=TensorProto.INT64)], [shape])
    with pytest.raises(ModelError, match=r"the model crashed: .*Reshape"):
        load(tmp_path, content)


def test_a_model_without_the_outputs(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["records"], ["y"])],
        "g",
        [helper.make_tensor_value_info("records", TensorProto.FLOAT, [None, 9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 9])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    with pytest.raises(ModelError, match=r"the model crashed: .*label"):
        load(tmp_path, model.SerializeToString())


def test_bytes_that_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="onnxruntime cannot load it"):
        load(tmp_path, b"no model")


def test_a_flipped_bit(tmp_path: Path, trained: Callable[[str], Path]) -> None:
    content = bytearray((trained("v1") / "model.onnx").read_bytes())
    expected = hashlib.sha256(content).hexdigest()
    content[100] ^= 1
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=f"expected sha256 {expected}, as the manifest says, got"):
        Model(tmp_path / "model.onnx", expected)


def test_no_model_at_all(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        Model(tmp_path / "model.onnx", "0" * 64)


@pytest.mark.parametrize(
    ("folder", "module"), [("edge/process", "model"), ("edge/training", "train")], ids=["service", "training"]
)
def test_onnxruntime_keeps_no_usage_data(folder: str, module: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    subprocess.run(
        [sys.executable, "-c", f"import {module}"], cwd=CLONE / folder, env=environment, check=True, timeout=60
    )
    assert list(tmp_path.rglob("*onnxruntime*")) == []
