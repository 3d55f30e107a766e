"""CloudWatch alarms: which series and periods count, missing data, composite alarms, and what they tell whom."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sandbox.settings import ACCOUNT, REGION
from tests.sandbox.support import eventually, policy

pytestmark = pytest.mark.sandbox

Aws = Callable[[str], Any]
PERIOD_S = 3600
SLOW_S = 20


def new() -> str:
    return f"alarm-{uuid.uuid4().hex[:8]}"


def put_alarm(aws: Aws, name: str, **changes: Any) -> None:
    arguments: dict[str, Any] = {
        "AlarmName": name,
        "Namespace": "twinops/test",
        "MetricName": name,
        "Statistic": "Sum",
        "Period": PERIOD_S,
        "EvaluationPeriods": 1,
        "Threshold": 0.5,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",
        **changes,
    }
    aws("cloudwatch").put_metric_alarm(**arguments)


def put_data(aws: Aws, metric: str, *values: tuple[int, float], **dimensions: str) -> None:
    """Values by how many periods ago they were measured."""
    now = time.time()
    data = [
        {
            "MetricName": metric,
            "Timestamp": now - periods_ago * PERIOD_S,
            "Value": value,
            "Dimensions": [{"Name": key, "Value": text} for key, text in dimensions.items()],
        }
        for periods_ago, value in values
    ]
    aws("cloudwatch").put_metric_data(Namespace="twinops/test", MetricData=data)


def alarm(aws: Aws, name: str) -> Any:
    answer = aws("cloudwatch").describe_alarms(AlarmNames=[name], AlarmTypes=["MetricAlarm", "CompositeAlarm"])
    return (answer["MetricAlarms"] + answer["CompositeAlarms"])[0]


def state(aws: Aws, name: str) -> str:
    return str(alarm(aws, name)["StateValue"])


def settled(aws: Aws, name: str) -> str:
    """The state after an evaluation that came by the clock."""
    time.sleep(1.5)
    return state(aws, name)


def test_all_that_was_put_is_described(aws: Aws) -> None:
    topic = f"arn:aws:sns:{REGION}:{ACCOUNT}:somewhere"
    put = {
        "AlarmDescription": "d",
        "ActionsEnabled": False,
        "AlarmActions": [topic],
        "OKActions": [topic],
        "InsufficientDataActions": [topic],
        "Dimensions": [{"Name": "a", "Value": "b"}],
        "DatapointsToAlarm": 1,
        "EvaluationPeriods": 2,
        "TreatMissingData": "ignore",
        "Unit": "Count",
    }
    name = new()
    put_alarm(aws, name, **put)
    described = alarm(aws, name)
    assert {member: described[member] for member in put} == put


def test_only_the_named_series_counts(aws: Aws) -> None:
    name = new()
    put_alarm(aws, name, Dimensions=[{"Name": "workflow", "Value": "a"}])
    put_data(aws, name, (0, 1.0), workflow="b")
    put_data(aws, name, (0, 1.0))
    assert settled(aws, name) == "OK"
    put_data(aws, name, (0, 1.0), workflow="a")
    assert settled(aws, name) == "ALARM"
    statistics = {"Namespace": "twinops/test", "MetricName": name, "Period": 3600, "Statistics": ["SampleCount"]}
    now = time.time()
    points = aws("cloudwatch").get_metric_statistics(StartTime=now - 7200, EndTime=now + 60, **statistics)
    assert sum(point["SampleCount"] for point in points["Datapoints"]) == 1


# Of three periods, oldest first: what was measured (x breaches), and the state for each treatment of missing data.
CASES = {
    "0-x-x": ("0-x-x", 3, "OK", "OK", "OK", "OK"),
    "0": ("----0", 3, "OK", "OK", "OK", "OK"),
    "nothing": ("-----", 3, "INSUFFICIENT_DATA", "INSUFFICIENT_DATA", "ALARM", "OK"),
    "0xx-x": ("0xx-x", 3, "ALARM", "ALARM", "ALARM", "ALARM"),
    "x": ("--x--", 3, "ALARM", "INSUFFICIENT_DATA", "ALARM", "OK"),
    "two of three: 0-x-x": ("0-x-x", 2, "ALARM", "ALARM", "ALARM", "ALARM"),
    "two of three: 0-x--": ("0-x--", 2, "OK", "OK", "ALARM", "OK"),
    "two of three: 0": ("----0", 2, "OK", "OK", "ALARM", "OK"),
    "two of three: x": ("---x-", 2, "ALARM", "INSUFFICIENT_DATA", "ALARM", "OK"),
}


@pytest.mark.parametrize("what", CASES)
def test_missing_data_as_in_the_tables_of_the_user_guide(aws: Aws, what: str) -> None:
    """The retained state of ``ignore`` is the first one, INSUFFICIENT_DATA."""
    points, needed, *expected = CASES[what]
    if PERIOD_S - time.time() % PERIOD_S < SLOW_S:
        time.sleep(SLOW_S)  # a period must not end meanwhile
    metric = new()
    measured = {"0": 0.0, "x": 1.0}
    # The period that has just begun has no data and does not count yet: the newest point is one period old.
    values = [(len(points) - index, measured[point]) for index, point in enumerate(points) if point != "-"]
    if values:
        put_data(aws, metric, *values)
    states = []
    for treatment in ("missing", "ignore", "breaching", "notBreaching"):
        put_alarm(
            aws,
            f"{metric}-{treatment}",
            MetricName=metric,
            EvaluationPeriods=3,
            DatapointsToAlarm=needed,
            TreatMissingData=treatment,
        )
        states.append(state(aws, f"{metric}-{treatment}"))
    assert states == expected


def test_a_dead_man_alarm_fires_by_the_clock(aws: Aws) -> None:
    name = new()
    put_alarm(aws, name, Period=10, Threshold=1, ComparisonOperator="LessThanThreshold", TreatMissingData="breaching")
    put_data(aws, name, (0, 1.0))
    assert settled(aws, name) == "OK"
    assert eventually(lambda: state(aws, name) == "ALARM", timeout_s=60)


def test_an_alarm_that_warms_up_waits(aws: Aws) -> None:
    name, eager = new(), new()
    for one, waits in ((name, True), (eager, False)):
        configuration = {"WarmUpPeriodDurationInMinutes": 5, "OnlyStartEvaluatingAfterWarmUpPeriodEnds": waits}
        put_alarm(aws, one, TreatMissingData="breaching", WarmUpConfiguration=configuration)
        assert settled(aws, one) == "INSUFFICIENT_DATA"
        assert alarm(aws, one)["WarmUpConfiguration"] == configuration
        put_data(aws, one, (0, 1.0))
    assert (settled(aws, name), settled(aws, eager)) == ("INSUFFICIENT_DATA", "ALARM")


@pytest.mark.parametrize(
    ("rule", "in_alarm"),
    [
        ("ALARM({a}) OR ALARM({b})", True),
        ("ALARM({a}) AND ALARM({b})", False),
        ("ALARM({a}) AND OK({b})", True),
        ("NOT (ALARM({a}) OR INSUFFICIENT_DATA({b}))", False),
        ("INSUFFICIENT_DATA({c}) AND NOT ALARM({b})", True),
        ("FALSE", False),
    ],
)
def test_composite_alarms(aws: Aws, rule: str, in_alarm: bool) -> None:
    names = {"a": new(), "b": new(), "c": new()}
    put_alarm(aws, names["a"])
    put_alarm(aws, names["b"])
    put_alarm(aws, names["c"], TreatMissingData="missing")
    composite = new()
    aws("cloudwatch").put_composite_alarm(AlarmName=composite, AlarmRule=rule.format(**names))
    put_data(aws, names["a"], (0, 1.0))
    expected = "ALARM" if in_alarm else "OK"
    assert eventually(lambda: state(aws, composite) == expected, 10)
    time.sleep(1.2)
    assert state(aws, composite) == expected


def test_an_alarm_of_a_rule_must_exist_and_stays(aws: Aws) -> None:
    child, composite = new(), new()
    with pytest.raises(ClientError) as refused:
        aws("cloudwatch").put_composite_alarm(AlarmName=composite, AlarmRule=f"ALARM({child})")
    assert refused.value.response["Error"]["Code"] == "ValidationError"
    put_alarm(aws, child)
    aws("cloudwatch").put_composite_alarm(AlarmName=composite, AlarmRule=f"ALARM({child})")
    with pytest.raises(ClientError):
        aws("cloudwatch").delete_alarms(AlarmNames=[child])
    aws("cloudwatch").delete_alarms(AlarmNames=[composite])
    aws("cloudwatch").delete_alarms(AlarmNames=[child])


# ---- who is told


def listened_topic(aws: Aws, **attributes: str) -> tuple[str, Callable[[], list[Any]]]:
    """A topic, and what arrived at it so far."""
    name = new()
    topic = aws("sns").create_topic(Name=name, Attributes=attributes)["TopicArn"]
    url = aws("sqs").create_queue(QueueName=name)["QueueUrl"]
    queue = aws("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    allow = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage"}
    aws("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy({**allow, "Resource": queue})})
    aws("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)
    arrived: list[Any] = []

    def read() -> list[Any]:
        for message in aws("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            arrived.append(json.loads(json.loads(message["Body"])["Message"]))
        return arrived

    return topic, read


def test_actions_are_sent_when_the_state_changes(aws: Aws) -> None:
    topic, read = listened_topic(aws)
    child, composite = new(), new()
    put_alarm(aws, child)
    aws("cloudwatch").put_composite_alarm(
        AlarmName=composite, AlarmRule=f"ALARM({child})", AlarmActions=[topic], OKActions=[topic]
    )
    put_data(aws, child, (0, 1.0))
    told = eventually(lambda: [one for one in read() if one["NewStateValue"] == "ALARM"], 15)
    assert [one["AlarmName"] for one in told] == [composite]
    time.sleep(2.5)
    assert [one["NewStateValue"] for one in read()].count("ALARM") == 1


def publishing(source: str, topic: str = "*") -> dict[str, Any]:
    return {
        "Effect": "Allow",
        "Principal": {"Service": "cloudwatch.amazonaws.com"},
        "Action": "sns:Publish",
        "Resource": topic,
        "Condition": {"ArnLike": {"aws:SourceArn": source}, "StringEquals": {"aws:SourceAccount": ACCOUNT}},
    }


@pytest.mark.parametrize(("source", "told"), [("alarm:*", True), ("alarm:other-*", False)])
def test_the_topics_policy_is_asked(aws: Aws, source: str, told: bool) -> None:
    topic, read = listened_topic(aws)
    statement = publishing(f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:{source}", topic)
    aws("sns").set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=policy(statement))
    name = new()
    put_alarm(aws, name, AlarmActions=[topic])
    put_data(aws, name, (0, 1.0))
    assert eventually(lambda: state(aws, name) == "ALARM", 10)
    time.sleep(1)
    assert bool(read()) is told


@pytest.mark.parametrize("allowed", [True, False])
def test_the_policy_of_the_topics_key_is_asked(aws: Aws, allowed: bool) -> None:
    owner = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
        "Action": "kms:*",
        "Resource": "*",
    }
    service = {
        "Effect": "Allow",
        "Principal": {"Service": "cloudwatch.amazonaws.com"},
        "Action": ["kms:GenerateDataKey*", "kms:Decrypt"],
        "Resource": "*",
    }
    statements = [owner, service] if allowed else [owner]
    key = aws("kms").create_key(Policy=policy(*statements))["KeyMetadata"]["KeyId"]
    topic, read = listened_topic(aws, KmsMasterKeyId=key)
    name = new()
    put_alarm(aws, name, AlarmActions=[topic])
    put_data(aws, name, (0, 1.0))
    assert eventually(lambda: state(aws, name) == "ALARM", 10)
    time.sleep(1)
    assert bool(read()) is allowed


def let_publish(aws: Aws, topic: str, rule_arn: str) -> None:
    """The topic's policy as a rule needs it."""
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sns:Publish",
        "Resource": topic,
        "Condition": {"ArnEquals": {"aws:SourceArn": rule_arn}},
    }
    aws("sns").set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=policy(statement))


