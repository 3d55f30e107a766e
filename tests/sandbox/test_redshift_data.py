# ruff: noqa: S608 (the table names are ours)
"""The Redshift Data API runs SQL: asynchronously, in transactions, in pages, and only for who may log in."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from sandbox.settings import ACCOUNT, REDSHIFT_CLUSTER, REDSHIFT_DATABASE, REGION
from tests.sandbox.support import OwnSandbox
from tests.sandbox.test_aws import credentials

pytestmark = pytest.mark.sandbox

TARGET = {"ClusterIdentifier": REDSHIFT_CLUSTER, "Database": REDSHIFT_DATABASE, "DbUser": "tester"}


class Database:
    """Runs statements and waits for them."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def finished(self, identifier: str) -> dict[str, Any]:
        deadline = time.monotonic() + 30
        while True:
            state: dict[str, Any] = self.client.describe_statement(Id=identifier)
            if state["Status"] in ("FINISHED", "FAILED"):
                return state
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def run(self, sql: str, **options: Any) -> dict[str, Any]:
        return self.finished(self.client.execute_statement(Sql=sql, **TARGET, **options)["Id"])

    def rows(self, sql: str, **options: Any) -> list[list[Any]]:
        state = self.run(sql, **options)
        assert state["Status"] == "FINISHED", state.get("Error")
        pages = self.client.get_paginator("get_statement_result").paginate(Id=state["Id"])
        return [[next(iter(field.values())) for field in row] for page in pages for row in page["Records"]]


@pytest.fixture(scope="module")
def database(aws: Callable[[str], Any]) -> Database:
    return Database(aws("redshift-data"))


@pytest.fixture
def table(database: Database) -> str:
    name = f"t{uuid.uuid4().hex[:8]}"
    created = database.run(f"create table {name}(id varchar primary key, value integer, score double precision)")
    assert (created["Status"], created["HasResultSet"]) == ("FINISHED", False)
    return name


def test_values_keep_their_types(database: Database, table: str) -> None:
    assert not database.run(f"insert into {table} values ('a', 1, 0.5), ('b', null, null)")["HasResultSet"]
    rows = f"select id, value, score, value > 0 from {table} order by id"
    assert database.rows(rows) == [["a", 1, 0.5, True], ["b", True, True, True]], "a null is {isNull: True}"


def test_parameters_are_bound(database: Database, table: str) -> None:
    database.run(f"insert into {table} values ('o''brien', 1, 0)")
    bound = [{"name": "id", "value": "o'brien"}]
    assert database.rows(f"select value from {table} where id = :id", Parameters=bound) == [[1]]


def test_an_error_fails_the_statement(database: Database) -> None:
    state = database.run("selec 1")
    assert state["Status"] == "FAILED"
    assert "syntax error" in state["Error"]
    with pytest.raises(ClientError, match="Query does not have result"):
        database.client.get_statement_result(Id=state["Id"])


def test_a_batch_is_one_transaction(database: Database, table: str) -> None:
    sqls = [f"insert into {table} values ('a', 1, 0)", f"insert into {table} values ('a', 2, 0)"]
    state = database.finished(database.client.batch_execute_statement(Sqls=sqls, **TARGET)["Id"])
    assert state["Status"] == "FAILED", "the second row has the key of the first"
    assert database.rows(f"select count(*) from {table}") == [[0]]


def test_results_come_in_pages(database: Database) -> None:
    state = database.run("select range from range(2500)")
    first = database.client.get_statement_result(Id=state["Id"])
    assert len(first["Records"]) == 1000
    assert first["TotalNumRows"] == 2500
    assert [row[0] for row in database.rows("select range from range(2500)")] == list(range(2500))


def test_files_of_the_machine_are_out_of_reach(database: Database) -> None:
    state = database.run("select * from read_csv('/etc/passwd')")
    assert state["Status"] == "FAILED"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ClusterIdentifier": "none"}, "Redshift endpoint doesn't exist"),
        ({"Sql": f"select '{'x' * 102400}'"}, "102400 bytes"),
    ],
)
def test_a_bad_request_is_refused(database: Database, change: dict[str, str], message: str) -> None:
    with pytest.raises(ClientError, match=message):
        database.client.execute_statement(**{"Sql": "select 1", **TARGET, **change})


@pytest.mark.parametrize("may_log_in", [False, True])
def test_a_role_needs_the_permission_to_log_in(
    own_sandbox: OwnSandbox, make_role: Callable[..., str], may_log_in: bool
) -> None:
    role = f"test-{uuid.uuid4().hex[:8]}"
    arn = f"arn:aws:redshift:{REGION}:{ACCOUNT}"
    login = {"Action": "redshift:GetClusterCredentials", "Resource": f"{arn}:dbuser:{REDSHIFT_CLUSTER}/tester"}
    make_role(
        role,
        "sagemaker.amazonaws.com",
        {"Action": "redshift-data:ExecuteStatement", "Resource": f"{arn}:cluster:{REDSHIFT_CLUSTER}"},
        {"Action": "redshift-data:DescribeStatement", "Resource": "*"},
        *([login] if may_log_in else []),
    )
    keys = credentials(own_sandbox, role)
    client = boto3.client(
        "redshift-data",
        endpoint_url=own_sandbox.settings.endpoint_url,
        region_name=REGION,
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["Token"],
    )
    if may_log_in:
        assert Database(client).run("select 1")["Status"] == "FINISHED"
        return
    with pytest.raises(ClientError, match="redshift:GetClusterCredentials"):
        client.execute_statement(Sql="select 1", **TARGET)


def test_a_batch_has_parameters_and_each_statement_gets_those_that_it_names(database: Database, table: str) -> None:
    sqls = [f"delete from {table} where id = :key", f"insert into {table} values (:key, :v1, null), (:v10, :v1, null)"]
    parameters = [{"name": name, "value": value} for name, value in (("key", "a:v1"), ("v1", "7"), ("v10", "b"))]
    for _ in range(2):
        started = database.client.batch_execute_statement(Sqls=sqls, Parameters=parameters, **TARGET)
        assert database.finished(started["Id"])["Status"] == "FINISHED"
        database.run(f"delete from {table} where id = 'b'")
    assert database.rows(f"select id, value from {table}") == [["a:v1", 7]]
