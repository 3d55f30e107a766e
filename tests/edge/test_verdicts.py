"""The verdicts about the models that this repository really ships, on records that no training saw."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper
from river.datasets import Shuttle
from toolbox.compare_command import main

FIELD = (3, 4)
"""``row % 5`` of the records that devices see (docs/edge.md)."""


@pytest.fixture(scope="session")
def field(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The field's records with their labels."""
    rows = pd.read_csv(Shuttle().path)
    rows.insert(0, "record_id", [f"shuttle-{row}" for row in range(len(rows))])
    path = tmp_path_factory.mktemp("field") / "records.csv.gz"
    rows[np.isin(rows.index % 5, FIELD)].to_csv(path, index=False)
    return path


@pytest.fixture(scope="session")
def models(trained: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The ONNX file of a release, or ``wrong scaler``: v2 behind another standardisation than it was trained with."""

    def path(name: str) -> Path:
        if name != "wrong scaler":
            return trained(name) / "model.onnx"
        wrong = tmp_path_factory.mktemp("wrong") / "model.onnx"
        return behind_a_wrong_scaler(trained("v2") / "model.onnx", wrong)

    return path


def behind_a_wrong_scaler(path: Path, target: Path) -> Path:
    """The model, fed with records that were divided by ten first."""
    model = onnx.load(path)
    name = model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = ["scaled" if one == name else one for one in node.input]
    model.graph.initializer.append(numpy_helper.from_array(np.array([10], np.float32), "ten"))
    model.graph.node.insert(0, helper.make_node("Div", [name, "ten"], ["scaled"]))
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    onnx.save(model, target)
    return target


@pytest.mark.parametrize(
    ("champion", "challenger", "verdict", "exit_code"),
    [
        ("v1", "v2", "promote", 0),
        ("v2", "v2", "hold", 3),
        ("v2", "v3", "block", 4),
        ("v2", "wrong scaler", "block", 4),
        ("v2", "v1", "block", 4),
    ],
)
def test_verdicts(
    champion: str,
    challenger: str,
    verdict: str,
    exit_code: int,
    *,
    models: Callable[[str], Path],
    field: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    paths = [str(models(name)) for name in (champion, challenger)]
    assert main([str(field), *paths, "--label", "anomaly", "--json"]) == exit_code
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == verdict
    assert (found["n"], found["coverage"]) == (19638, 1.0)
    assert found["reasons"]
