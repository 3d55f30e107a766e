"""``python -m toolbox.compare``: what it prints, how it exits, and what it says about bad input."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from onnx import TensorProto
from toolbox.compare_command import main

from tests.unit.toolbox.onnx_models import above

WORKFLOWS = Path(__file__).resolve().parents[3] / "workflows"
N = 2000
LIMITS = {"bad": 1.0, "good": 1.5, "never": 99.0}
"""The truth is: f1 above 1.6."""


@dataclass(frozen=True)
class Done:
    exit_code: int
    output: str
    errors: str

    @property
    def json(self) -> dict[str, Any]:
        found = json.loads(self.output)
        assert isinstance(found, dict)
        return found


class World:
    """Records, labels and models in a folder."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        random = np.random.default_rng(5)
        self.rows = pd.DataFrame({"record_id": [f"r{n}" for n in range(N)], "f1": random.normal(size=N)})
        self.rows["f2"] = random.normal(size=N)
        self.rows["label"] = (self.rows["f1"] > 1.6).astype(int)
        for name, limit in LIMITS.items():
            above(folder / f"{name}.onnx", limit)

    def run(self, *arguments: str | Path, rows: pd.DataFrame | None = None) -> Done:
        (self.rows if rows is None else rows).to_csv(self.folder / "records.csv", index=False)
        code = main([str(self.folder / "records.csv"), *map(str, arguments)])
        said = self._capsys.readouterr()
        return Done(code, said.out, said.err)

    def compare(self, champion: str, challenger: str, *more: str | Path, rows: pd.DataFrame | None = None) -> Done:
        models = [self.folder / f"{name}.onnx" for name in (champion, challenger)]
        return self.run(*models, *(more or ("--label", "label")), "--json", rows=rows)


