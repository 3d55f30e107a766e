"""``python -m toolbox.drift``: files in, a verdict out."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toolbox import table
from toolbox.drift import main

WORKFLOWS = Path(__file__).resolve().parents[3] / "workflows"
N = 500


def frame(seed: int, **columns: object) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    rows = {"record_id": [f"r{seed}-{n}" for n in range(N)], "f1": random.normal(size=N), "f, 2": random.normal(size=N)}
    return pd.DataFrame({**rows, "mode": random.choice(["on", "off"], N), **columns})


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    path = tmp_path / "ref.csv"
    frame(1).to_csv(path, index=False)
    return path


def current(folder: Path, **columns: object) -> Path:
    path = folder / "cur.csv.gz"
    frame(2, **columns).to_csv(path, index=False)
    return path


def gaps() -> np.ndarray:
    return np.where(np.arange(N) % 3 == 0, np.nan, np.random.default_rng(4).normal(size=N))


@pytest.mark.parametrize(
    ("columns", "verdict", "exit_code"),
    [
        ({}, "none", 0),
        ({"f1": 0.3}, "warn", 3),
        ({"f1": gaps()}, "warn", 3),
        ({"f1": np.random.default_rng(4).normal(1, size=N)}, "drift", 4),
        ({"mode": ["on"] * 100 + ["off"] * 400}, "drift", 4),
    ],
    ids=["same", "constant", "missing", "drift", "categories"],
)
def test_verdicts_and_exit_codes(  # noqa: PLR0917
    columns: dict[str, object],
    verdict: str,
    exit_code: int,
    reference: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([str(reference), str(current(tmp_path, **columns)), "--json"]) == exit_code
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == verdict
    assert found["n_features"] == 3
    assert list(found["features"]) == ["f1", "f, 2", "mode"]
    assert {"ks_d", "ks_p", "wasserstein", "wasserstein_norm", "psi"} <= set(found["features"]["f, 2"])
    assert found["n_drifted"] == len(found["drifted"]) == (verdict == "drift")


def test_twice_the_same_bytes_from_a_plain_python(reference: Path, tmp_path: Path) -> None:
    """As a stranger runs it: from ``workflows/``, without our settings, with nothing but JSON on stdout."""
    command = [sys.executable, "-m", "toolbox.drift", str(reference), str(current(tmp_path, f1=7)), "--json"]
    runs = [
        subprocess.run(
            command, cwd=WORKFLOWS, env={"PYTHONHASHSEED": seed}, capture_output=True, timeout=120, check=False
        )
        for seed in ("1", "2")
    ]
    assert [run.returncode for run in runs] == [3, 3]
    assert runs[0].stdout == runs[1].stdout
    assert json.loads(runs[0].stdout)["constant"] == ["f1"]
    assert runs[0].stderr == b""


def test_for_people(reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(4)
    main([str(reference), str(current(tmp_path, **{"f1": random.normal(size=N) * 1000, "f, 2": 1.5}))])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"drift: {tmp_path}/cur.csv.gz (500 records) against ")
    assert lines[2].startswith("  f1: drifted (D 0.")
    assert lines[2].endswith("looks like another unit: factor 10^3")
    assert lines[3] == "  f, 2: stands still at 1.5; the reference varies"
    widths = {len(line) for line in lines if line.startswith(("f1 ", "f, 2 ", "mode ", "column "))}
    assert len(widths) == 1, "the table is aligned"


def test_a_silent_sensor_is_named_on_stderr_too(
    reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(reference), str(current(tmp_path, f1=None)), "--json"]) == 3
    said = capsys.readouterr()
    assert json.loads(said.out)["missing"] == {"f1": 1.0}
    assert "cur.csv.gz: column f1: all values are missing" in said.err


BAD = {
    "no such file": (None, "expected a CSV file: No such file or directory"),
    "empty": (b"", "the file is empty"),
    "blank": (b"\n\n  \n", "the file is empty"),
    "header only": (b"record_id,f1,mode\n", "expected records below the header, got none"),
    "binary": (bytes(range(256)) * 9, "expected a CSV file in UTF-8, got binary data"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "expected a CSV file in UTF-8, got binary data"),
    "Latin-1": ("f1,mode\n1,Gr\u00fcn\n".encode("latin-1"), "column mode: expected UTF-8, got other bytes"),
    "a column twice": (b"f1,f1\n1,2\n", "header: expected every column once, got f1 twice or more"),
    "no name": (b",f1\n0,2\n", "header: expected a name for each column, column 1 has none"),
    "ragged": (b"f1,mode\n1,on\n2\n", "expected a CSV file: CSV parse error: Expected 2 columns, got 1"),
    "a text": (b"It was a dark and stormy night.\nThe end.\n", "missing: f1, f, 2, mode"),
    "a broken gzip": (gzip.compress(b"f1,mode\n1,on\n" * 99)[:-9], "expected a CSV file: Compressed file ended"),
    "texts": (b'f1,"f, 2",mode\nx,1,on\n', "column f1: expected numbers, as in"),
    "all missing": (b'f1,"f, 2",mode\nNaN,,\n', "cur.csv: expected values, all are missing"),
    "only ids": (b"record_id\nr1\n", "missing: f1, f, 2, mode"),
}


@pytest.mark.parametrize(("body", "said"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("place", ["current", "reference"])
def test_bad_input_is_named_in_one_line(  # noqa: PLR0917
    place: str, body: bytes | None, said: str, reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cur.csv"
    if body is not None:
        path.write_bytes(body)
    files = [str(reference), str(path)]
    assert main(files if place == "current" else files[::-1]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("drift: ")
    assert told.err.count("\n") == 1
    if place == "current":
        assert said in told.err


def test_a_folder_is_named(reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(reference), str(tmp_path)]) == 2
    assert "expected a CSV file: Is a directory" in capsys.readouterr().err


def test_to_the_last_bit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers are read as they were written: not one in a million is off by its last digit."""
    values = np.random.default_rng(4).normal(size=20_000) * 10.0 ** np.arange(20_000).__mod__(17)
    pd.DataFrame({"f": values}).to_csv(tmp_path / "exact.csv", index=False)
    assert np.array_equal(table.numbers(table.read(tmp_path / "exact.csv")["f"]), values)


def test_a_text_far_below_is_found(tmp_path: Path) -> None:
    """Types are guessed from the beginning of a file, and mended where that was wrong."""
    path = tmp_path / "long.csv"
    path.write_text("id,f,g\n" + "".join(f"{n},{n},{'odd' if n == 99_999 else n}\n" for n in range(100_000)))
    found = table.read(path, texts=["id"])
    assert [str(field.type) for field in found.schema] == ["string", "int64", "string"]
    assert table.first_text(found["g"]) == (100_000, "odd")
