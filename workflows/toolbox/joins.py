"""Queries over tables from several sources, in this process: DuckDB, which spills to disk what does not fit."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
from twinops.errors import TwinopsError

MEMORY_LIMIT = "1GB"


class JoinError(TwinopsError):
    """A query that cannot be answered: says why."""


def query(
    sql: str,
    tables: Mapping[str, pd.DataFrame | pa.Table],
    parameters: Mapping[str, Any] | None = None,
    *,
    memory_limit: str = MEMORY_LIMIT,
) -> pd.DataFrame:
    """The rows of a query over ``tables``, by the names that the query uses.

    Values go in as bound ``$name`` parameters, never into the text. The query sees these tables and nothing else: no
    file, no network.

    :raises JoinError: it is not SQL, or names a table, column or parameter that is not there
    """
    with tempfile.TemporaryDirectory(prefix="twinops-join-") as spill:
        settings = {"memory_limit": memory_limit, "temp_directory": spill, "threads": 2}
        with duckdb.connect(config=settings) as database:
            for name, table in tables.items():
                database.register(name, table)
            database.execute("set enable_external_access = false; set lock_configuration = true")
            try:
                return database.execute(sql, dict(parameters or {})).df()
            except duckdb.Error as error:
                known = ", ".join(tables) or "none"
                raise JoinError(f"query over {known}: {' '.join(str(error).split())[:500]}") from error
