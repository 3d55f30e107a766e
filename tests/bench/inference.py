"""`make bench-inference`: the service of a device beside a bare onnxruntime loop, and an outage of S3.

Throughput is records per CPU-second of the process: what else runs on the machine falls out. docs/bench.md explains.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import gzip
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sandbox.settings import CLONE
from tests.bench import report
from tests.edge.conftest import PROCESS, S3, Device, train, wait_until

RESULTS = CLONE / "build/bench/inference.json"
BATCH = 256
"""``max_batch_records`` of the service: what it gives its model at once when it has fallen behind, and here always."""
LEAST_RATIO = 0.8
MOST_ADDED_MS = 10.0
"""A tenth of the 100 ms that a decision may wait to be made durable."""
OUTAGE_RECORDS = 10_000
TICK_S = 1 / os.sysconf("SC_CLK_TCK")

BARE = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from runtime import onnxruntime
from sensor import CsvReplay
model, records, reads = sys.argv[2], Path(sys.argv[3]), sys.argv[6]
batch, seconds = int(sys.argv[4]), float(sys.argv[5])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
sensor = CsvReplay(records, 0, None)
held = sensor.read(20_000).features
count, took_s, began = 0, [], time.process_time()
while time.process_time() - began < seconds:
    if reads == "reads":
        features = sensor.read(batch).features
    else:
        start = count % (len(held) - batch)
        features = held[start : start + batch]
    called = time.perf_counter()
    labels, probabilities = session.run(["label", "probabilities"], {name: features})
    took_s.append(time.perf_counter() - called)
    count += len(labels)
used_s = time.process_time() - began
took_s.sort()
print(json.dumps({"rate": count / used_s, "p99_ms": took_s[int(len(took_s) * 0.99)] * 1000}))
"""
"""The model alone, on records that it reads as the service does, or that it holds."""


@dataclass(frozen=True)
class Throughput:
    """Records per CPU-second: of the service, and of bare loops that read each batch, hold all records, or take one
    record at a time."""

    model: str
    service: float
    bare_reading: float
    bare_holding: float
    bare_single: float


@dataclass(frozen=True)
class Latency:
    """Of batches as they come at ``rate_hz``: of the whole way to a durable decision, and of the model alone."""

    rate_hz: float
    service_p99_ms: float
    model_p99_ms: float


@dataclass(frozen=True)
class Outage:
    """What the bucket has after S3 was away: by ``record_id`` against what was decided."""

    decided: int
    while_away: int
    lost: int
    doubled: int
    objects: int


@contextlib.contextmanager
def device(model: Path, records: Path, **settings: Any) -> Iterator[Device]:
    """A device with the real service on it, not started."""
    folder = Path(tempfile.mkdtemp(prefix="twinops-bench-"))
    made = Device(folder / "opt", model.read_bytes())
    made.release(model.read_bytes(), {"max_batch_records": BATCH, "spool_limit_records": 10**8})
    shutil.copy(records, folder / "records.csv")
    made.configure(sensor={"path": str(folder / "records.csv")}, **settings)
    try:
        yield made
    finally:
        made.kill()
        shutil.rmtree(folder)


def write_records(path: Path, count: int) -> None:
    """Rows as the plant has them: nine whole numbers, each row with a name of its own."""
    values = np.random.default_rng(1).integers(-50, 120, (count, 9)).tolist()
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["record_id", *(f"f{number}" for number in range(1, 10))])
        rows.writerows([f"r-{row}", *numbers] for row, numbers in enumerate(values))


def bare(model: Path, records: Path, batch: int, seconds: float, *, reads: bool) -> dict[str, float]:
    how = "reads" if reads else "holds"
    command = [sys.executable, "-c", BARE, PROCESS, model, records, str(batch), str(seconds), how]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60 + 20 * seconds)
    return dict(json.loads(done.stdout))


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def service_rate(model: Path, records: Path, seconds: float) -> float:
    """Records per CPU-second of the whole process, S3 away: it decides, formats and makes durable."""
    with device(model, records) as made:
        made.configure(sensor={"rate_hz": 0}, upload={"interval_s": 3600})
        made.start()
        health = made.wait_for("ok")
        pid = health["pid"]
        before, began = made.health()["records"], cpu_s(pid)
        while cpu_s(pid) - began < seconds:
            time.sleep(0.2)
        after = made.health()
        return float((after["records"] - before) / (cpu_s(pid) - began))


def measure_throughput(name: str, model: Path, records: Path, seconds: float, repetitions: int) -> Throughput:
    """The best of each: what is slower was disturbed."""
    services, reading, holding, single = [], [], [], []
    for _ in range(repetitions):
        services.append(service_rate(model, records, seconds))
        reading.append(bare(model, records, BATCH, seconds, reads=True)["rate"])
        holding.append(bare(model, records, BATCH, seconds, reads=False)["rate"])
        single.append(bare(model, records, 1, seconds, reads=True)["rate"])
    return Throughput(name, max(services), max(reading), max(holding), max(single))


def measure_latency(model: Path, records: Path, s3: S3, rate_hz: float, seconds: float) -> Latency:
    """Beside uploads each second; the bare loop gets batches of the size that comes in 100 ms."""
    batch = max(1, round(rate_hz / 10))
    with device(model, records) as made:
        made.configure(sensor={"rate_hz": rate_hz}, upload={"interval_s": 1.0, "batch_records": 500})
        made.start(AWS_ENDPOINT_URL=s3.url)
        made.wait_for("ok")
        time.sleep(seconds)
        service_ms = made.health()["latency_ms"]["p99"]
    return Latency(rate_hz, service_ms, bare(model, records, batch, 2, reads=True)["p99_ms"])


