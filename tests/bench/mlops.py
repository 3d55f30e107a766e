"""The toolbox beside bare scipy and evidently, on the same arrays: CPU, time and memory, each in a process of its own.

``make bench-mlops``. Ratios are what matters: the machine's speed cancels out. Targets: the command on 128
columns × 100,000 rows takes at most 1.5 times the CPU of the bare scipy calls, and three times the memory of its input.
Then the evaluation of ten million decisions (:mod:`tests.bench.large`).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

from tests.bench import large

CLONE = Path(__file__).resolve().parents[2]
ORACLE = CLONE / ".cache/envs/oracle/bin/python"
TIMEOUT_S = 1800
MOST_CPU_RATIO, MOST_MEMORY_RATIO = 1.5, 3.0

SCIPY = """
from scipy import stats
for i in range(a.shape[1]):
    stats.ks_2samp(a[:, i], b[:, i])
    stats.wasserstein_distance(a[:, i], b[:, i])
"""
TOOLBOX = """
from toolbox import drift
drift.compare(*(drift.Matrix(x, [f"f{i}" for i in range(x.shape[1])]) for x in (a, b)))
"""
EVIDENTLY = """
import warnings; warnings.simplefilter("ignore")
import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset
frames = [pd.DataFrame(x, columns=[f"f{i}" for i in range(x.shape[1])]) for x in (a, b)]
preset = DataDriftPreset(num_method="wasserstein")
Report([preset]).run(frames[1], frames[0]).save_html(str(folder / "evidently.html"))
"""
HARNESS = """
import json, pathlib, resource, sys, time
import numpy as np
folder = pathlib.Path(sys.argv[1])
a, b = (np.load(folder / f"{name}.npy") for name in "ab")
cpu, wall = time.process_time(), time.monotonic()
CODE
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"cpu_s": time.process_time() - cpu, "wall_s": time.monotonic() - wall, "peak_bytes": peak}))
"""


def measure(python: Path, code: str, folder: Path) -> dict[str, float]:
    """CPU and wall seconds (with imports), and the peak of memory (with the arrays) of ``code`` on the arrays."""
    return _last_json([str(python), "-c", HARNESS.replace("CODE", code), str(folder)])


def measure_command(folder: Path, *options: str) -> dict[str, float]:
    """The same of the command on CSV files, all included."""
    watcher = (
        "import json, resource, subprocess, sys, time; wall = time.monotonic();"
        "code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode; assert code in (0, 3, 4), code;"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN);"
        "print(json.dumps({'cpu_s': used.ru_utime + used.ru_stime, 'wall_s': time.monotonic() - wall,"
        " 'peak_bytes': used.ru_maxrss * 1024}))"
    )
    command = [sys.executable, "-m", "toolbox.drift", str(folder / "a.csv"), str(folder / "b.csv"), "--json", *options]
    return _last_json([sys.executable, "-c", watcher, *command])


def _last_json(command: Sequence[str]) -> dict[str, float]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{CLONE}/workflows"}
    done = subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        cwd=CLONE / "workflows",
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} exited with {done.returncode}: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def write_arrays(folder: Path, columns: int, rows: int) -> int:
    """Two samples of normal numbers, the first column shifted, as arrays and CSV; the arrays' size in bytes."""
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, rows, columns))
    b[:, 0] += 0.5
    for name, array in (("a", a), ("b", b)):
        np.save(folder / f"{name}.npy", array)
        csv.write_csv(pa.table({f"f{i}": array[:, i] for i in range(columns)}), folder / f"{name}.csv")
    return int(a.nbytes + b.nbytes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--columns", type=int, default=128)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repetitions", type=int, default=3, help="the fastest of them counts")
    parser.add_argument("--decisions", type=int, default=10_000_000, help="of the evaluation out of core")
    parser.add_argument("--only", choices=("drift", "large"), help="one of the two parts")
    options = parser.parse_args()
    missed = [] if options.only == "large" else compare_drift(options)
    if options.only != "drift" and not large.report(options.decisions):
        missed.append("memory of the evaluation")
    print("targets met" if not missed else f"missed: {'; '.join(missed)}")
    return 1 if missed else 0


def compare_drift(options: argparse.Namespace) -> list[str]:
    """Print the table of contenders; the targets that were missed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        input_bytes = write_arrays(folder, options.columns, options.rows)
        contenders = {
            "bare scipy (KS, Wasserstein)": lambda: measure(Path(sys.executable), SCIPY, folder),
            "toolbox.drift, arrays": lambda: measure(Path(sys.executable), TOOLBOX, folder),
            "python -m toolbox.drift, CSV": lambda: measure_command(folder),
            "the same, with its report": lambda: measure_command(folder, "--html", str(folder / "toolbox.html")),
            "evidently, report": lambda: measure(ORACLE, EVIDENTLY, folder),
        }
        found = {}
        print(f"{options.columns} columns x {options.rows:,} rows, twice: {input_bytes / 1e6:.0f} MB as doubles\n")
        print(f"| | CPU s | wall s | ÷ scipy (CPU) | peak MB | ÷ input |\n|{'---|' * 6}")
        for contender, run in contenders.items():
            tries = 1 if "evidently" in contender else options.repetitions
            found[contender] = one = min((run() for _ in range(tries)), key=lambda each: each["cpu_s"])
            cpu_ratio = one["cpu_s"] / found["bare scipy (KS, Wasserstein)"]["cpu_s"]
            one |= {"cpu_ratio": cpu_ratio, "memory_ratio": one["peak_bytes"] / input_bytes}
            print(
                f"| {contender} | {one['cpu_s']:.1f} | {one['wall_s']:.1f} | {cpu_ratio:.2f} | "
                f"{one['peak_bytes'] / 1e6:.0f} | {one['memory_ratio']:.1f} |",
                flush=True,
            )
        pages = [(folder / f"{name}.html").stat().st_size for name in ("toolbox", "evidently")]
    print(f"\nthe report: {pages[0] / 1e6:.2f} MB, evidently's: {pages[1] / 1e6:.1f} MB")
    command = found["python -m toolbox.drift, CSV"]
    return [
        f"{name} {command[key]:.2f}, allowed {most}"
        for name, key, most in (("CPU", "cpu_ratio", MOST_CPU_RATIO), ("memory", "memory_ratio", MOST_MEMORY_RATIO))
        if command[key] > most
    ]


if __name__ == "__main__":
    sys.exit(main())
