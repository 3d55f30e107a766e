"""Small ONNX models for tests: a record is an alarm where one of its features is above a limit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def above(
    path: Path,
    limit: float,
    *,
    width: int | None = 2,
    column: int = 0,
    classes: Sequence[Any] = (0, 1),
    input_type: int = TensorProto.FLOAT,
    outputs: str = "label",
) -> Path:
    """Write a model that decides ``classes[1]`` where feature ``column`` is above ``limit``. ``outputs``: ``label``, or
    ``values`` for a model whose first output is the feature itself, or ``rows`` for one that answers all features."""
    number = np.float32 if input_type == TensorProto.FLOAT else np.float64
    texts = isinstance(classes[0], str)
    constants = [
        numpy_helper.from_array(np.array([column], np.int64), "column"),
        numpy_helper.from_array(np.array([limit], number), "limit"),
        numpy_helper.from_array(np.array([0], np.int64), "axis"),
        numpy_helper.from_array(np.array(classes, object if texts else np.int64), "classes"),
    ]
    nodes = [
        helper.make_node("Gather", ["records", "column"], ["chosen"], axis=1),
        helper.make_node("Squeeze", ["chosen", "last"], ["value"]),
        helper.make_node("Greater", ["value", "limit"], ["above"]),
        helper.make_node("Cast", ["above"], ["position"], to=TensorProto.INT64),
        helper.make_node("Gather", ["classes", "position"], ["label"]),
        helper.make_node("Identity", ["records"], ["rows"]),
    ]
    constants.append(numpy_helper.from_array(np.array([1], np.int64), "last"))
    kinds = {
        "label": (TensorProto.STRING if texts else TensorProto.INT64, ["n"]),
        "value": (input_type, ["n"]),
        "rows": (input_type, ["n", width]),
    }
    graph = helper.make_graph(
        nodes,
        "above",
        [helper.make_tensor_value_info("records", input_type, ["n", width])],
        [helper.make_tensor_value_info(outputs, *kinds[outputs])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    assert onnx.load(path).graph.name == "above"
    return path
