"""How rows of a summary replace those of an earlier run, in each kind of store. Pure: what to say, not saying it.

A summary has a key (such as the day it is about). Writing it again leaves the same rows: those of the key are replaced
as a whole.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import pandas as pd
import pyarrow as pa
from boto3.dynamodb.types import TypeSerializer
from pyarrow import parquet
from twinops.errors import TwinopsError

BATCH_STATEMENTS_MAX = 40
"""Of the Redshift Data API."""
STATEMENT_BYTES_MAX = 90_000
"""Of an insert, below the 100 KB of the Data API."""
TEXT_LENGTH = 1000
"""Of a column of texts in a table that is made here."""
_IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]*")


class SummaryError(TwinopsError):
    """Rows that cannot be a summary: says of which table, what they have and what was expected."""


def check(relation: str, key: Mapping[str, str], rows: pd.DataFrame) -> None:
    """Names that every store takes, and a key that the rows do not have as columns.

    :raises SummaryError: otherwise
    """
    unusual = [name for name in (relation, *key, *map(str, rows.columns)) if not _IDENTIFIER.fullmatch(name)]
    if unusual:
        raise SummaryError(f"summary {relation}: expected names like drift_summary, got {', '.join(unusual)}")
    if not key or set(key) & set(rows.columns):
        raise SummaryError(f"summary {relation}: expected a key beside the columns {', '.join(rows.columns)}")


def statements(relation: str, key: Mapping[str, str], rows: pd.DataFrame) -> tuple[list[str], dict[str, str]]:
    """SQL for one transaction that makes the table where it is missing and replaces the rows of ``key``, and the values
    of its ``:name`` parameters. No value is part of the SQL.

    :raises SummaryError: more rows than one transaction of the Data API takes
    """
    values = _Values()
    kinds = {**dict.fromkeys(key, f"varchar({TEXT_LENGTH})"), **{name: _kind(rows[name]) for name in rows.columns}}
    columns = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
    chosen = " and ".join(f"{name} = {values.bound(value)}" for name, value in key.items())
    of_key = [values.bound(value) for value in key.values()]
    lines = ("(" + ", ".join([*of_key, *map(values.bound, row)]) + ")" for row in _plain_rows(rows))
    insert = f"insert into {relation} ({', '.join(kinds)}) values "  # noqa: S608 (names were checked)
    said = [
        f"create table if not exists {relation} ({columns})",
        f"delete from {relation} where {chosen}",  # noqa: S608 (names were checked)
        *_inserts(insert, lines),
    ]
    if len(said) > BATCH_STATEMENTS_MAX:
        raise SummaryError(f"summary {relation}: expected fewer rows than {len(rows)}: one transaction must take them")
    return said, values.named


class _Values:
    """Names for values; equal values share one."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def bound(self, value: Any) -> str:
        if value is None:
            return "null"
        if value == "":
            return "''"  # the Data API takes no empty value
        return f":{self._names.setdefault(str(value), f'v{len(self._names)}')}"

    @property
    def named(self) -> dict[str, str]:
        return {name: value for value, name in self._names.items()}


def _inserts(start: str, lines: Iterator[str]) -> Iterator[str]:
    batch: list[str] = []
    size = len(start)
    for line in lines:
        if batch and size + len(line) + 2 > STATEMENT_BYTES_MAX:
            yield start + ", ".join(batch)
            batch, size = [], len(start)
        batch.append(line)
        size += len(line) + 2
    if batch:
        yield start + ", ".join(batch)


def _kind(column: pd.Series[Any]) -> str:
    if pd.api.types.is_bool_dtype(column):
        return "boolean"
    if pd.api.types.is_integer_dtype(column):
        return "bigint"
    return "double precision" if pd.api.types.is_float_dtype(column) else f"varchar({TEXT_LENGTH})"


def _plain_rows(rows: pd.DataFrame) -> Iterator[list[Any]]:
    """Values of Python's own types; what is missing is None."""
    for row in rows.astype(object).itertuples(index=False):
        yield [None if pd.isna(value) else value for value in row]


def items(
    relation: str, key: Mapping[str, str], rows: pd.DataFrame, attributes: Sequence[str]
) -> list[dict[str, dict[str, Any]]]:
    """The rows as items of DynamoDB. ``attributes`` are the table's partition and sort key: relation and key, and the
    number of the row.
    """
    serialize = TypeSerializer().serialize
    partition, sort = attributes
    return [
        {
            partition: {"S": partition_of(relation, key)},
            sort: {"S": f"{number:08d}"},
            **{name: {"S": value} for name, value in key.items()},
            **{
                name: serialize(Decimal(str(value)) if isinstance(value, float) else value)
                for name, value in zip(rows.columns, row, strict=True)
            },
        }
        for number, row in enumerate(_plain_rows(rows))
    ]


def partition_of(relation: str, key: Mapping[str, str]) -> str:
    """The partition of DynamoDB, and the folder in S3, that holds the rows of ``key``."""
    return "/".join([relation, *(f"{name}={value}" for name, value in key.items())])


def parquet_bytes(key: Mapping[str, str], rows: pd.DataFrame) -> bytes:
    """The rows, with the key as columns, as one Parquet file: the same rows are the same bytes."""
    table = pa.Table.from_pandas(rows.assign(**key)[[*key, *rows.columns]], preserve_index=False)
    buffer = io.BytesIO()
    parquet.write_table(table.replace_schema_metadata(), buffer, compression="zstd")
    return buffer.getvalue()
