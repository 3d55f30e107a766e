"""The plant's database: what its historian and its inspectors write into Redshift, through the Data API.

``labels(record_id, label)``
    What an inspector later found out about a record: 1 is an anomaly.
``readings(device, record_id, since, f1 ... f9)``
    What the sensors of a device read of a record, from the moment ``since`` on (ISO 8601 UTC): of several rows the
    latest before a moment holds at that moment. Device ``*`` with an empty ``since`` is every device that has no row of
    its own by then. A null is a reading that is missing.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator, Sequence

from sandbox.account import session
from sandbox.settings import REDSHIFT_CLUSTER, REDSHIFT_DATABASE, Settings

FEATURES = tuple(f"f{number}" for number in range(1, 10))
EVERY_DEVICE, ALWAYS = "*", ""
DATABASE_USER = "plant"
STATEMENT_BYTES_MAX = 90_000
"""Of an insert; the Data API takes 100 KB a statement, and 40 statements a batch."""
STATEMENT_TIMEOUT_S = 300  # seconds on a quiet machine
CONFLICT = "write-write conflict"  # as DuckDB names it
CONFLICTS_MAX = 20

Values = Sequence[float | None]
TABLES = {
    "labels": "create table if not exists labels(record_id varchar primary key, label integer)",
    "readings": (
        "create table if not exists readings(device varchar, record_id varchar, since varchar, "
        + ", ".join(f"{name} double precision" for name in FEATURES)
        + ", primary key (device, record_id, since))"
    ),
}


class Tables:
    """The tables of the plant's cluster."""

    def __init__(self, settings: Settings) -> None:
        aws = session(settings)
        self._redshift, self._data = aws.client("redshift"), aws.client("redshift-data")

    def ensure_cluster(self) -> None:
        """The plant's cluster exists before twinops does; it is not twinops' to create."""
        try:
            self._redshift.create_cluster(
                ClusterIdentifier=REDSHIFT_CLUSTER,
                DBName=REDSHIFT_DATABASE,
                NodeType="ra3.large",
                MasterUsername=DATABASE_USER,
                MasterUserPassword=f"A1{secrets.token_hex(16)}",
                ClusterType="single-node",
            )
        except self._redshift.exceptions.ClusterAlreadyExistsFault:
            return

    def count_labels(self) -> int:
        return self._count("labels", "select count(*) from labels")

    def count_readings(self) -> int:
        """How many records have a reading of every device."""
        return self._count("readings", f"select count(*) from readings where device = '{EVERY_DEVICE}'")  # noqa: S608

    def _count(self, table: str, query: str) -> int:
        self._run([TABLES[table]])
        result = self._data.get_statement_result(Id=self._run([query]))
        return int(result["Records"][0][0]["longValue"])

    def load_labels(self, labels: Iterable[tuple[str, int]]) -> None:
        """Fill the empty table, in one transaction."""
        self._run(list(_inserts("labels", (f"('{record_id}',{label})" for record_id, label in labels))))

    def load_readings(self, readings: Iterable[tuple[str, Values]], *, device: str, since: str) -> None:
        """Add what ``device`` reads of records from ``since`` on, in one transaction."""
        rows = (f"('{device}','{record_id}','{since}',{_numbers(values)})" for record_id, values in readings)
        self._run(list(_inserts("readings", rows)))

    def forget_readings(self, devices: Sequence[str]) -> None:
        """Remove the rows of devices that are new again."""
        names = ", ".join(f"'{device}'" for device in devices)
        self._run([TABLES["readings"], f"delete from readings where device in ({names})"])  # noqa: S608

    def _run(self, statements: list[str]) -> str:
        """Run statements (several: as one transaction) and wait; returns the id of the execution.

        What another plant does at the same moment, one whose ``up`` was killed, is waited for.
        """
        for _ in range(CONFLICTS_MAX):
            try:
                return self._run_once(statements)
            except RuntimeError as error:
                if CONFLICT not in str(error):
                    raise
                time.sleep(0.5)
        return self._run_once(statements)

    def _run_once(self, statements: list[str]) -> str:
        target = {"ClusterIdentifier": REDSHIFT_CLUSTER, "Database": REDSHIFT_DATABASE, "DbUser": DATABASE_USER}
        if len(statements) == 1:
            identifier = self._data.execute_statement(Sql=statements[0], **target)["Id"]
        else:
            identifier = self._data.batch_execute_statement(Sqls=statements, **target)["Id"]
        deadline = time.monotonic() + STATEMENT_TIMEOUT_S
        while (state := self._data.describe_statement(Id=identifier))["Status"] not in ("FINISHED", "FAILED"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"Redshift: expected an answer within {STATEMENT_TIMEOUT_S} s: {statements[0][:80]}")
            time.sleep(0.02)
        if state["Status"] == "FAILED":
            raise RuntimeError(f"Redshift: {state['Error']}: {statements[0][:80]}")
        return str(identifier)


def _inserts(table: str, rows: Iterable[str]) -> Iterator[str]:
    """Statements that insert ``rows``, each as long as a statement may be."""
    start = f"insert into {table} values "  # noqa: S608 (our own values)
    batch: list[str] = []
    size = len(start)
    for row in rows:
        if batch and size + len(row) + 1 > STATEMENT_BYTES_MAX:
            yield start + ",".join(batch)
            batch, size = [], len(start)
        batch.append(row)
        size += len(row) + 1
    if batch:
        yield start + ",".join(batch)


def _numbers(values: Values) -> str:
    return ",".join("null" if value is None else f"{value:.9g}" for value in values)
