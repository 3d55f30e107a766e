"""Where the data of workflows comes from: decisions of the devices in S3, and the data sources that the spec names.

A source is a Redshift database (cluster or serverless), a DynamoDB table, or files in S3; a workflow reads rows of each
the same way, so that an environment may keep them where it likes. :func:`source` opens one by its name.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Protocol

import pandas as pd
from boto3.dynamodb.types import TypeDeserializer
from botocore.exceptions import BotoCoreError, ClientError
from twinops.errors import TwinopsError

from toolbox import summaries
from toolbox.context import Context

DECISION_COLUMNS = ("device", "seq", "record_id", "recorded_at", "release", "model_sha256", "label", "score")
QUERY_TIMEOUT_S = 300

_DECISION_KEY = re.compile(r"decisions/device=[^/]+/(\d{4}-\d{2}-\d{2})/\d+-\d+\.jsonl\.gz")
_DOWNLOADS_AT_ONCE = 8
_CLOCKS_DIFFER = timedelta(hours=1)
_IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?")  # also with its schema
_FORMATS = ("csv", "csv.gz", "jsonl", "jsonl.gz")
_DESERIALIZER = TypeDeserializer()
_TRANSACTION_ITEMS_MAX = 100
_CONFLICT_PAUSES_S = (0.2, 0.5, 1.0, 2.0)
_CONFLICT = re.compile(r"conflict|serializable isolation|could not serialize", re.IGNORECASE)


class DataError(TwinopsError):
    """Data could not be read: says from where, what and what the source answered."""


def decisions(
    s3: Any, bucket: str, *, since: datetime, until: datetime | None = None, device: str = ""
) -> pd.DataFrame:
    """The decisions that devices (or one ``device``) recorded since a moment and before another, in the order of device
    and ``seq``.

    Columns: :data:`DECISION_COLUMNS`, ``recorded_at`` as UTC timestamps.

    :raises DataError: the bucket cannot be read, or an object is not what devices write
    """
    since = since.astimezone(timezone.utc)
    until = until.astimezone(timezone.utc) if until else None
    try:
        keys = list(_decision_keys(s3, bucket, since, until, device))
        with ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool:
            batches = list(pool.map(lambda key: _batch(s3, bucket, key), keys))
    except (BotoCoreError, ClientError) as error:
        raise DataError(f"s3://{bucket}/decisions/: expected to read the devices' decisions: {error}") from error
    frame = pd.DataFrame([line for batch in batches for line in batch], columns=list(DECISION_COLUMNS))
    frame["recorded_at"] = pd.to_datetime(frame["recorded_at"], utc=True, format="ISO8601")
    wanted = frame["recorded_at"] >= since
    if until:
        wanted &= frame["recorded_at"] < until
    return frame[wanted].sort_values(["device", "seq"], ignore_index=True)


def devices(s3: Any, bucket: str) -> list[str]:
    """Every device that ever stored decisions.

    :raises DataError: the bucket cannot be read
    """
    try:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="decisions/device=", Delimiter="/")
        prefixes = [one["Prefix"] for page in pages for one in page.get("CommonPrefixes", [])]
    except (BotoCoreError, ClientError) as error:
        raise DataError(f"s3://{bucket}/decisions/: expected to list the devices: {error}") from error
    return sorted(prefix.removeprefix("decisions/device=").rstrip("/") for prefix in prefixes)


def _decision_keys(s3: Any, bucket: str, since: datetime, until: datetime | None, device: str) -> Iterable[str]:
    """Objects that may hold decisions of a time. A key has the date of its first decision only: one from an earlier day
    reaches into that time if it was stored after its beginning (the clocks of device and S3 may differ by an hour)."""
    first_day, last_day = since.date().isoformat(), until.date().isoformat() if until else "9999"
    prefix = f"decisions/device={device}/" if device else "decisions/"
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", []):
            match = _DECISION_KEY.fullmatch(item["Key"])
            if not match or match[1] > last_day:
                continue
            if match[1] >= first_day or item["LastModified"] >= since - _CLOCKS_DIFFER:
                yield item["Key"]


def _batch(s3: Any, bucket: str, key: str) -> list[dict[str, Any]]:
    body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    try:
        if not body:
            raise ValueError("the object is empty")
        lines = [json.loads(line) for line in gzip.decompress(body).splitlines()]
        return [{name: line[name] for name in DECISION_COLUMNS} for line in lines]
    except (OSError, EOFError, ValueError, KeyError, TypeError, RecursionError, zlib.error) as error:
        raise DataError(f"s3://{bucket}/{key}: expected gzip of JSON lines of decisions: {error!r}") from error


Within = tuple[str, str, str]
"""A column of texts, and the first and the last value wanted of it."""


class Source(Protocol):
    """One data source of the spec."""

    def read(self, relation: str, columns: Sequence[str], *, within: Within | None = None) -> pd.DataFrame:
        """The rows of a relation (a table, a file or a folder of files), with exactly these columns, in no order.

        :raises DataError: the source cannot be reached, or has no such relation or column
        """

    def replace(self, relation: str, key: Mapping[str, str], rows: pd.DataFrame) -> None:
        """Make ``rows`` the only ones of a relation that have ``key`` (columns and their values), as a whole or not at
        all: writing a summary again leaves the same rows. Makes the relation where it is missing.

        :raises DataError: the source cannot be reached, or does not let this workflow write
        :raises SummaryError: names or sizes that the source does not take
        """


def source(run: Context, name: str) -> Source:
    """The data source that the environment calls ``name``, as the twin was told at its last start.

    :raises DataError: it has none of that name
    """
    known = run.twin.get("data_sources", {})
    if name not in known:
        offered = ", ".join(sorted(known)) or "none"
        raise DataError(f"data source {name}: expected one that the twin knows ({offered}); restart it after a change")
    place = {key: value for key, value in known[name].items() if key != "type"}
    type_name = known[name]["type"]
    if type_name == "redshift":
        return Redshift(run.client("redshift-data"), **place)
    return DynamoDb(run.client("dynamodb"), **place) if type_name == "dynamodb" else S3(run.client("s3"), **place)


class Redshift:
    """A database behind the Redshift Data API, which needs no connection and no password.

    Of a ``cluster``, as ``db_user``; or of a serverless ``workgroup``, as the role that asks.
    """

    def __init__(
        self, client: Any, *, database: str, cluster: str = "", db_user: str = "", workgroup: str = ""
    ) -> None:
        self._client = client
        place = {"ClusterIdentifier": cluster, "DbUser": db_user} if cluster else {"WorkgroupName": workgroup}
        self._target = {**place, "Database": database}
        self._where = f"redshift {cluster or workgroup}/{database}"

    def read(self, relation: str, columns: Sequence[str], *, within: Within | None = None) -> pd.DataFrame:
        """See :meth:`Source.read`: a relation is a table or a view."""
        names = [relation, *columns, *([within[0]] if within else [])]
        unusual = [name for name in names if not _IDENTIFIER.fullmatch(name)]
        if unusual:
            raise DataError(f"{self._where}: expected names like record_id, got {', '.join(unusual)}")
        sql = f"select {', '.join(columns)} from {relation}"  # noqa: S608  (checked above)
        if within is None:
            return self.query(sql)
        return self.query(f"{sql} where {within[0]} between :first and :last", {"first": within[1], "last": within[2]})

    def query(self, sql: str, parameters: Mapping[str, str | int | float] | None = None) -> pd.DataFrame:
        """The rows of a query. Values go in as bound ``:name`` parameters, never into the text.

        :raises DataError: the data store cannot be reached, refuses the query, or takes longer than five minutes
        """
        request = {**self._target, "Sql": sql, **_bound(parameters or {})}
        try:
            statement = self._client.execute_statement(**request)["Id"]
            self._await(statement)
            return self._rows(statement)
        except (BotoCoreError, ClientError) as error:
            raise DataError(f"{self._where}: the data store cannot be reached: {error}") from error

    def replace(self, relation: str, key: Mapping[str, str], rows: pd.DataFrame) -> None:
        """See :meth:`Source.replace`: one transaction, tried again where another one was in its way."""
        summaries.check(relation, key, rows)
        sqls, parameters = summaries.statements(relation, key, rows)
        for pause_s in (*_CONFLICT_PAUSES_S, None):
            try:
                statement = self._client.batch_execute_statement(**self._target, Sqls=sqls, **_bound(parameters))["Id"]
                self._await(statement)
                return
            except (BotoCoreError, ClientError) as error:
                raise DataError(f"{self._where}: the data store cannot be reached: {error}") from error
            except DataError as error:
                if pause_s is None or not _CONFLICT.search(str(error)):
                    raise
                time.sleep(pause_s)

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


def _bound(parameters: Mapping[str, str | int | float]) -> dict[str, Any]:
    bound = [{"name": name, "value": str(value)} for name, value in parameters.items()]
    return {"Parameters": bound} if bound else {}


def _value(field: Mapping[str, Any]) -> Any:
    return None if field.get("isNull") else next(iter(field.values()))


class DynamoDb:
    """A table, or one of its indexes. It is one relation, whatever that is called."""

    def __init__(self, client: Any, *, table: str, index: str = "") -> None:
        self._client = client
        self._target = {"TableName": table, **({"IndexName": index} if index else {})}
        self._where = f"dynamodb {table}{f' index {index}' if index else ''}"

    def read(self, relation: str, columns: Sequence[str], *, within: Within | None = None) -> pd.DataFrame:
        """See :meth:`Source.read`. Reads the whole table: an item that lacks a column has a null there."""
        names = {f"#c{n}": column for n, column in enumerate(columns)}
        request: dict[str, Any] = {**self._target, "ProjectionExpression": ", ".join(names)}
        if within:
            names["#within"] = within[0]
            request["FilterExpression"] = "#within BETWEEN :first AND :last"
            request["ExpressionAttributeValues"] = {":first": {"S": within[1]}, ":last": {"S": within[2]}}
        try:
            pages = self._client.get_paginator("scan").paginate(**request, ExpressionAttributeNames=names)
            items = [item for page in pages for item in page["Items"]]
        except (BotoCoreError, ClientError) as error:
            raise DataError(f"{self._where}: the data store cannot be reached: {error}") from error
        rows = [[_plain(item[column]) if column in item else None for column in columns] for item in items]
        frame = pd.DataFrame(rows, columns=list(columns))
        unknown = [column for column in columns if items and not any(column in item for item in items)]
        if unknown:
            raise DataError(f"{self._where}: {relation}: expected items with {', '.join(columns)}; none has {unknown}")
        return frame

    def replace(self, relation: str, key: Mapping[str, str], rows: pd.DataFrame) -> None:
        """See :meth:`Source.replace`; the table has two keys of texts. Beyond 100 items it is several transactions: the
        new rows, then those that are too many; a rerun goes on.
        """
        summaries.check(relation, key, rows)
        try:
            attributes = self._key_attributes()
            there = self._sort_keys(attributes, summaries.partition_of(relation, key))
            items = summaries.items(relation, key, rows, attributes)
            table = self._target["TableName"]
            surplus = sorted(there - {item[attributes[1]]["S"] for item in items})
            of_key = {attributes[0]: {"S": summaries.partition_of(relation, key)}}
            writes = [{"Put": {"TableName": table, "Item": item}} for item in items]
            unwanted = ({**of_key, attributes[1]: {"S": sort}} for sort in surplus)
            writes += [{"Delete": {"TableName": table, "Key": one}} for one in unwanted]
            for first in range(0, len(writes), _TRANSACTION_ITEMS_MAX):
                self._client.transact_write_items(TransactItems=writes[first : first + _TRANSACTION_ITEMS_MAX])
        except (BotoCoreError, ClientError) as error:
            raise DataError(f"{self._where}: expected to write {relation}: {error}") from error

    def _key_attributes(self) -> tuple[str, str]:
        schema = self._client.describe_table(TableName=self._target["TableName"])["Table"]["KeySchema"]
        names = {part["KeyType"]: part["AttributeName"] for part in schema}
        if "RANGE" not in names:
            raise DataError(f"{self._where}: expected a table with partition and sort key for summaries, got {names}")
        return names["HASH"], names["RANGE"]

    def _sort_keys(self, attributes: tuple[str, str], partition: str) -> set[str]:
        pages = self._client.get_paginator("query").paginate(
            TableName=self._target["TableName"],
            KeyConditionExpression="#p = :p",
            ExpressionAttributeNames={"#p": attributes[0], "#s": attributes[1]},
            ExpressionAttributeValues={":p": {"S": partition}},
            ProjectionExpression="#s",
        )
        return {item[attributes[1]]["S"] for page in pages for item in page["Items"]}


def _plain(attribute: Mapping[str, Any]) -> Any:
    """A value of DynamoDB's as one of Python's; numbers are int where they are whole."""
    value = _DESERIALIZER.deserialize(attribute)
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value


class S3:
    """Files below a prefix: relation ``labels`` is ``<prefix>labels.csv`` or ``.jsonl``, either also with ``.gz``.

    A relation that was written here is a folder of Parquet files, ``<prefix><relation>/<key>=<value>/rows.parquet``.
    """

    def __init__(self, client: Any, *, bucket: str, prefix: str = "") -> None:
        self._client, self._bucket, self._prefix = client, bucket, prefix

    def read(self, relation: str, columns: Sequence[str], *, within: Within | None = None) -> pd.DataFrame:
        """See :meth:`Source.read`: a relation is a file."""
        start = f"{self._prefix}{relation}."
        where = f"s3://{self._bucket}/{start}"
        try:
            if folder := self._keys(f"{self._prefix}{relation}/"):
                wanted = [key for key in folder if _may_hold(key, within)]
                if not wanted:
                    return pd.DataFrame(columns=list(columns))
                return _chosen(self._parquet(wanted), f"s3://{self._bucket}/{self._prefix}{relation}/", columns, within)
            listed = self._client.list_objects_v2(Bucket=self._bucket, Prefix=start).get("Contents", [])
            keys = [item["Key"] for item in listed if item["Key"].removeprefix(start) in _FORMATS]
            if len(keys) != 1:
                found = ", ".join(keys) or "none"
                raise DataError(f"{where}…: expected exactly one of {', '.join(_FORMATS)}, found {found}")
            body = self._client.get_object(Bucket=self._bucket, Key=keys[0])["Body"].read()
        except (BotoCoreError, ClientError) as error:
            raise DataError(f"{where}…: the data store cannot be reached: {error}") from error
        place = f"s3://{self._bucket}/{keys[0]}"
        return _chosen(_table(body, keys[0], place), place, columns, within)

    def replace(self, relation: str, key: Mapping[str, str], rows: pd.DataFrame) -> None:
        """See :meth:`Source.replace`: one Parquet file, which S3 replaces as a whole."""
        summaries.check(relation, key, rows)
        name = f"{self._prefix}{summaries.partition_of(relation, key)}/rows.parquet"
        try:
            self._client.put_object(Bucket=self._bucket, Key=name, Body=summaries.parquet_bytes(key, rows))
        except (BotoCoreError, ClientError) as error:
            raise DataError(f"s3://{self._bucket}/{name}: expected to write the summary: {error}") from error

    def _keys(self, folder: str) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=folder)
        keys = (item["Key"] for page in pages for item in page.get("Contents", []))
        return [key for key in keys if key.endswith(".parquet")]

    def _parquet(self, keys: Sequence[str]) -> pd.DataFrame:
        with ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool:
            bodies = pool.map(lambda key: self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read(), keys)
            return pd.concat([pd.read_parquet(io.BytesIO(body)) for body in bodies], ignore_index=True)


def _may_hold(key: str, within: Within | None) -> bool:
    """Whether a file may have rows within: a column of the key of a summary is in the file's path."""
    said = re.search(rf"/{re.escape(within[0])}=([^/]*)/", key) if within else None
    return within is None or said is None or within[1] <= said[1] <= within[2]


