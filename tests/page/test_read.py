"""The sources of the status page, read from a real table and real buckets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.config import Config
from twinops import runs
from twinops.aws import overview
from twinops.aws.clients import client
from twinops.aws.ledger import Ledger
from twinops.aws.registry import Registry, Version
from twinops.names import Names
from twinops.overview import document
from twinops.overview.model import Read
from twinops.runs import Claim

from sandbox.ports import free_port
from tests.page import worlds
from tests.page.worlds import SPECS, at, deployment, digest, facts, release, results, rollout
from tests.unit.dispatch.conftest import key
from tests.unit.endpoint import AWS_VARIABLES, _endpoint_url, endpoint  # noqa: F401

ENV = "staging"
NAMES = Names(ENV, "123456789012")


@dataclass
class Cloud:
    """An environment's table and buckets."""

    ledger: Ledger
    s3: Any

    def put(self, bucket: str, name: str, content: Any) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.s3.put_object(Bucket=NAMES.bucket(bucket), Key=name, Body=body)

    def run(self, number: int) -> str:
        """A run from its claim to its report; the folder of its results in the bucket."""
        run_id, workflow = digest(f"run {number}")[:24], "model_evaluation"
        claim: Claim = {
            "run_id": run_id,
            "workflow": workflow,
            "git_sha": worlds.COMMIT,
            "event_id": f"event-{number}",
            "parameters": "{}",
            "timeout_s": 60,
            "idempotent": True,
            "concurrency": runs.ALLOW,
            "log_group": NAMES.workflow_log_group(workflow),
        }
        self.ledger.claim(claim, dispatcher="request")
        self.ledger.start(run_id, 1, runner="runner", log_stream=f"{run_id}/1")
        folder = f"{workflow}/{run_id}"
        outcome = {"report_bucket": NAMES.bucket("reports"), "report_key": f"{folder}/report.html", "duration_s": 2.5}
        assert self.ledger.finish(run_id, 1, runner="runner", state=runs.SUCCEEDED, outcome=outcome)
        return folder


