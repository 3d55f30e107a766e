"""The Redshift Data API on DuckDB: one database file for each cluster and database, statements run asynchronously.

As in AWS a statement is SUBMITTED, STARTED, then FINISHED or FAILED; results come in pages; a batch is one transaction.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
from ministack.core import iam_evaluator
from ministack.core.router import extract_access_key_id

from sandbox.emulator import moto_bridge
from sandbox.emulator.answers import Answer, json_answer, json_error
from sandbox.settings import ACCOUNT, REGION

SQL_BYTES_MAX = 100 * 1024
BATCH_STATEMENTS_MAX = 40
PAGE_ROWS = 1000


class RequestError(Exception):
    """A request that AWS refuses before it becomes a statement."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class Statement:
    """One execution, alone or of a batch."""

    id: str
    sqls: list[str]
    parameters: list[dict[str, str]]
    request: dict[str, Any]
    owner: str = ""
    status: str = "SUBMITTED"
    error: str = ""
    created_at: float = field(default_factory=time.time)
    updated_at: float = field(default_factory=time.time)
    duration_s: float = 0.0
    columns: list[tuple[str, str]] = field(default_factory=list)
    rows: list[tuple[Any, ...]] = field(default_factory=list)

    def describe(self) -> dict[str, Any]:
        common = {
            "Id": self.id,
            "Status": self.status,
            "CreatedAt": self.created_at,
            "UpdatedAt": self.updated_at,
            "Duration": int(self.duration_s * 1e9),
            "HasResultSet": bool(self.columns),
            "ResultRows": len(self.rows) if self.columns else -1,
            "ResultSize": 0,
            "RedshiftPid": 0,
            "RedshiftQueryId": 0,
            "Database": self.request["Database"],
            "ClusterIdentifier": self.request["ClusterIdentifier"],
            "QueryString": "; ".join(self.sqls),
        }
        return {**common, "Error": self.error} if self.error else common


