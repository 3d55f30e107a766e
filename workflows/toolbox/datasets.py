"""Versions of data sets: the digest of what was in one, how many rows, of which time."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
from botocore.exceptions import BotoCoreError, ClientError
from pyarrow import compute, csv
from twinops.aws.objects import put_once
from twinops.errors import TwinopsError


class DatasetError(TwinopsError):
    """A data set cannot be registered: says which and why."""


@dataclass(frozen=True)
class Version:
    """One version of a data set. ``first_at`` and ``last_at`` are None without a column of times."""

    name: str
    sha256: str
    rows: int
    columns: tuple[str, ...]
    first_at: str | None
    last_at: str | None


def version(name: str, table: pa.Table, *, time_column: str | None = None) -> Version:
    """The version that a table is: the same values in the same order are the same version, on any machine.

    :raises DatasetError: no such column of times
    """
    if time_column is not None and time_column not in table.column_names:
        raise DatasetError(f"data set {name}: expected a column {time_column}, got {', '.join(table.column_names)}")
    span = compute.min_max(table[time_column]).as_py() if time_column else {"min": None, "max": None}
    return Version(
        name=name,
        sha256=_digest(table),
        rows=table.num_rows,
        columns=tuple(table.column_names),
        first_at=_text(span["min"]),
        last_at=_text(span["max"]),
    )


def _digest(table: pa.Table) -> str:
    """Of names, types and values as text: Arrow's own bytes have padding, and change with its version."""
    digest = hashlib.sha256(str([(field.name, str(field.type)) for field in table.schema]).encode())
    for batch in table.to_batches(max_chunksize=65536):
        buffer = io.BytesIO()
        csv.write_csv(pa.Table.from_batches([batch]), buffer, csv.WriteOptions(include_header=False))
        digest.update(buffer.getvalue())
    return digest.hexdigest()


def _text(moment: Any) -> str | None:
    return None if moment is None else moment.isoformat() if hasattr(moment, "isoformat") else str(moment)


def register(s3: Any, bucket: str, found: Version) -> bool:
    """Write a version to ``s3://<bucket>/datasets/<name>/<sha256>.json``; False where it is there already.

    :raises DatasetError: the bucket cannot be written
    """
    key = f"datasets/{found.name}/{found.sha256}.json"
    body = json.dumps(asdict(found), indent=1, sort_keys=True).encode() + b"\n"
    try:
        return put_once(s3, bucket, key, body)
    except (BotoCoreError, ClientError) as error:
        raise DatasetError(f"s3://{bucket}/{key}: expected to write the version: {error}") from error