def measure_outage(model: Path, records: Path, s3: S3) -> Outage:
    """S3 away until more than 10,000 records were decided; then it comes back, and the spool empties."""
    s3.stop()
    with device(model, records) as made:
        made.configure(sensor={"rate_hz": 2000}, upload={"interval_s": 0.5, "batch_records": 500})
        made.start(AWS_ENDPOINT_URL=s3.url)
        away = wait_until(
            lambda: (h := made.health()).get("records", 0) > OUTAGE_RECORDS and h["upload_error"] and h, 120
        )
        s3.start()
        wait_until(lambda: made.health()["last_upload_at"], 120, "an upload after the outage")
        made.process.terminate()  # type: ignore[union-attr]
        made.process.wait(20)  # type: ignore[union-attr]
        made.configure(sensor={"rate_hz": 1e-9})  # no record more, so that the spool can empty
        made.start(AWS_ENDPOINT_URL=s3.url)
        wait_until(lambda: in_spool(made)[1] == 0, 120, "an empty spool")
        decided, _ = in_spool(made)
    objects = s3.objects()
    lines = [line for body in objects.values() for line in gzip.decompress(body).splitlines()]
    found = Counter(json.loads(line)["record_id"] for line in lines)
    lost = decided - sum(f"r-{row}" in found for row in range(decided))
    return Outage(decided, away["records"], lost, sum(found.values()) - len(found), len(objects))


def in_spool(made: Device) -> tuple[int, int]:
    """(decisions ever made, chunks of them that are not uploaded yet), as the file of the spool has it."""
    with contextlib.closing(sqlite3.connect(made.root / "spool/decisions.db", timeout=5)) as database:
        (next_seq,), (waiting,) = (
            database.execute(query).fetchone() for query in ("SELECT next_seq FROM state", "SELECT COUNT(*) FROM chunk")
        )
    return int(next_seq) - 1, int(waiting)


def verdicts(throughputs: Sequence[Throughput], latencies: Sequence[Latency], outage: Outage) -> list[report.Verdict]:
    found = []
    for one in throughputs:
        for whose, rate in (
            ("reads the same batches", one.bare_reading),
            ("takes each record as it reads it", one.bare_single),
        ):
            ratio = one.service / rate
            target = f"{one.model}: throughput at least {LEAST_RATIO:g}x a bare loop that {whose}"
            found.append(report.Verdict(target, f"{ratio:.2f}x", ratio >= LEAST_RATIO))
    for latency in latencies:
        added_ms = latency.service_p99_ms - latency.model_p99_ms
        target = f"p99 that spooling adds at {latency.rate_hz:g} Hz: at most {MOST_ADDED_MS:g} ms"
        found.append(report.Verdict(target, f"{added_ms:.1f} ms", added_ms <= MOST_ADDED_MS))
    enough = outage.while_away > OUTAGE_RECORDS
    found.append(
        report.Verdict("no record lost over an outage of 10,000", str(outage.lost), enough and not outage.lost)
    )
    found.append(report.Verdict("none doubled", str(outage.doubled), not outage.doubled))
    return found


def tables(throughputs: Sequence[Throughput], latencies: Sequence[Latency], outage: Outage) -> str:
    rates: list[Sequence[object]] = [
        ("model", "service", "bare, reads batches", "bare, reads single records", "bare, records in memory")
    ]
    for one in throughputs:
        rates.append(
            (one.model, *(f"{rate:.0f}" for rate in (one.service, one.bare_reading, one.bare_single, one.bare_holding)))
        )
    waits: list[Sequence[object]] = [("records a second", "p99 ms, durable", "p99 ms, model alone")]
    waits += [(f"{one.rate_hz:g}", f"{one.service_p99_ms:.2f}", f"{one.model_p99_ms:.2f}") for one in latencies]
    away: list[Sequence[object]] = [("decided", "of them while S3 was away", "lost", "doubled", "objects")]
    away.append((outage.decided, outage.while_away, outage.lost, outage.doubled, outage.objects))
    return "\n\n".join(report.table(rows) for rows in (rates, waits, away))


def main() -> int:
    arguments = parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that the service is ended, too
    with tempfile.TemporaryDirectory(prefix="twinops-bench-") as name:
        folder = Path(name)
        records = folder / "records.csv"
        write_records(records, 100_000)
        models = {}
        for version in arguments.models.split(","):
            train(version, folder / version)
            models[version] = folder / version / "model.onnx"
        throughputs = [
            measure_throughput(version, model, records, arguments.seconds, arguments.repetitions)
            for version, model in models.items()
        ]
        model = next(iter(models.values()))
        s3 = S3(folder / "moto.log")
        s3.start()
        try:
            latencies = [
                measure_latency(model, records, s3, float(rate), arguments.seconds)
                for rate in arguments.rates.split(",")
            ]
            outage = measure_outage(model, records, s3)
        finally:
            s3.stop()
    print(tables(throughputs, latencies, outage), "\n")
    found = verdicts(throughputs, latencies, outage)
    judged = [(verdict.target, verdict.measured, "yes" if verdict.reached else "NO") for verdict in found]
    print(report.table([("target", "measured", "reached"), *judged]))
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    everything = {
        "throughput": [asdict(one) for one in throughputs],
        "latency": [asdict(one) for one in latencies],
        "outage": asdict(outage),
    }
    arguments.results.write_text(json.dumps(everything, indent=1))
    return 0 if all(verdict.reached for verdict in found) else 1


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-inference", description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="v2,v1", help="releases; the first is that of latency and outage")
    parser.add_argument("--rates", default="50,1000", help="records a second of the sensor, for latency")
    parser.add_argument("--seconds", type=float, default=8, help="CPU-seconds of each measurement")
    parser.add_argument("--repetitions", type=int, default=3, help="the best counts")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file with every figure")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