class RedshiftData:
    """The service. ``folder`` holds the database files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._statements: dict[str, Statement] = {}
        self._connections: dict[str, duckdb.DuckDBPyConnection] = {}
        self._lock = threading.Lock()
        self._workers = ThreadPoolExecutor(max_workers=4, thread_name_prefix="redshift-data")
        self._actions: dict[str, Callable[[dict[str, Any]], Answer]] = {
            "ExecuteStatement": self._execute,
            "BatchExecuteStatement": self._execute,
            "DescribeStatement": self._describe,
            "GetStatementResult": self._result,
            "ListStatements": self._list,
        }

    async def handle(
        self, method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, list[str]]
    ) -> Answer:
        return await asyncio.to_thread(self._handle, headers, body)

    def _handle(self, headers: dict[str, str], body: bytes) -> Answer:
        action = headers.get("x-amz-target", "").rpartition(".")[2]
        if action not in self._actions:
            return json_error("NotImplementedException", f"the sandbox does not emulate redshift-data:{action}", 501)
        request = json.loads(body or b"{}")
        try:
            if "Execute" in action:
                access_key = extract_access_key_id(headers)
                self._check_access(request, access_key)
                return self._execute(request, owner=_user_id(access_key))
            return self._actions[action](request)
        except RequestError as error:
            return json_error(error.code, str(error))

    def _check_access(self, request: dict[str, Any], access_key: str) -> None:
        """The cluster must exist, and temporary credentials of the database user must be allowed, as in AWS."""
        cluster, database = request.get("ClusterIdentifier"), request.get("Database")
        if not cluster or not database:
            raise RequestError("ValidationException", "ClusterIdentifier and Database are required.")
        if cluster not in moto_bridge.backend("redshift").clusters:
            raise RequestError("ValidationException", f"Redshift endpoint doesn't exist in this region: {cluster}.")
        user = request.get("DbUser")
        if not user:
            raise RequestError("ValidationException", "The sandbox knows database users only: give DbUser.")
        arn = f"arn:aws:redshift:{REGION}:{ACCOUNT}:dbuser:{cluster}/{user}"
        if iam_evaluator.enforce(access_key, "redshift:GetClusterCredentials", "redshift", REGION, resource_arn=arn):
            raise RequestError(
                "AccessDeniedException", f"The caller may not perform redshift:GetClusterCredentials on {arn}."
            )

    def owner_of(self, statement_id: str) -> str:
        """``aws:userid`` of who executed a statement; empty for one that does not exist."""
        with self._lock:
            statement = self._statements.get(statement_id)
        return statement.owner if statement else ""

    def _execute(self, request: dict[str, Any], *, owner: str = "") -> Answer:
        sqls = request.get("Sqls") or [request.get("Sql", "")]
        if any(not sql or len(sql.encode()) > SQL_BYTES_MAX for sql in sqls) or len(sqls) > BATCH_STATEMENTS_MAX:
            raise RequestError(
                "ValidationException",
                f"expected 1–{BATCH_STATEMENTS_MAX} statements of 1–{SQL_BYTES_MAX} bytes each.",
            )
        statement = Statement(str(uuid.uuid4()), sqls, request.get("Parameters", []), request, owner)
        with self._lock:
            self._statements[statement.id] = statement
        self._workers.submit(self._run, statement)
        return json_answer(
            {
                "Id": statement.id,
                "CreatedAt": statement.created_at,
                "ClusterIdentifier": request["ClusterIdentifier"],
                "Database": request["Database"],
                "DbUser": request["DbUser"],
            }
        )

    def _run(self, statement: Statement) -> None:
        started = time.monotonic()
        statement.status = "STARTED"
        try:
            with self._cursor(statement.request) as cursor:
                self._run_in_transaction(cursor, statement)
            statement.status = "FINISHED"
        except duckdb.Error as error:
            statement.error, statement.status = f"ERROR: {error}", "FAILED"
        statement.duration_s = time.monotonic() - started
        statement.updated_at = time.time()

    def _run_in_transaction(self, cursor: duckdb.DuckDBPyConnection, statement: Statement) -> None:
        values = {parameter["name"]: parameter["value"] for parameter in statement.parameters}
        cursor.execute("begin")
        try:
            for sql in statement.sqls:
                named, used = _with_parameters(sql, values)
                cursor.execute(named, used or None)
                statement.columns = [(column[0], str(column[1])) for column in cursor.description or []]
                statement.rows = cursor.fetchall() if cursor.description else []
        except duckdb.Error:
            cursor.execute("rollback")
            raise
        cursor.execute("commit")
        if statement.columns == [("Count", "NUMBER")] or not _returns_rows(statement.sqls[-1]):
            statement.columns, statement.rows = [], []  # DuckDB counts what a change touched; AWS has no result set

    def _cursor(self, request: dict[str, Any]) -> duckdb.DuckDBPyConnection:
        name = f"{request['ClusterIdentifier']}-{request['Database']}"
        with self._lock:
            if name not in self._connections:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._connections[name] = duckdb.connect(
                    str(self._folder / f"{name}.duckdb"), config={"enable_external_access": "false", "threads": "2"}
                )
            return self._connections[name].cursor()

    def _describe(self, request: dict[str, Any]) -> Answer:
        return json_answer(self._find(request).describe())

    def _list(self, request: dict[str, Any]) -> Answer:
        with self._lock:
            statements = sorted(self._statements.values(), key=lambda one: one.created_at, reverse=True)
        return json_answer({"Statements": [one.describe() for one in statements[: request.get("MaxResults", 100)]]})

    def _result(self, request: dict[str, Any]) -> Answer:
        statement = self._find(request)
        if statement.status != "FINISHED" or not statement.columns:
            raise RequestError("ResourceNotFoundException", f"Query does not have result (status {statement.status}).")
        first = int(request.get("NextToken") or 0)
        page = statement.rows[first : first + PAGE_ROWS]
        document: dict[str, Any] = {
            "TotalNumRows": len(statement.rows),
            "Records": [[_field(value) for value in row] for row in page],
            "ColumnMetadata": [
                {"name": name, "label": name, "typeName": _REDSHIFT_TYPES.get(kind, kind.lower())}
                for name, kind in statement.columns
            ],
        }
        if first + PAGE_ROWS < len(statement.rows):
            document["NextToken"] = str(first + PAGE_ROWS)
        return json_answer(document)

    def _find(self, request: dict[str, Any]) -> Statement:
        with self._lock:
            statement = self._statements.get(request.get("Id", ""))
        if statement is None:
            raise RequestError("ResourceNotFoundException", "Query does not exist.")
        return statement


_REDSHIFT_TYPES = {"INTEGER": "int4", "BIGINT": "int8", "DOUBLE": "float8", "FLOAT": "float4", "BOOLEAN": "bool"}
_ROW_RETURNING = ("select", "with", "show", "explain", "values", "describe")


def _with_parameters(sql: str, values: dict[str, str]) -> tuple[str, dict[str, str]]:
    """A statement with its ``:name`` parameters as DuckDB writes them, and the values of those that it names."""
    parts = re.split(r"(?<!:):([A-Za-z_]\w*)", sql)
    used = {name: values[name] for name in parts[1::2] if name in values}
    parts[1::2] = [f"${name}" if name in values else f":{name}" for name in parts[1::2]]
    return "".join(parts), used


def _user_id(access_key: str) -> str:
    caller = iam_evaluator.resolve_caller_identity(access_key) or {}
    return str(caller.get("userId", ""))


def _returns_rows(sql: str) -> bool:
    return sql.lstrip(" \n\t(").lower().startswith(_ROW_RETURNING)


def _field(value: object) -> dict[str, Any]:
    """A value as the Data API's tagged union. Decimals are strings, as in AWS."""
    if value is None:
        return {"isNull": True}
    if isinstance(value, bool):
        return {"booleanValue": value}
    if isinstance(value, int):
        return {"longValue": value}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"stringValue": str(value)}
