"""How often the drift verdict is wrong when nothing changed, and how often it is right when something did.

False alarms: random halves of real data sets; the share of them with any finding at all (family-wise), with the exact
95 % interval. Detection: one of 16 columns is shifted by a part of its standard deviation.
"""

from __future__ import annotations

import argparse
import gzip
import io
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import river.datasets
from toolbox import drift, report
from toolbox.metrics import exact_interval

IMAGES = Path(__file__).resolve().parents[2] / "docs/images"
SHIFTS = (0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1)
ROWS = (100, 300, 1000, 3000, 10000)
COLUMNS = 16
SEED = 6


def data_sets() -> Iterator[tuple[str, pa.Table]]:
    """(name, table): what river ships, and two that are made."""
    folder = Path(river.datasets.__file__).parent
    for name in ("shuttle", "phishing", "yeast"):
        yield name, _table((folder / f"{name}.csv.gz").read_bytes())
    for name in ("segment", "solar-flare"):
        yield name, _table((folder / f"{name}.csv.zip").read_bytes())
    random = np.random.default_rng(SEED)
    yield "128 normal columns", pa.table({f"f{n}": random.normal(size=2000) for n in range(128)})
    gaps = {f"f{n}": np.where(random.random(2000) < n / 40, np.nan, random.lognormal(size=2000)) for n in range(20)}
    yield "skewed, with gaps", pa.Table.from_pandas(pd.DataFrame(gaps))


def _table(packed: bytes) -> pa.Table:
    if packed.startswith(b"PK"):
        archive = zipfile.ZipFile(io.BytesIO(packed))
        content = archive.read(archive.namelist()[0])
    else:
        content = gzip.decompress(packed)
    return pa.Table.from_pandas(pd.read_csv(io.BytesIO(content)), preserve_index=False)


def false_alarms(table: pa.Table, repetitions: int) -> dict[str, int]:
    """How many random halves had each verdict."""
    random = np.random.default_rng(SEED)
    verdicts = dict.fromkeys(drift.EXIT_CODES, 0)
    for _ in range(repetitions):
        order = random.permutation(table.num_rows)
        half = len(order) // 2
        found = drift.compare(table.take(order[:half]), table.take(order[half:]))
        verdicts[found.verdict] += 1
    return verdicts


def detected(rows: int, shift: float, repetitions: int) -> float:
    """Share of repetitions in which exactly the shifted column is found."""
    random = np.random.default_rng((SEED, rows, int(shift * 1000)))
    hits = 0
    for _ in range(repetitions):
        before, now = random.normal(size=(2, COLUMNS, rows))
        now[0] += shift
        tables = [pa.table({f"f{n}": sample[n] for n in range(COLUMNS)}) for sample in (before, now)]
        hits += drift.compare(*tables).drifted == ["f0"]
    return hits / repetitions


def plot_false_alarms(found: dict[str, dict[str, int]]) -> str:
    figure, (axis,) = report.plot(height=0.8 + 0.42 * len(found))
    names = list(found)[::-1]
    for row, name in enumerate(names):
        whole = sum(found[name].values())
        low, high = exact_interval(whole - found[name]["none"], whole) or (0, 1)
        axis.plot([100 * low, 100 * high], [row, row], color=report.COLOURS[0], linewidth=5, alpha=0.3)
        axis.plot([100 * (whole - found[name]["none"]) / whole], [row], "o", color=report.COLOURS[0])
    axis.axvline(5, color=report.COLOURS[1], linewidth=1.5)
    axis.annotate("5 % allowed", (5, len(names) - 0.5), (4, 0), textcoords="offset points", color=report.COLOURS[1])
    axis.set(
        xlim=(-0.1, 6.5), ylim=(-0.6, len(names)), yticks=range(len(names)), xlabel="comparisons with any finding, %"
    )
    axis.set_yticklabels(names)
    return report.svg(figure, "Share of random halves of the same data with any finding, by data set; 5 % are allowed.")


def plot_power(found: dict[int, list[float]]) -> str:
    figure, (axis,) = report.plot(height=3.6)
    for index, (rows, shares) in enumerate(found.items()):
        style = {"color": report.COLOURS[index % len(report.COLOURS)], "marker": "os^Dv"[index % 5], "markersize": 5}
        axis.plot(SHIFTS, [100 * share for share in shares], label=f"{rows:,} records", **style)
    axis.set(xlabel="shift of one of 16 columns, in standard deviations", ylabel="found, %", ylim=(-3, 103))
    axis.grid(axis="y")
    figure.legend(loc="outside right upper")
    return report.svg(
        figure, "Share of comparisons that find the shifted column, by size of the shift and of the samples."
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=300, help="random halves of each data set")
    options = parser.parse_args()
    started = time.monotonic()
    alarms = {}
    print(f"| random halves of | records | columns | none | warn | drift | any finding |\n|{'---|' * 7}")
    for name, table in data_sets():
        alarms[name] = verdicts = false_alarms(table, options.repetitions)
        share = 1 - verdicts["none"] / options.repetitions
        counts = " | ".join(str(verdicts[verdict]) for verdict in drift.EXIT_CODES)
        print(f"| {name} | {table.num_rows:,} | {table.num_columns} | {counts} | {share:.1%} |", flush=True)
    print(f"\n| records | {' | '.join(f'{shift:g} std' for shift in SHIFTS)} |\n|{'---|' * (len(SHIFTS) + 1)}")
    power = {}
    for rows in ROWS:
        power[rows] = [detected(rows, shift, max(25, options.repetitions // 12)) for shift in SHIFTS]
        print(f"| {rows:,} | {' | '.join(f'{share:.0%}' for share in power[rows])} |", flush=True)
    IMAGES.mkdir(exist_ok=True)
    for name, svg in (("drift-false-alarms", plot_false_alarms(alarms)), ("drift-power", plot_power(power))):
        (IMAGES / f"{name}.svg").write_text(svg + "\n", "utf-8")
    print(f"\n{time.monotonic() - started:.0f} s; plots in {IMAGES}")
    worst = max(1 - verdicts["none"] / options.repetitions for verdicts in alarms.values())
    return 0 if worst <= 0.05 else 1


if __name__ == "__main__":
    sys.exit(main())