def _chosen(frame: pd.DataFrame, where: str, columns: Sequence[str], within: Within | None) -> pd.DataFrame:
    missing = {*columns, *([within[0]] if within else [])} - set(frame.columns)
    if missing:
        raise DataError(f"{where}: expected columns {', '.join(sorted(missing))}")
    if within:
        frame = frame[frame[within[0]].astype(str).between(within[1], within[2])]
    return frame[list(columns)].reset_index(drop=True)


def _table(body: bytes, key: str, where: str) -> pd.DataFrame:
    compression: Any = "gzip" if key.endswith(".gz") else None
    try:
        if ".csv" in key.rpartition("/")[2]:
            return pd.read_csv(io.BytesIO(body), compression=compression)
        return pd.read_json(io.BytesIO(body), compression=compression, lines=True)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{where}: expected a table as its name says: {error}") from error


def labels(store: Source, record_ids: pd.Series[str]) -> pd.Series[int]:
    """The known labels of records, indexed by ``record_id``; a record without one is not in it.

    A record that has two different ones counts as one without; how many such there are goes to the log of the run.

    :raises DataError: see :meth:`Source.read`
    """
    if record_ids.empty:
        return pd.Series(dtype="int64", name="label")
    first, last = str(record_ids.min()), str(record_ids.max())
    rows = store.read("labels", ["record_id", "label"], within=("record_id", first, last)).dropna(subset=["label"])
    rows = rows[rows["record_id"].isin(record_ids.unique())].astype({"label": "int64"}).drop_duplicates()
    contradictory = rows["record_id"].duplicated(keep=False)
    if contradictory.any():
        count = rows.loc[contradictory, "record_id"].nunique()
        print(f"labels: records whose labels contradict each other, which count as not labelled: {count}")
    return rows[~contradictory].set_index("record_id")["label"]


def readings(store: Source, record_ids: pd.Series[str], features: Sequence[str]) -> pd.DataFrame:
    """What the historian has of records, between the first and the last of them: ``device record_id since`` and the
    features (docs/sandbox.md, "The plant"). Of no records, no rows.

    :raises DataError: see :meth:`Source.read`
    """
    columns = ["device", "record_id", "since", *features]
    if record_ids.empty:
        return pd.DataFrame(columns=columns)
    return store.read("readings", columns, within=("record_id", str(record_ids.min()), str(record_ids.max())))
