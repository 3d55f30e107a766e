"""Where the data of workflows comes from: decisions of the devices in S3, tables in Redshift by its Data API."""

from __future__ import annotations

import gzip
import json
import re
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Any

import pandas as pd
from botocore.exceptions import BotoCoreError, ClientError
from twinops.errors import TwinopsError

DECISION_COLUMNS = ("device", "seq", "record_id", "recorded_at", "release", "model_sha256", "label", "score")
QUERY_TIMEOUT_S = 300

_DECISION_KEY = re.compile(r"decisions/device=[^/]+/(\d{4}-\d{2}-\d{2})/\d+-\d+\.jsonl\.gz")
_DOWNLOADS_AT_ONCE = 8


class DataError(TwinopsError):
    """Data could not be read: says from where, what and what the source answered."""


def decisions(s3: Any, bucket: str, *, since: datetime) -> pd.DataFrame:
    """The decisions that devices recorded since a moment, in the order of device and ``seq``.

    Columns: :data:`DECISION_COLUMNS`, ``recorded_at`` as UTC timestamps.

    :raises DataError: the bucket cannot be read, or an object is not what devices write
    """
    since = since.astimezone(timezone.utc)
    try:
        keys = list(_decision_keys(s3, bucket, since))
        with ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool:
            batches = list(pool.map(lambda key: _batch(s3, bucket, key), keys))
    except (BotoCoreError, ClientError) as error:
        raise DataError(f"s3://{bucket}/decisions/: expected to read the devices' decisions: {error}") from error
    frame = pd.DataFrame([line for batch in batches for line in batch], columns=list(DECISION_COLUMNS))
    frame["recorded_at"] = pd.to_datetime(frame["recorded_at"], utc=True, format="ISO8601")
    return frame[frame["recorded_at"] >= since].sort_values(["device", "seq"], ignore_index=True)


def _decision_keys(s3: Any, bucket: str, since: datetime) -> Iterable[str]:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="decisions/"):
        for item in page.get("Contents", []):
            match = _DECISION_KEY.fullmatch(item["Key"])
            if match and match[1] >= since.date().isoformat():
                yield item["Key"]


def _batch(s3: Any, bucket: str, key: str) -> list[dict[str, Any]]:
    body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    try:
        if not body:
            raise ValueError("the object is empty")
        lines = [json.loads(line) for line in gzip.decompress(body).splitlines()]
        return [{name: line[name] for name in DECISION_COLUMNS} for line in lines]
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"s3://{bucket}/{key}: expected gzip of JSON lines of decisions: {error!r}") from error


class Redshift:
    """A database behind the Redshift Data API, which needs no connection and no password."""

    def __init__(self, client: Any, *, cluster: str, database: str, db_user: str) -> None:
        self._client = client
        self._target = {"ClusterIdentifier": cluster, "Database": database, "DbUser": db_user}
        self._where = f"redshift {cluster}/{database}"

    def query(self, sql: str, parameters: Mapping[str, str | int | float] | None = None) -> pd.DataFrame:
        """The rows of a query. Values go in as bound ``:name`` parameters, never into the text.

        :raises DataError: the data store cannot be reached, refuses the query, or takes longer than five minutes
        """
        bound = [{"name": name, "value": str(value)} for name, value in (parameters or {}).items()]
        request = {**self._target, "Sql": sql, **({"Parameters": bound} if bound else {})}
        try:
            statement = self._client.execute_statement(**request)["Id"]
            self._await(statement)
            return self._rows(statement)
        except (BotoCoreError, ClientError) as error:
            raise DataError(f"{self._where}: the data store cannot be reached: {error}") from error

    def _await(self, statement: str) -> None:
        deadline = time.monotonic() + QUERY_TIMEOUT_S
        pause_s = 0.05
        while True:
            answer = self._client.describe_statement(Id=statement)
            if answer["Status"] == "FINISHED":
                return
            if answer["Status"] in ("FAILED", "ABORTED"):
                why = answer.get("Error", "no reason given")
                raise DataError(f"{self._where}: query {answer['Status'].lower()}: {why}")
            if time.monotonic() > deadline:
                raise DataError(f"{self._where}: expected an answer within {QUERY_TIMEOUT_S} s, got none")
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 2)

    def _rows(self, statement: str) -> pd.DataFrame:
        columns: list[str] = []
        rows: list[list[Any]] = []
        request = {"Id": statement}
        while True:
            page = self._client.get_statement_result(**request)
            columns = [column["name"] for column in page["ColumnMetadata"]]
            rows += [[_value(field) for field in record] for record in page["Records"]]
            if not page.get("NextToken"):
                return pd.DataFrame(rows, columns=columns)
            request["NextToken"] = page["NextToken"]


def _value(field: Mapping[str, Any]) -> Any:
    return None if field.get("isNull") else next(iter(field.values()))


def labels(store: Redshift, record_ids: pd.Series[str]) -> pd.Series[int]:
    """The known labels of records, indexed by ``record_id``; a record without one is not in it.

    :raises DataError: see :meth:`Redshift.query`
    """
    if record_ids.empty:
        return pd.Series(dtype="int64", name="label")
    rows = store.query(
        "select record_id, label from labels where record_id between :first and :last and label is not null",
        {"first": str(record_ids.min()), "last": str(record_ids.max())},
    )
    known = rows.set_index("record_id")["label"].astype("int64")
    return known[known.index.isin(record_ids.unique())]
