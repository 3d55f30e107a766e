"""The evaluation of more decisions than fit into memory: DuckDB over Parquet, and the same numbers to the digit.

What :mod:`toolbox.metrics` and :mod:`toolbox.compare` compute follows from counts of few cells (class, decided class).
Only the counting looks at every record, and it spills to disk what is beyond its limit of memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
from twinops.errors import TwinopsError

from toolbox import compare, metrics
from toolbox.compare import Comparison
from toolbox.metrics import Quality

MEMORY_LIMIT = "1GB"
"""Of DuckDB; the process takes about half as much again."""
THREADS = 2

# The first decision of a record, by a device and version: a sensor feed that starts over is not more evidence.
_COUNTED = """
create table counted as
select device, release, model_sha256, record_id, arg_min(label, seq)::tinyint as label,
    min(recorded_at) as first_at
from read_parquet($decisions) group by all
"""
_BY_DEVICE = """
select release, model_sha256, device, truth, c.label, count(*) as records, min(first_at) as first_at
from counted c
left join (select record_id as labelled, label as truth from read_parquet($labels)) on labelled = record_id
group by all
"""
# Of several devices that decided a record by a version the first one counts: they run the same model.
_PAIRED = """
with once as (
    select record_id, model_sha256, arg_min(label, device) as label from counted
    where (release, model_sha256) in (($old_release, $old), ($new_release, $new)) group by all
)
select l.label as truth, o.label as champion, n.label as challenger, count(*) as records
from once o join once n using (record_id) join read_parquet($labels) l using (record_id)
where o.model_sha256 = $old and n.model_sha256 = $new
group by all order by all
"""


class LargeError(TwinopsError):
    """Files that cannot be evaluated: says why."""


@dataclass(frozen=True)
class LargeVersion:
    """One version, on all devices and on each."""

    release: str
    model_sha256: str
    n_decisions: int
    n_labelled: int
    quality: Quality | None
    devices: dict[str, Quality | None]


@dataclass(frozen=True)
class LargeResult:
    """Every version in the order in which they came; the last is compared with the one before."""

    versions: tuple[LargeVersion, ...]
    comparison: Comparison | None


def evaluate(decisions: Sequence[Path], labels: Path, *, memory_limit: str = MEMORY_LIMIT) -> LargeResult:
    """Evaluate Parquet files of decisions (``device seq record_id recorded_at release model_sha256 label``) on a
    Parquet file of labels (``record_id label``, each record once).

    :raises LargeError: a file cannot be read, or lacks a column
    """
    names = {"decisions": [str(file) for file in decisions], "labels": str(labels)}
    with _database(memory_limit) as database:
        try:
            database.execute(_COUNTED, {"decisions": names["decisions"]})
            cells = database.sql(_BY_DEVICE, params={"labels": names["labels"]}).to_arrow_table().to_pandas()
            parts = sorted(cells.groupby(["release", "model_sha256"]), key=lambda part: part[1]["first_at"].min())
            versions = tuple(_version(*name, rows) for name, rows in parts)
            if len(versions) < 2:
                return LargeResult(versions, None)
            old, new = versions[-2:]
            chosen = {"old_release": old.release, "old": old.model_sha256}
            chosen |= {"new_release": new.release, "new": new.model_sha256, "labels": names["labels"]}
            paired = database.sql(_PAIRED, params=chosen).to_arrow_table().to_pandas().to_numpy(np.int64)
        except duckdb.Error as error:
            raise LargeError(f"{', '.join(names['decisions'][:3])}: {' '.join(str(error).split())[:500]}") from error
    return LargeResult(versions, compare.compare_counts(paired[:, :3], paired[:, 3]))


@contextmanager
def _database(memory_limit: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database on the disk, which goes with the block; the order of rows is nobody's business."""
    with tempfile.TemporaryDirectory(prefix="twinops-large-") as folder:
        settings = {"memory_limit": memory_limit, "threads": THREADS, "temp_directory": f"{folder}/spill"}
        settings["preserve_insertion_order"] = False
        with duckdb.connect(f"{folder}/decisions.duckdb", config=settings) as database:
            yield database


def _version(release: str, sha: str, cells: pd.DataFrame) -> LargeVersion:
    labelled = cells.dropna(subset="truth")
    return LargeVersion(
        release=release,
        model_sha256=sha,
        n_decisions=int(cells["records"].sum()),
        n_labelled=int(labelled["records"].sum()),
        quality=_quality(labelled),
        devices={str(device): _quality(rows.dropna(subset="truth")) for device, rows in cells.groupby("device")},
    )


def _quality(cells: pd.DataFrame) -> Quality | None:
    if cells.empty:
        return None
    confusion = np.zeros((2, 2), dtype=np.int64)
    np.add.at(confusion, (cells["truth"].to_numpy(np.int64), cells["label"].to_numpy(np.int64)), cells["records"])
    return metrics.quality_of(metrics.score_counts(confusion, (0, 1)))