@pytest.fixture
def cloud(endpoint: str) -> Iterator[Cloud]:  # noqa: F811
    """An environment that was deployed and has done nothing yet."""
    dynamodb, s3 = client("dynamodb"), client("s3")
    dynamodb.create_table(
        TableName=NAMES.ledger,
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk", "kind", "at")],
        KeySchema=key("pk", "sk"),
        GlobalSecondaryIndexes=[
            {"IndexName": "kind-at", "KeySchema": key("kind", "at"), "Projection": {"ProjectionType": "ALL"}}
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    buckets = [NAMES.bucket(purpose) for purpose in ("models", "reports", "data")]
    for bucket in buckets:
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    yield Cloud(Ledger(NAMES.ledger, dynamodb), s3)
    dynamodb.delete_table(TableName=NAMES.ledger)
    for bucket in buckets:
        for item in s3.list_objects_v2(Bucket=bucket).get("Contents", ()):
            s3.delete_object(Bucket=bucket, Key=item["Key"])
        s3.delete_bucket(Bucket=bucket)


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Read]:
    """``read()``: what is to be known of the environment; ``tmp_path`` has what the pipeline's jobs left."""
    return partial(
        overview.read,
        ENV,
        waves={"device-001": "canary", "device-002": "early"},
        specs=SPECS,
        commit=worlds.COMMIT,
        now=runs.now(),
        artifacts=tmp_path,
        client=client,
    )


def states(read: Read) -> dict[str, str]:
    return {source.name: source.state for source in read.sources}


def test_what_is_not_there_yet_is_no_fault(cloud: Cloud, read: Callable[..., Read]) -> None:
    found = states(read())
    assert set(found.values()) == {"ok", "absent"}
    assert {name for name, state in found.items() if state == "absent"} == {
        "facts", "signatures", "registry", "pipeline: deployment", "pipeline: drift",
    }  # fmt: skip


def test_before_the_first_deployment_nothing_is_there_and_nothing_failed(
    endpoint: str,  # noqa: F811
    read: Callable[..., Read],
) -> None:
    found = read()
    assert "failed" not in states(found).values()
    assert document.assemble(found).answer.headline == "Nothing was deployed here yet"


def test_the_ledger_is_read_newest_first(cloud: Cloud, read: Callable[..., Read]) -> None:
    for name, hours in (("v1", 50), ("v2", 5)):
        cloud.ledger.record_rollout(rollout(name, {"device-001": "committed"}, hours))  # type: ignore[arg-type]
        cloud.ledger.record_deployment(deployment("device-001", name, hours), at=at(hours))  # type: ignore[arg-type]
    found = read()
    assert [item["release"] for item in found.rollouts] == ["v2", "v1"]
    made = document.assemble(found)
    assert [(device.name, device.release) for device in made.devices] == [("device-001", "v2"), ("device-002", "")]
    assert made.deployed is not None
    assert made.deployed.release == "v2"


def test_facts_are_those_of_the_inventory_and_a_broken_file_is_that_device_s_problem(
    cloud: Cloud, read: Callable[..., Read]
) -> None:
    cloud.put("data", "facts/device-001/latest.json", facts("device-001", "v2", heard_at="never"))
    cloud.put("data", "facts/device-001/history/2026-11-23/07.json", {})
    cloud.put("data", "facts/device-002/latest.json", b"{")
    cloud.put("data", "facts/device-003/latest.json", {})
    found = read()
    assert set(found.facts) == {"device-001", "device-002"}
    assert states(found)["facts"] == "ok"
    first, second = document.assemble(found).devices
    assert (first.release, first.health) == ("v2", "ok")
    assert first.last_seen == found.facts["device-001"]["heard_at"] != "never", "the bucket says when, not the device"
    assert "expected JSON" in second.notes[0]


def test_results_are_those_of_the_runs_that_wrote_some(cloud: Cloud, read: Callable[..., Read]) -> None:
    made = [cloud.run(number) for number in range(3)]
    for number, folder in enumerate(made[:2]):
        for file, content in results(number, "v2").items():
            cloud.put("reports", f"{folder}/{file}", content)
    found = read()
    assert states(found)["reports"] == "ok"
    assert [point.macro_f1 for point in document.assemble(found).quality] == pytest.approx([0.9978, 0.9974])
    cloud.put("reports", f"{made[1]}/metrics.json", b"not JSON")
    (source,) = (source for source in read().sources if source.state == "failed")
    assert (source.name, "metrics.json: expected JSON" in source.problem) == ("reports", True)


def test_who_signed_and_who_approved(cloud: Cloud, read: Callable[..., Read]) -> None:
    meta = {"staging.json": {"version": 4}, "targets.json": {"version": 2}}
    keys = {"a" * 64: {"x-twinops-name": "staging-1"}, "b" * 64: {}}
    for name, content in {
        "timestamp": {"signed": {"meta": {"snapshot.json": {"version": 9}}}},
        "9.snapshot": {"signed": {"meta": meta}},
        "2.targets": {"signed": {"delegations": {"keys": keys}}},
        "4.staging": {"signed": {}, "signatures": [{"keyid": "a" * 64}, {"keyid": "b" * 64}]},
    }.items():
        cloud.put("models", f"tuf/metadata/{name}.json", content)
    registry = Registry(cloud.s3, NAMES.bucket("models"), "shuttle")
    for name in ("v1", "v2"):
        told = release(name)
        version = Version(name, told["model_digest"], told["data_version"], told["git_sha"], digest("evaluation"))
        registry.register(version, approver="pipeline", reason="published")
        registry.promote(name, approver=f"approver of {name}", reason="its rollout was completed")
    found = read()
    assert found.signed_by == ("staging-1", "b" * 8)
    assert found.promotions == {digest("model v1"): "approver of v1", digest("model v2"): "approver of v2"}
    cloud.put("models", "tuf/metadata/2.targets.json", {"signed": {}})
    assert {source.problem for source in read().sources if source.state == "failed"} == {
        "expected another form, missing 'delegations'"
    }


def test_alarms_that_are_on(cloud: Cloud, read: Callable[..., Read]) -> None:
    cloudwatch = client("cloudwatch")
    for name in (NAMES.alarm("dead-letters"), NAMES.alarm("dispatch-errors"), "twinops-production-dead-letters"):
        cloudwatch.put_metric_alarm(
            AlarmName=name, MetricName="m", Namespace="n", Statistic="Sum", Period=60, EvaluationPeriods=1,
            Threshold=0, ComparisonOperator="GreaterThanThreshold",
        )  # fmt: skip
        on = name.endswith("dead-letters")
        state = "ALARM" if on else "OK"
        cloudwatch.set_alarm_state(AlarmName=name, StateValue=state, StateReason="2 messages" if on else "")
    (alarm,) = read().alarms
    assert (alarm["name"], alarm["reason"]) == ("twinops-staging-dead-letters", "2 messages")
    assert runs.parse(alarm["since"]) <= runs.parse(runs.now())


def test_what_jobs_of_the_pipeline_left(cloud: Cloud, read: Callable[..., Read], tmp_path: Path) -> None:
    for folder, content in (("deployments", worlds.deployed()), ("plans", {"cloud": [], "at": worlds.at(1)})):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{ENV}.json").write_text(json.dumps(content))
    made = document.assemble(read())
    assert made.deployment is not None
    assert (made.deployment.state, made.deployment.by) == ("deployed", "ada")
    assert [(check.kind, check.findings) for check in made.drift_checks] == [("cloud", 0)]
    for broken in ([], {"cloud": []}):
        (tmp_path / f"plans/{ENV}.json").write_text(json.dumps(broken))
        assert states(read())["pipeline: drift"] == "failed"


def test_without_an_answer_every_source_is_named_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, read: Callable[..., Read]
) -> None:
    for name, value in AWS_VARIABLES.items():
        monkeypatch.setenv(name, value)
    url = f"http://127.0.0.1:{free_port()}"
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=2)
    session = botocore.session.Session()
    clients = {
        name: session.create_client(name, endpoint_url=url, config=config)
        for name in ("dynamodb", "s3", "cloudwatch", "sts")
    }
    found = read(client=clients.__getitem__)
    failed = [source for source in found.sources if source.state == "failed"]
    assert [source.name for source in failed] == [
        "ledger: runs", "ledger: rollouts", "ledger: deployments", "facts", "reports", "alarms", "signatures",
        "registry",
    ]  # fmt: skip
    reasons = {source.problem for source in failed if "Could not connect to the endpoint URL" not in source.problem}
    assert reasons == {"the runs are not known"}
    assert document.assemble(found).answer.headline == "The ledger could not be read: how things are is not known"


def test_a_profile_that_does_not_exist_is_the_reason_that_is_shown(read: Callable[..., Read]) -> None:
    found = read(client=partial(client, profile="nobody-has-this-one"))
    (reason,) = {source.problem for source in found.sources if source.name.startswith("ledger")}
    assert reason == "The config profile (nobody-has-this-one) could not be found"
