"""Data sources of the spec: cases in tests/plans/data_sources/cases.yml; and how narrow what they allow is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from twinops import data_sources
from twinops.errors import SpecError
from twinops.resources import Scope

CASES = yaml.safe_load((Path(__file__).parents[1] / "plans/data_sources/cases.yml").read_text())
SCOPE = Scope("staging", "111122223333", "eu-central-1")


@pytest.mark.parametrize("case", [case for case in CASES if "twin" in case], ids=lambda case: case["case"])
def test_what_the_twins_are_told(case: dict[str, Any]) -> None:
    assert {source.name: source.as_dict() for source in data_sources.parse(case["sources"])} == case["twin"]


@pytest.mark.parametrize("case", [case for case in CASES if "mistakes" in case], ids=lambda case: case["case"])
def test_mistakes(case: dict[str, Any]) -> None:
    with pytest.raises(SpecError) as wrong:
        data_sources.parse(case["sources"])
    assert list(wrong.value.mistakes) == case["mistakes"]


def allowed(**source: Any) -> dict[str, list[str]]:
    """Action -> resources."""
    statements = data_sources.statements(SCOPE, data_sources.parse([{"name": "it", **source}]))
    return {action: statement["Resource"] for statement in statements for action in statement["Action"]}


def test_a_cluster_is_asked_as_one_user_of_one_database() -> None:
    redshift = "arn:aws:redshift:eu-central-1:111122223333"
    assert allowed(type="redshift", cluster="plant", database="quality", db_user="reader") == {
        "redshift-data:BatchExecuteStatement": [f"{redshift}:cluster:plant"],
        "redshift-data:ExecuteStatement": [f"{redshift}:cluster:plant"],
        "redshift:GetClusterCredentials": [f"{redshift}:dbname:plant/quality", f"{redshift}:dbuser:plant/reader"],
        "redshift-data:DescribeStatement": ["*"],
        "redshift-data:GetStatementResult": ["*"],
    }


def test_a_workgroup_is_known_by_its_identifier() -> None:
    workgroup = ["arn:aws:redshift-serverless:eu-central-1:111122223333:workgroup/1a2b"]
    serverless = allowed(type="redshift", workgroup="wg", workgroup_id="1a2b", database="quality")
    assert serverless["redshift-data:ExecuteStatement"] == workgroup
    assert serverless["redshift-serverless:GetCredentials"] == workgroup


def test_an_index_does_not_open_its_table() -> None:
    table = "arn:aws:dynamodb:eu-central-1:111122223333:table/sensors"
    assert allowed(type="dynamodb", table="sensors", index="time")["dynamodb:Scan"] == [f"{table}/index/time"]
    assert allowed(type="dynamodb", table="sensors")["dynamodb:Scan"] == [table]


def test_only_what_is_below_the_prefix_is_listed_and_read() -> None:
    statements = data_sources.statements(
        SCOPE, data_sources.parse([{"name": "it", "type": "s3", "bucket": "lake", "prefix": "labels/"}])
    )
    (listing,) = [each for each in statements if each["Action"] == ["s3:ListBucket"]]
    assert listing["Condition"] == {"StringLike": {"s3:prefix": "labels/*"}}
    assert allowed(type="s3", bucket="lake", prefix="labels/")["s3:GetObject"] == ["arn:aws:s3:::lake/labels/*"]


def test_only_a_source_that_is_writable_is_written() -> None:
    table = ["arn:aws:dynamodb:eu-central-1:111122223333:table/sensors"]
    assert "dynamodb:PutItem" not in allowed(type="dynamodb", table="sensors")
    written = allowed(type="dynamodb", table="sensors", writable=True)
    assert {written[f"dynamodb:{action}"][0] for action in ("DescribeTable", "PutItem", "DeleteItem")} == set(table)
    assert "s3:PutObject" not in allowed(type="s3", bucket="lake", prefix="labels/")
    lake = allowed(type="s3", bucket="lake", prefix="out/", writable=True)
    assert lake["s3:PutObject"] == ["arn:aws:s3:::lake/out/*"]


def test_a_workflow_that_names_another_source_is_told_which_there_are() -> None:
    (mistake,) = data_sources.check_known(["plant", "moon"], ["plant", "archive"], "workflows/x/workflow.yml")
    assert mistake == "workflows/x/workflow.yml: data_sources: expected some of archive, plant; got moon"