@pytest.fixture
def world(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> World:
    return World(tmp_path, capsys)


@pytest.mark.parametrize(
    ("champion", "challenger", "verdict", "exit_code"),
    [
        ("bad", "good", "promote", 0),
        ("good", "good", "hold", 3),
        ("good", "bad", "block", 4),
        ("good", "never", "block", 4),
        ("never", "never", "hold", 3),
    ],
)
def test_verdicts_and_exit_codes(world: World, champion: str, challenger: str, verdict: str, exit_code: int) -> None:
    done = world.compare(champion, challenger)
    assert (done.exit_code, done.json["verdict"], done.errors) == (exit_code, verdict, "")
    assert done.json["reasons"]


def test_the_numbers(world: World) -> None:
    found = world.compare("bad", "good").json
    truth, decided = world.rows["label"], (world.rows["f1"] > 1.5).astype(int)
    assert (found["n"], found["n_received"], found["coverage"]) == (N, N, 1.0)
    challenger = found["challenger"]
    assert challenger["accuracy"] == (truth == decided).mean()
    assert challenger["confusion"] == pd.crosstab(truth, decided).to_numpy().tolist()
    assert challenger["recall"] == {"0": challenger["confusion"][0][0] / (truth == 0).sum(), "1": 1.0}
    assert 0 < found["champion"]["macro_f1"] < challenger["macro_f1"] < 1
    assert found["policy"]["version"] == 1


def test_twice_the_same_bytes_from_a_plain_python(world: World) -> None:
    """As a stranger runs it: from ``workflows/``, without our settings, with nothing but JSON on stdout."""
    world.compare("bad", "good")
    files = [str(world.folder / name) for name in ("records.csv", "bad.onnx", "good.onnx")]
    command = [sys.executable, "-m", "toolbox.compare", *files, "--label", "label", "--json"]
    runs = [
        subprocess.run(
            command, cwd=WORKFLOWS, env={"PYTHONHASHSEED": seed}, capture_output=True, timeout=120, check=True
        )
        for seed in ("1", "2")
    ]
    assert runs[0].stdout == runs[1].stdout
    assert json.loads(runs[0].stdout)["verdict"] == "promote"
    assert runs[0].stderr == b""


def test_for_people(world: World) -> None:
    done = world.run(world.folder / "good.onnx", world.folder / "never.onnx", "--label", "label")
    assert done.output.startswith("block: 2,000 labelled records of 2,000 (100.0%)\n")
    assert "class collapsed" in done.output
    assert "confusion of the challenger" in done.output


def test_late_labels_of_some_records_are_joined_and_coverage_says_how_many(world: World) -> None:
    labels = world.rows[["record_id", "label"]].sample(500, random_state=1)
    strangers = pd.DataFrame({"record_id": ["x1", "x2"], "label": [0, 1]})
    body = pd.concat([labels, strangers]).to_csv(index=False)
    path = world.folder / "labels.csv.gz"
    path.write_bytes(gzip.compress(body.encode()))
    done = world.compare("bad", "good", "--labels", path, rows=world.rows.drop(columns="label"))
    assert (done.json["n"], done.json["n_received"], done.json["coverage"]) == (500, N, 0.25)
    assert done.json["notes"] == ["2 labels belong to no record here"]
    decided = world.rows.loc[labels.index]
    assert done.json["champion"]["accuracy"] == ((decided["f1"] > 1.0) == decided["label"]).mean()


def test_a_label_column_may_have_gaps(world: World) -> None:
    rows = world.rows.astype({"label": float})
    rows.loc[rows.index[::4], "label"] = np.nan
    done = world.compare("bad", "good", rows=rows)
    assert (done.json["n"], done.json["coverage"]) == (1500, 0.75)


def test_duplicates_count_once_and_contradictions_are_named(world: World) -> None:
    again = world.rows.iloc[:300].copy()
    again.loc[again.index[0], "f2"] = 123.0
    again.loc[again.index[1], "label"] = 1 - again["label"].iloc[1]
    done = world.compare("bad", "good", rows=pd.concat([world.rows, again]))
    found = done.json
    assert (found["n"], found["n_received"], found["n_rows"]) == (N - 1, N, N + 300)
    assert found["notes"] == [
        "300 rows repeat a record that came before; each record counts once",
        "1 records came with different values, the first counts: r0",
        "1 records have contradicting labels and count as unlabelled: r1",
    ]
    once = world.compare("bad", "good").json
    assert found["challenger"]["accuracy"] == pytest.approx(once["challenger"]["accuracy"], abs=1 / N)


def test_a_label_that_came_with_the_second_copy_counts(world: World) -> None:
    first = world.rows.astype({"label": float}).assign(label=np.nan)
    done = world.compare("bad", "good", rows=pd.concat([first, world.rows]))
    assert (done.json["n"], done.json["n_received"]) == (N, N)


def test_globs_choose_features_for_each_model(world: World) -> None:
    rows = world.rows.rename(columns={"f1": "a1", "f2": "a2"})
    rows.insert(1, "b1", rows["a1"] * 2)
    above(world.folder / "wide.onnx", 3.0, width=1)
    done = world.compare(
        *("bad", "wide", "--label", "label", "--champion-features", "a*", "--challenger-features", "[b]?"), rows=rows
    )
    assert done.json["challenger"]["confusion"] == world.compare("bad", "good").json["challenger"]["confusion"]


def test_records_with_a_value_missing_are_not_judged_but_counted(world: World) -> None:
    rows = world.rows.copy()
    rows.loc[0, "f2"], rows.loc[1, "f1"] = np.nan, np.inf
    found = world.compare("bad", "good", rows=rows).json
    assert (found["n"], found["n_received"]) == (N - 2, N)
    assert found["notes"] == ["2 records have a value that is missing or infinite; devices decide none of them"]


def test_small_samples_hold(world: World) -> None:
    done = world.compare("never", "good", rows=world.rows.iloc[:250])
    assert done.exit_code == 3
    assert done.json["reasons"][0].startswith("too little evidence: 250 common labelled records")


def test_no_label_at_all_holds(world: World) -> None:
    done = world.compare("bad", "good", rows=world.rows.assign(label=np.nan))
    assert (done.exit_code, done.json["n"], done.json["coverage"]) == (3, 0, 0.0)
    assert done.json["champion"]["macro_f1"] is None


def test_without_record_id_each_row_is_a_record(world: World) -> None:
    rows = pd.concat([world.rows, world.rows]).drop(columns="record_id")
    assert world.compare("bad", "good", rows=rows).json["n"] == 2 * N


def test_labels_as_texts(world: World) -> None:
    rows = world.rows.assign(label=np.where(world.rows["label"] == 1, "alarm", "normal"))
    for name, limit in LIMITS.items():
        above(world.folder / f"{name}.onnx", limit, classes=("normal", "alarm"))
    done = world.compare("bad", "good", rows=rows)
    assert (done.json["verdict"], list(done.json["champion"]["recall"])) == ("promote", ["alarm", "normal"])


def test_another_policy(world: World) -> None:
    text = (WORKFLOWS / "toolbox/policies/compare.yml").read_text("utf-8")
    path = world.folder / "strict.yml"
    path.write_text(text.replace("least_records: 300", "least_records: 5000"))
    assert world.compare("bad", "good", "--label", "label", "--policy", path).exit_code == 3
    path.write_text(text.replace("significance: 0.05", "signficance: low"))
    done = world.compare("bad", "good", "--label", "label", "--policy", path)
    assert done.exit_code == 2
    assert "signficance: unknown key" in done.errors
    assert "significance: expected a number, it is missing" in done.errors


def say_no(world: World, *arguments: str | Path, rows: pd.DataFrame | None = None) -> str:
    """What the command says about bad input: one line, and nothing on stdout."""
    done = world.run(*arguments, rows=rows)
    assert (done.exit_code, done.output) == (2, "")
    assert done.errors.startswith("compare: ")
    assert done.errors.count("\n") == 1
    return done.errors


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows.iloc[:0], "records.csv: expected records below the header, got none"),
        (lambda rows: rows.drop(columns="label"), "records.csv: expected a column label, got record_id, f1, f2"),
        (lambda rows: rows.assign(f2=np.nan), "records.csv: column f2: expected numbers, all values are missing"),
        (lambda rows: rows.assign(f2="warm"), "column f2: expected numbers, got 'warm' in record 1"),
        (lambda rows: rows.assign(label=0.5), "column label: expected classes, got the number 0.5"),
        (lambda rows: rows.assign(f3=1), "bad.onnx: input records: expected 2 features, got 3 (f1, f2, f3)"),
        (lambda rows: rows.drop(columns="f2"), "bad.onnx: input records: expected 2 features, got 1 (f1)"),
        (
            lambda rows: rows.assign(label=rows["label"].replace(1, 7)),
            "expected a class that the models know: 0, 1",
        ),
        (lambda rows: rows.assign(label="much"), "label 'much' of record r0: expected a class that the models know"),
        (lambda rows: rows.assign(record_id=None), "expected a record_id in every row, row 1 has none"),
        (lambda rows: rows[["record_id", "label"]], "expected features beside the label"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_bad_records_are_named(world: World, change: Any, said: str) -> None:
    models = (world.folder / "bad.onnx", world.folder / "good.onnx")
    assert said in say_no(world, *models, "--label", "label", rows=change(world.rows))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"input_type": TensorProto.DOUBLE},
            "expected one input tensor(float) [n, features], got records tensor(double)",
        ),
        ({"outputs": "rows"}, "first output rows: expected one label a record, [2000], got [2000, 2]"),
        ({"outputs": "value"}, "first output: expected labels, got"),
        ({"column": 5, "width": None}, "new.onnx: cannot decide 2000 records"),
    ],
    ids=["float64", "all features", "a regression", "it crashes"],
)
def test_a_bad_model_is_named(world: World, settings: dict[str, Any], said: str) -> None:
    path = above(world.folder / "new.onnx", 1.0, **settings)
    assert said in say_no(world, world.folder / "bad.onnx", path, "--label", "label")


def test_files_that_are_no_models_are_named(world: World) -> None:
    champion = world.folder / "bad.onnx"
    assert "nowhere.onnx: expected an ONNX model: No such file" in say_no(
        world, champion, world.folder / "nowhere.onnx", "--label", "label"
    )
    text = world.folder / "text.onnx"
    text.write_text("not a model")
    assert "text.onnx: expected an ONNX model" in say_no(world, champion, text, "--label", "label")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("id,label\nr1,1\n", "labels.csv: expected a column record_id, by which labels are joined, got id, label"),
        ("record_id,a,b\nr1,1,1\n", "labels.csv: expected columns record_id and label, got record_id, a, b"),
        ("record_id,label\n", "labels.csv: expected records below the header, got none"),
        ("", "labels.csv: expected a CSV file with a header and records, the file is empty"),
    ],
    ids=["no key", "which column", "header only", "empty"],
)
def test_bad_labels_are_named(world: World, labels: str, said: str) -> None:
    path = world.folder / "labels.csv"
    path.write_text(labels)
    models = (world.folder / "bad.onnx", world.folder / "good.onnx")
    assert said in say_no(world, *models, "--labels", path)