@pytest.mark.parametrize("allowed", [True, False])
def test_a_rule_needs_the_topics_policy(aws: Aws, allowed: bool) -> None:
    topic, read = listened_topic(aws)
    rule = new()
    pattern = json.dumps({"source": [rule]})
    rule_arn = aws("events").put_rule(Name=rule, EventPattern=pattern)["RuleArn"]
    aws("events").put_targets(Rule=rule, Targets=[{"Id": "1", "Arn": topic, "InputPath": "$.detail"}])
    if allowed:
        let_publish(aws, topic, rule_arn)
    event = {"Source": rule, "DetailType": "t", "Detail": json.dumps({"n": 1})}
    aws("events").put_events(Entries=[event])
    time.sleep(1)
    assert read() == ([{"n": 1}] if allowed else [])


def test_a_change_of_state_is_an_event(aws: Aws) -> None:
    """Its form: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch-and-eventbridge.html."""
    topic, read = listened_topic(aws)
    name = new()
    pattern = {
        "source": ["aws.cloudwatch"],
        "detail-type": ["CloudWatch Alarm State Change"],
        "detail": {"alarmName": [name], "state": {"value": ["ALARM"]}},
    }
    rule_arn = aws("events").put_rule(Name=name, EventPattern=json.dumps(pattern))["RuleArn"]
    aws("events").put_targets(Rule=name, Targets=[{"Id": "1", "Arn": topic}])
    let_publish(aws, topic, rule_arn)
    put_alarm(aws, name, AlarmDescription="d")
    assert settled(aws, name) == "OK", "and nobody asked for that event"
    put_data(aws, name, (0, 1.0))
    assert settled(aws, name) == "ALARM"
    (event,) = read()
    assert event["resources"] == [alarm(aws, name)["AlarmArn"]]
    detail = event["detail"]
    assert (detail["previousState"]["value"], detail["state"]["value"]) == ("OK", "ALARM")
    assert detail["state"]["reason"].startswith("Threshold Crossed")
    assert detail["configuration"]["description"] == "d"
    (metric,) = detail["configuration"]["metrics"]
    assert metric["metricStat"]["metric"] == {"namespace": "twinops/test", "name": name, "dimensions": {}}


