"""Plan, create, no-op, prune, orphans, removal, on a real endpoint."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from twinops.aws.reconcile import ApplyError, observe

from tests.sandbox.cloud.support import WORKFLOWS, Deployment, Environment, workflow
from tests.sandbox.support import eventually, policy

pytestmark = pytest.mark.sandbox


def test_check_on_nothing_predicts_everything_and_writes_nothing(deployment: Deployment) -> None:
    assert deployment.writes_of_check == []
    names = {(change["kind"], change["name"]) for change in deployment.check["changes"]}
    assert names == {(each.kind, each.name) for each in deployment.environment.resources()}


def test_what_was_predicted_is_what_was_done(deployment: Deployment) -> None:
    assert deployment.created["changes"] == deployment.check["changes"]
    assert deployment.created["diff"] == deployment.check["diff"]


def test_second_run_changes_nothing_and_writes_nothing(staging: Environment) -> None:
    again, writes = staging.writes_of(lambda: staging.reconcile(staging.resources()))
    assert again["changes"] == []
    assert writes == []
    assert not again["changed"]


def test_an_address_that_has_to_confirm_is_a_condition_and_no_change(production: Environment) -> None:
    topics = production.resources("notifications", notifications={"mail_to": ["newcomer@plant.test"]})
    first, again = production.reconcile(topics), production.reconcile(topics)
    pending, ready = again["conditions"]
    assert again["changes"] == []
    assert first["conditions"] == again["conditions"]
    assert (pending["type"], pending["reason"]) == ("Reconciling", "PendingConfirmation")
    assert "newcomer@plant.test" in pending["message"]
    assert ready == {"type": "Ready", "status": False, "reason": "PendingConfirmation"}
    production.remove(topics)


def test_a_stranger_is_unsubscribed_once_confirmed(staging: Environment, aws: Callable[[str], Any]) -> None:
    stranger, resources = "stranger@plant.test", staging.resources()
    aws("sns").subscribe(TopicArn=staging.scope.topic_arn, Protocol="email", Endpoint=stranger)
    assert staging.reconcile(resources, apply=False)["changes"] == [], "nobody gets mail before confirming"
    mail = eventually(lambda: next((mail for mail in staging.sandbox.mails() if f"To: {stranger}" in mail), ""))
    with urllib.request.urlopen(re.findall(r"http://\S+", mail)[0], timeout=10) as answer:  # noqa: S310
        assert answer.status == 200
    (change,) = staging.reconcile(resources)["changes"]
    assert (change["kind"], change["fields"]) == ("topic", ["mail_to"])
    subscribers = aws("sns").list_subscriptions_by_topic(TopicArn=staging.scope.topic_arn)["Subscriptions"]
    assert [each["Endpoint"] for each in subscribers] == ["mlops@example.com"]


def test_tags_of_others_are_kept(staging: Environment, aws: Callable[[str], Any]) -> None:
    bucket = staging.scope.names.bucket("models")
    aws("s3").put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "cost-centre", "Value": "4711"}]})
    staging.reconcile(staging.resources())
    tags = {tag["Key"]: tag["Value"] for tag in aws("s3").get_bucket_tagging(Bucket=bucket)["TagSet"]}
    assert tags == {"cost-centre": "4711", "twinops:part": "storage", **staging.scope.names.tags}


def test_what_belongs_to_a_removed_workflow_goes_and_what_is_not_ours_stays(
    staging: Environment, aws: Callable[[str], Any]
) -> None:
    foreign = staging.scope.names.rule("somebody_elses")
    aws("events").put_rule(Name=foreign, ScheduleExpression="rate(1 day)")
    extra = (*WORKFLOWS, workflow("short_lived"))
    staging.reconcile(staging.resources(workflows=extra))
    resources = staging.resources()
    planned = staging.reconcile(resources, apply=False)["changes"]
    assert [(change["action"], change["name"]) for change in planned] == [
        ("delete", staging.scope.names.workflow_alarm("failed", "short_lived")),
        ("delete", staging.scope.names.rule("short_lived")),
        ("delete", staging.scope.names.workflow_log_group("short_lived")),
        ("update", staging.scope.names.dashboard),
    ]
    assert staging.reconcile(resources)["changes"] == planned
    rules = [rule["Name"] for rule in aws("events").list_rules(NamePrefix=staging.scope.names.prefix)["Rules"]]
    assert foreign in rules
    assert staging.scope.names.rule("short_lived") not in rules
    aws("events").delete_rule(Name=foreign)


def test_interrupted_creation_is_completed(production: Environment, aws: Callable[[str], Any]) -> None:
    """What a run leaves that was killed after the first call of each creation."""
    scope = production.scope
    bucket, role, group = (
        scope.names.bucket("models"),
        scope.names.role("device"),
        scope.names.function_log_group("backup"),
    )
    trust = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    aws("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": scope.region})
    aws("iam").create_role(RoleName=role, AssumeRolePolicyDocument=policy(trust))
    aws("logs").create_log_group(logGroupName=group)
    everything = production.resources("env", "storage", "observability")
    boundary = tuple(each for each in everything if each.name == scope.names.policy("boundary"))
    resources = tuple(each for each in everything if each.name in (bucket, role, group))
    production.reconcile(boundary)
    assert {change["action"] for change in production.reconcile(resources)["changes"]} == {"update"}
    assert production.reconcile(resources, apply=False)["changes"] == []
    production.remove((*boundary, *resources))


def test_everything_can_be_removed_and_nothing_remains(production: Environment) -> None:
    resources = production.resources()
    production.reconcile(resources)
    planned, writes = production.writes_of(lambda: production.remove(resources, apply=False))
    assert writes == []
    assert len(planned["changes"]) == len(resources)
    production.remove(resources)
    assert observe(production.aws, [(each.kind, each.name) for each in resources]) == {}
    assert production.remove(resources)["changes"] == []


def test_data_stays_unless_somebody_says_otherwise(production: Environment, aws: Callable[[str], Any]) -> None:
    resources = production.resources("storage")
    production.reconcile(resources)
    reports = production.scope.names.bucket("reports")
    aws("s3").put_object(Bucket=reports, Key="report.html", Body=b"precious")
    aws("s3").put_object(Bucket=reports, Key="report.html", Body=b"more precious")
    aws("s3").delete_object(Bucket=reports, Key="report.html")
    kept = production.remove(resources, with_data=False)
    assert kept["changes"] == []
    assert sorted(each["name"] for each in kept["kept"]) == sorted(each.name for each in resources)
    assert len(aws("s3").list_object_versions(Bucket=reports)["Versions"]) == 2
    production.remove(resources, with_data=True)
    assert observe(production.aws, [(each.kind, each.name) for each in resources]) == {}


def test_what_is_not_declared_any_more_is_listed_and_goes_with_prune(production: Environment) -> None:
    everything = production.resources("notifications", "storage")
    production.reconcile(everything)
    less = production.resources("storage", storage={"buckets": [{"purpose": "data", "noncurrent_days": 30}]})
    listed = production.reconcile(less, parts=("notifications", "storage"))
    orphans = sorted({each.name for each in everything} - {each.name for each in less})
    assert listed["changes"] == []
    assert sorted(each["name"] for each in listed["orphans"]) == orphans
    pruned = production.reconcile(less, parts=("notifications", "storage"), prune=True)
    assert [(each["action"], each["kind"]) for each in pruned["changes"]] == [("delete", "topic")]
    assert {each["kind"] for each in pruned["orphans"]} == {"bucket", "key"}, "data is never pruned"
    assert production.reconcile(less, parts=("notifications", "storage"))["orphans"] == pruned["orphans"]
    production.remove(everything)


def test_only_what_belongs_to_a_declared_part_is_an_orphan(production: Environment) -> None:
    topic = production.resources("notifications")
    production.reconcile(topic)
    assert production.reconcile(production.resources("storage"), prune=True)["orphans"] == []
    assert production.reconcile(topic)["changes"] == []
    production.remove((*topic, *production.resources("storage")))


def test_a_twin_whose_script_fails_is_an_error_that_says_why(production: Environment) -> None:
    only = {"instances": [{"twin": "development"}], "subnet": ""}
    broken = production.resources("env", "twins", script="#!/bin/sh\nexit 7\n", twins=only)
    with pytest.raises(ApplyError, match=f"notebook {production.scope.names.twin('development')}: Failed: "):
        production.reconcile(broken)
    mended = production.resources("env", "twins", twins=only)
    assert production.reconcile(mended)["conditions"] == [{"type": "Ready", "status": True, "reason": "AsDeclared"}]
    production.remove(mended)


def test_what_lost_the_tag_of_its_part_is_no_business_of_another_part(
    production: Environment, aws: Callable[[str], Any]
) -> None:
    """Else a run with --tags storage would delete the log of a workflow, without anybody having said prune."""
    everything = production.resources()
    logs, storage = production.resources("workflows"), production.resources("storage")
    production.reconcile(everything)
    name = next(each.name for each in logs if each.kind == "log_group")
    arn = production.scope.arn("logs", f"log-group:{name}")
    aws("logs").untag_resource(resourceArn=arn, tagKeys=["twinops:part"])
    of_one_part = production.reconcile(storage, parts=("storage",), prune=True)
    assert (of_one_part["changes"], of_one_part["orphans"]) == ([], [])
    (change,) = production.reconcile(everything)["changes"]
    assert (change["kind"], change["name"], change["fields"]) == ("log_group", name, ["tags"])
    production.remove(everything)
