"""ONNX models that misbehave, for the tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def saved(nodes: Sequence[onnx.NodeProto], initializers: Sequence[onnx.TensorProto]) -> bytes:
    """A model of ``nodes`` from ``records`` to ``label`` and ``probabilities``."""
    graph = helper.make_graph(
        nodes,
        "misbehaving",
        [helper.make_tensor_value_info("records", TensorProto.FLOAT, [None, 9])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, None),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, None),
        ],
        list(initializers),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def answering(labels: Sequence[int], probabilities: Sequence[Sequence[float]]) -> bytes:
    """A model that always gives this answer."""
    values = [
        numpy_helper.from_array(np.array(labels, dtype=np.int64), "labels"),
        numpy_helper.from_array(np.array(probabilities, dtype=np.float32), "scores"),
    ]
    nodes = [
        helper.make_node("Identity", ["labels"], ["label"]),
        helper.make_node("Identity", ["scores"], ["probabilities"]),
    ]
    return saved(nodes, values)


def hanging_on_real_records() -> bytes:
    """A model that answers zeros at once, and counts for hours on anything else."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["go_on_out"]),
            helper.make_node("Cos", ["value"], ["value_out"]),
        ],
        "count",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value_out", TensorProto.FLOAT, None),
        ],
    )
    nodes = [
        helper.make_node("ReduceMax", ["records"], ["largest"], keepdims=0),
        helper.make_node("Greater", ["largest", "zero"], ["busy"]),
        helper.make_node("Slice", ["records", "first", "third", "axis"], ["pair"]),
        helper.make_node("Loop", ["for_ever", "busy", "pair"], ["counted"], body=body),
        helper.make_node("Clip", ["counted", "zero", "one"], ["probabilities"]),
        helper.make_node("ReduceMax", ["probabilities", "axis"], ["highest"], keepdims=0),
        helper.make_node("Cast", ["highest"], ["label"], to=TensorProto.INT64),
    ]
    values = {
        "zero": np.float32(0),
        "one": np.float32(1),
        "for_ever": np.int64(10**15),
        "first": np.array([0], dtype=np.int64),
        "third": np.array([2], dtype=np.int64),
        "axis": np.array([1], dtype=np.int64),
    }
    return saved(nodes, [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()])
