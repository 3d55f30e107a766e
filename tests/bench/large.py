"""The evaluation of ten million decisions out of core: time, and the peak of memory of the whole process.

``make bench-mlops BENCH="--only large"``. Target: at most 2 GB. Decisions of two versions on ten devices, as Parquet;
nine in ten records have a label. A tenth of the decisions repeat a record, as a sensor feed that starts over does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

CLONE = Path(__file__).resolve().parents[2]
DEVICES = 10
REPEATED = 0.1
LABELLED = 0.9
ALARMS = 0.07
WRONG = {"v1": 0.02, "v2": 0.01}
MOST_BYTES = 2e9
TIMEOUT_S = 1800

EVALUATE = """
import json, pathlib, resource, sys, time
from toolbox import large
folder = pathlib.Path(sys.argv[1])
cpu, wall = time.process_time(), time.monotonic()
found = large.evaluate(sorted(folder.glob("decisions-*.parquet")), folder / "labels.parquet")
print(json.dumps({
    "cpu_s": time.process_time() - cpu,
    "wall_s": time.monotonic() - wall,
    "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    "counted": sum(version.n_decisions for version in found.versions),
    "compared": found.comparison.n,
    "verdict": found.comparison.verdict,
}))
"""


def write_decisions(folder: Path, decisions: int) -> int:
    """Parquet files of one device and version each, and the labels; the bytes of all files."""
    random = np.random.default_rng(0)
    each = decisions // (DEVICES * len(WRONG))
    records = round(each * (1 - REPEATED))
    truth = (random.random(records) < ALARMS).astype(np.int8)
    ids = pa.array([f"shuttle-{number:07}" for number in range(records)])
    for device in range(DEVICES):
        for at, (release, wrong) in enumerate(WRONG.items()):
            seen = np.arange(each) % records
            label = np.where(random.random(each) < wrong, 1 - truth[seen], truth[seen]).astype(np.int8)
            started = np.datetime64("2026-11-22") + np.timedelta64(at, "D")
            table = pa.table(
                {
                    "device": pa.array([f"device-{device:03}"] * each),
                    "seq": at * each + np.arange(each),
                    "record_id": ids.take(pa.array(seen)),
                    "recorded_at": started + np.arange(each) * np.timedelta64(20, "ms"),
                    "release": pa.array([release] * each),
                    "model_sha256": pa.array([release * 32] * each),
                    "label": label,
                }
            )
            parquet.write_table(table, folder / f"decisions-{device}-{release}.parquet")
    known = random.random(records) < LABELLED
    parquet.write_table(
        pa.table({"record_id": ids.filter(pa.array(known)), "label": truth[known]}), folder / "labels.parquet"
    )
    return sum(file.stat().st_size for file in folder.glob("*.parquet"))


def measure(decisions: int) -> dict[str, float]:
    """What the evaluation took, in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        files_bytes = write_decisions(Path(name), decisions)
        environment = {**os.environ, "PYTHONPATH": f"{CLONE}/workflows"}
        done = subprocess.run(
            [sys.executable, "-c", EVALUATE, name],
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"toolbox.large: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return {**json.loads(done.stdout.splitlines()[-1]), "files_bytes": files_bytes}


def report(decisions: int) -> bool:
    """Print what was measured; whether the target was reached."""
    found = measure(decisions)
    print(
        f"{decisions:,} decisions ({found['files_bytes'] / 1e6:.0f} MB of Parquet), {found['counted']:,.0f} counted, "
        f"{found['compared']:,.0f} compared, verdict {found['verdict']}\n"
        f"CPU {found['cpu_s']:.1f} s, wall {found['wall_s']:.1f} s, peak {found['peak_bytes'] / 1e6:.0f} MB, "
        f"allowed {MOST_BYTES / 1e6:.0f} MB",
        flush=True,
    )
    return found["peak_bytes"] <= MOST_BYTES
