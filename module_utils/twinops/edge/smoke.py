"""Smoke test: the staged model answers the release's golden records as it did where it was trained."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from ..errors import TwinopsError

TOLERANCE = 1e-4
"""Largest difference of a probability; processors differ in the last bits of a float32. Labels must be equal."""

RUN_MODEL = """
import json, sys
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession("model.onnx", options, providers=["CPUExecutionProvider"])
records = numpy.asarray(json.load(open("golden.json"))["records"], dtype=numpy.float32)
labels, probabilities = session.run(["label", "probabilities"], {session.get_inputs()[0].name: records})
json.dump({"labels": labels.tolist(), "probabilities": probabilities.tolist()}, sys.stdout)
"""


def smoke_test(python: Path, slot: Path, timeout_s: float) -> None:
    """Run the model of ``slot`` in a process of its own, so that a crash or a hang is only the model's.

    :raises TwinopsError: it crashed, hung, or answered differently
    """
    golden = json.loads((slot / "golden.json").read_bytes())
    answer = _run(python, slot, timeout_s)
    if answer["labels"] != golden["labels"]:
        wrong = sum(got != expected for got, expected in zip(answer["labels"], golden["labels"]))
        raise TwinopsError(f"smoke test: {wrong} of {len(golden['labels'])} golden records got another label")
    worst = _largest_difference(answer["probabilities"], golden["probabilities"])
    if not worst <= TOLERANCE:  # also true for NaN
        raise TwinopsError(
            f"smoke test: probabilities differ by {worst:.3g} from the golden ones; at most {TOLERANCE:g}"
        )


def _run(python: Path, slot: Path, timeout_s: float) -> dict[str, Any]:
    process = subprocess.Popen(
        [str(python), "-I", "-c", RUN_MODEL],
        cwd=slot,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"},
    )
    try:
        output, errors = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise TwinopsError(f"smoke test: the model gave no answer within {timeout_s:g} s") from error
    if process.returncode != 0:
        last = errors.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise TwinopsError(f"smoke test: the model failed with exit code {process.returncode}: {last[0]}")
    try:
        return dict(json.loads(output))
    except ValueError as error:
        raise TwinopsError(f"smoke test: expected the model's answers, got {output[:80]!r}") from error


def _largest_difference(got: list[list[float]], expected: list[list[float]]) -> float:
    if [len(row) for row in got] != [len(row) for row in expected]:
        return float("inf")
    pairs = [pair for rows in zip(got, expected) for pair in zip(*rows)]
    differences = [abs(a - b) for a, b in pairs]
    return float("nan") if any(map(math.isnan, differences)) else max(differences, default=0.0)
