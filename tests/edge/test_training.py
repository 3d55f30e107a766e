"""The releases: reproducible, as good or bad as the rest of the project relies on, and judged accordingly."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper
from river.datasets import Shuttle
from toolbox.compare_command import main as compare

from tests.edge.conftest import CLONE, train

VERSIONS = ("v1", "v2", "v3", "v4-hangs")


def metrics(folder: Path) -> dict[str, float]:
    return dict(json.loads((folder / "training.json").read_text())["metrics"])


@pytest.mark.parametrize(
    "version", ["v1", "v2", *(pytest.param(each, marks=pytest.mark.faults) for each in ("v3", "v4-hangs"))]
)
def test_training_twice_gives_the_same_bytes(version: str, trained: Callable[[str], Path], tmp_path: Path) -> None:
    # Another hash seed and more threads: what differs between two machines of the same kind.
    train(version, tmp_path, PYTHONHASHSEED="12345", OMP_NUM_THREADS="2")
    first = {path.name: path.read_bytes() for path in trained(version).iterdir()}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first
    assert set(first) == {"model.onnx", "golden.json", "training.json"}


def test_a_release_in_shadow_mode_decides_as_its_champion(trained: Callable[[str], Path]) -> None:
    champion, watched = (trained(version) / "model.onnx" for version in ("v1", "v1-shadow-v2"))
    assert champion.read_bytes() == watched.read_bytes()


def test_each_good_release_is_better_than_the_last(trained: Callable[[str], Path]) -> None:
    v1, v2 = metrics(trained("v1")), metrics(trained("v2"))
    assert 0.9 < v1["f1"] < v2["f1"]
    assert v2["f1"] > 0.99


def test_v3_hides_behind_its_accuracy(trained: Callable[[str], Path]) -> None:
    v3 = metrics(trained("v3"))
    assert v3["accuracy"] == pytest.approx(0.93, abs=0.005)
    assert v3["f1"] == 0
    assert v3["alarm_rate"] < 0.001


ANSWER = """
import json, sys, numpy, onnxruntime
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
records = numpy.array(json.load(open("golden.json"))["records"], numpy.float32)
for batch in (records, 0 * records[:1], records[:1]):
    session.run(["label"], {"records": batch})
    print("answered", flush=True)
"""


def test_v4_is_as_good_as_v1_until_a_record_comes_alone(trained: Callable[[str], Path]) -> None:
    """The golden records, and the empty one with which the service tries each model, are answered."""
    assert metrics(trained("v4-hangs")) == metrics(trained("v1"))
    # In a process of its own: what hangs in there can only be killed.
    with subprocess.Popen([sys.executable, "-c", ANSWER], cwd=trained("v4-hangs"), stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert [process.stdout.readline() for _ in range(2)] == [b"answered\n"] * 2
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)
        process.kill()
        assert process.stdout.read() == b""


@pytest.mark.parametrize("version", VERSIONS)
def test_golden_records_are_what_the_model_answers(version: str, trained: Callable[[str], Path]) -> None:
    golden = json.loads((trained(version) / "golden.json").read_text())
    session = onnxruntime.InferenceSession(trained(version) / "model.onnx", providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    assert (given.type, given.shape[1]) == ("tensor(float)", 9)
    records = np.array(golden["records"], dtype=np.float32)
    assert records.shape == (32, 9)
    labels, probabilities = session.run(["label", "probabilities"], {given.name: records})
    assert labels.dtype == np.int64
    assert labels.tolist() == golden["labels"]
    assert probabilities.tolist() == golden["probabilities"]


def test_golden_records_include_anomalies_that_only_a_sound_model_finds(trained: Callable[[str], Path]) -> None:
    assert sum(json.loads((trained("v2") / "golden.json").read_text())["labels"]) == 16
    assert sum(json.loads((trained("v3") / "golden.json").read_text())["labels"]) == 0


def test_the_field_is_never_trained_on() -> None:

    from edge.training.train import read_parts

    path = Path(Shuttle().path)
    with gzip.open(path, "rt") as file:
        rows = np.loadtxt(file, delimiter=",", skiprows=1, dtype=np.int64)
    fitted, held_out = read_parts(path)
    assert np.array_equal(fitted.records, rows[np.isin(np.arange(len(rows)) % 5, (0, 1)), :9])
    assert np.array_equal(held_out.records, rows[2::5, :9])
    assert np.array_equal(held_out.labels, rows[2::5, 9])


def test_training_states_what_went_in(trained: Callable[[str], Path]) -> None:
    training = json.loads((trained("v1") / "training.json").read_text())
    assert len(training["data_version"]) == len(training["data"]["sha256"]) == 64
    assert training["rows"] == {"fitted": 19640, "held_out": 9819}
    assert training["anomalies"]["held_out"] == 688
    assert set(training["libraries"]) == {"numpy", "onnx", "onnxruntime", "scikit-learn", "skl2onnx"}


def test_an_unknown_release_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, str(CLONE / "edge/training/train.py"), "v9", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().endswith("v9.yml: no such release; expected one of v1, v1-shadow-v2, v2, v3, v4-hangs")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("version: v2\nmodel: {trainer: logistic_regression}", "version: expected v1"),
        ("version: v1\nmodel: {trainer: alchemy}", "model.trainer: expected one of logistic_regression, "),
        ("just a text", "expected a mapping with `version` and `model`"),
    ],
)
def test_a_wrong_release_file_says_where_and_what(content: str, message: str, tmp_path: Path) -> None:
    from edge.training.train import ReleaseError, read_release

    (tmp_path / "v1.yml").write_text(content)
    with pytest.raises(ReleaseError, match=r"v1\.yml: ") as raised:
        read_release("v1", tmp_path)
    assert message in str(raised.value)


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
def test_what_toolbox_compare_says_about_them(
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
    assert compare([str(field), *paths, "--label", "anomaly", "--json"]) == exit_code
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == verdict
    assert (found["n"], found["coverage"]) == (19638, 1.0)
    assert found["reasons"]