# ---- metrics of services, dashboards


def test_the_length_of_a_queue_is_a_metric(aws: Aws) -> None:
    queue = new()
    url = aws("sqs").create_queue(QueueName=queue)["QueueUrl"]
    put_alarm(
        aws,
        queue,
        Namespace="AWS/SQS",
        MetricName="ApproximateNumberOfMessagesVisible",
        Statistic="Maximum",
        Dimensions=[{"Name": "QueueName", "Value": queue}],
    )
    assert settled(aws, queue) == "OK"
    aws("sqs").send_message(QueueUrl=url, MessageBody="dead letter")
    assert eventually(lambda: state(aws, queue) == "ALARM", 10)


def test_alarms_on_expressions_are_not_emulated(aws: Aws) -> None:
    with pytest.raises(ClientError) as refused:
        aws("cloudwatch").put_metric_alarm(
            AlarmName=new(),
            EvaluationPeriods=1,
            Threshold=1,
            ComparisonOperator="GreaterThanThreshold",
            Metrics=[{"Id": "m", "Expression": "1 + 1", "ReturnData": True}],
        )
    assert refused.value.response["Error"]["Code"] == "NotImplementedException"


def test_dashboards(aws: Aws) -> None:
    cloudwatch, name = aws("cloudwatch"), new()
    body = json.dumps({"widgets": [{"type": "text", "x": 0, "y": 0, "width": 6, "height": 3}]})
    cloudwatch.put_dashboard(DashboardName=name, DashboardBody=body)
    read = cloudwatch.get_dashboard(DashboardName=name)
    assert json.loads(read["DashboardBody"]) == json.loads(body)
    assert read["DashboardArn"] == f"arn:aws:cloudwatch::{ACCOUNT}:dashboard/{name}"
    listed = cloudwatch.list_dashboards(DashboardNamePrefix=name)["DashboardEntries"]
    assert [entry["DashboardName"] for entry in listed] == [name]
    cloudwatch.delete_dashboards(DashboardNames=[name])
    with pytest.raises(ClientError) as missing:
        cloudwatch.get_dashboard(DashboardName=name)
    assert missing.value.response["Error"]["Code"] in ("ResourceNotFound", "DashboardNotFoundError")


def test_tags_of_an_alarm(aws: Aws) -> None:
    name = new()
    put_alarm(aws, name, Tags=[{"Key": "a", "Value": "1"}])
    arn = {"ResourceARN": alarm(aws, name)["AlarmArn"]}
    put_alarm(aws, name, Tags=[{"Key": "a", "Value": "ignored on update"}])
    assert aws("cloudwatch").list_tags_for_resource(**arn)["Tags"] == [{"Key": "a", "Value": "1"}]
    aws("cloudwatch").tag_resource(**arn, Tags=[{"Key": "b", "Value": "2"}])
    aws("cloudwatch").untag_resource(**arn, TagKeys=["a"])
    assert aws("cloudwatch").list_tags_for_resource(**arn)["Tags"] == [{"Key": "b", "Value": "2"}]
