"""CloudWatch alarms as AWS evaluates them: one series, period by period, missing data, warm-up, on a clock.

ministack mixes all series of a metric and all periods, ignores missing data and looks only when data comes: a dead-man
alarm would never fire. Composite alarms are its own; they follow the alarms of their rule. Actions go to a topic only
if its policy, and its key's, let CloudWatch publish. Every change of state is an event on the default bus as well.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from datetime import datetime, timezone
from typing import Any

from ministack.services import cloudwatch, eventbridge, sqs

from sandbox.emulator import topic_policies

EVALUATED_EVERY_S = 1.0
QUEUES_MEASURED_EVERY_S = 60.0

# AWS looks this many periods further back for data points, when recent ones are missing.
EXTRA_PERIODS = 2

COMPARISONS = {
    "GreaterThanOrEqualToThreshold": lambda value, threshold: value >= threshold,
    "GreaterThanThreshold": lambda value, threshold: value > threshold,
    "LessThanThreshold": lambda value, threshold: value < threshold,
    "LessThanOrEqualToThreshold": lambda value, threshold: value <= threshold,
}

# Members that ministack forgets.
KEPT = ("WarmUpConfiguration", "EvaluateLowSampleCountPercentile")


class _ExactDimensions(dict[str, str]):
    """Dimensions of a request; without any, ministack would take every series instead of the one that has none."""

    def __bool__(self) -> bool:
        return True


class Alarms:
    """Takes the place of ministack's evaluation."""

    def __init__(self) -> None:
        self._put = cloudwatch._put_metric_alarm
        self._dispatch = cloudwatch._dispatch_alarm_actions
        self._dimensions = cloudwatch._dims_from_list
        self._queue_lengths: dict[str, tuple[float, int]] = {}  # queue -> when last measured, and its length
        self._told: dict[str, dict[str, str]] = {}  # alarm -> the state that its last event told of

    def install(self) -> None:
        cloudwatch._evaluate_alarm = evaluate
        cloudwatch._put_metric_alarm = self.put
        cloudwatch._dispatch_alarm_actions = self.dispatch
        cloudwatch._dims_from_list = lambda dimensions: _ExactDimensions(self._dimensions(dimensions))

    async def run(self) -> None:
        """Evaluate all alarms every second, until cancelled."""
        while True:
            await asyncio.sleep(EVALUATED_EVERY_S)
            self.measure_queues()
            cloudwatch._evaluate_all_alarms()

    def put(self, parameters: Any, document: Any, is_cbor: bool, is_json: bool = False) -> Any:
        """Make an alarm, with all that was asked for; an update that changes nothing else keeps its state."""
        cloudwatch._evaluate_alarm = lambda _alarm: None  # not before all its members are there
        try:
            answer = self._put(parameters, document, is_cbor, is_json)
        finally:
            cloudwatch._evaluate_alarm = evaluate
        alarm = cloudwatch._alarms.get((document or {}).get("AlarmName"))
        if answer[0] == 200 and alarm is not None:
            alarm.update({name: document[name] for name in KEPT if name in document})
            evaluate(alarm)
        return answer

    def dispatch(self, alarm: dict[str, Any], old: str, new: str, reason: str) -> None:
        """Act on a change of state where the topics allow it."""
        actions = {"ALARM": "AlarmActions", "OK": "OKActions", "INSUFFICIENT_DATA": "InsufficientDataActions"}
        allowed = [
            action
            for action in alarm.get(actions[new]) or []
            if topic_policies.may_publish(action, "cloudwatch.amazonaws.com", alarm["AlarmArn"])
        ]
        self._dispatch({**alarm, actions[new]: allowed}, old, new, reason)
        self.put_event(alarm, old, new, reason)

    def put_event(self, alarm: dict[str, Any], old: str, new: str, reason: str) -> None:
        """Tell the default bus, as CloudWatch does of every alarm, whether or not its actions are enabled.

        https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch-and-eventbridge.html
        """
        arn = alarm["AlarmArn"]
        timestamp = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "+0000"
        state = {"value": new, "reason": reason, "timestamp": timestamp}
        if alarm.get("StateReasonData"):
            state["reasonData"] = alarm["StateReasonData"]
        detail = {
            "alarmName": alarm["AlarmName"],
            "configuration": _configuration(alarm),
            "previousState": self._told.get(arn, {"value": old}),
            "state": state,
        }
        self._told[arn] = state
        eventbridge._put_events(
            {
                "Entries": [
                    {
                        "Source": "aws.cloudwatch",
                        "DetailType": "CloudWatch Alarm State Change",
                        "Detail": json.dumps(detail),
                        "Resources": [arn],
                    }
                ]
            },
            allow_aws_source=True,
        )

    def measure_queues(self) -> None:
        """The length of each queue as a metric, once a minute and when it changes."""
        now = time.time()
        for queue in list(sqs._queues.values()):
            name = queue["name"]
            visible = sum(1 for message in list(queue["messages"]) if message.get("visible_at", 0) <= now)
            measured_at, length = self._queue_lengths.get(name, (0.0, 0))
            if visible != length or now - measured_at >= QUEUES_MEASURED_EVERY_S:
                self._queue_lengths[name] = now, visible
                cloudwatch.record_metric(
                    "AWS/SQS", "ApproximateNumberOfMessagesVisible", visible, "Count", {"QueueName": name}
                )


def _configuration(alarm: dict[str, Any]) -> dict[str, Any]:
    """What an event says of an alarm: its metric, or the rule of a composite one."""
    description = {"description": alarm["AlarmDescription"]} if alarm.get("AlarmDescription") else {}
    if not alarm.get("MetricName"):
        return {"alarmRule": alarm.get("AlarmRule", ""), **description}
    metric = {
        "namespace": alarm["Namespace"],
        "name": alarm["MetricName"],
        "dimensions": {one["Name"]: one["Value"] for one in alarm.get("Dimensions") or []},
    }
    statistic = alarm.get("ExtendedStatistic") or alarm.get("Statistic") or "Average"
    measured = {"metric": metric, "period": alarm["Period"], "stat": statistic}
    return {"metrics": [{"id": "m1", "metricStat": measured, "returnData": True}], **description}


def evaluate(alarm: dict[str, Any]) -> None:
    """Give an alarm the state that its data points say, and act when that is another one."""
    now = time.time()
    if not alarm.get("MetricName") or _is_warming_up(alarm, now):
        return
    points = data_points(alarm, now)
    new, reason = state_of(alarm, points)
    old = alarm["StateValue"]
    if new in (None, old):
        return
    alarm.update(StateValue=new, StateReason=reason, StateUpdatedTimestamp=int(now))
    alarm["StateReasonData"] = json.dumps(
        {
            "version": "1.0",
            "queryDate": datetime.fromtimestamp(now, tz=timezone.utc).isoformat(),
            "recentDatapoints": [value for value in points if value is not None],
            "threshold": alarm["Threshold"],
        }
    )
    cloudwatch._record_history(alarm["AlarmName"], old, new, reason)
    cloudwatch._dispatch_alarm_actions(alarm, old, new, reason)
    cloudwatch._evaluate_parent_alarms(alarm)


def _is_warming_up(alarm: dict[str, Any], now: float) -> bool:
    configuration = alarm.get("WarmUpConfiguration") or {}
    minutes = configuration.get("WarmUpPeriodDurationInMinutes", 0)
    if now - alarm["AlarmConfigurationUpdatedTimestamp"] >= minutes * 60:
        return False
    if configuration.get("OnlyStartEvaluatingAfterWarmUpPeriodEnds"):
        return True
    recent = data_points(alarm, now)[-alarm["EvaluationPeriods"] :]
    return None in recent


def data_points(alarm: dict[str, Any], now: float) -> list[float | None]:
    """The statistic of each period that counts, oldest first; None where nothing was measured.

    The period that has just begun counts once it has data.
    """
    dimensions = {one["Name"]: one["Value"] for one in alarm.get("Dimensions") or []}
    series = (alarm["Namespace"], alarm["MetricName"], cloudwatch._dims_key(dimensions))
    by_period: dict[int, list[Any]] = defaultdict(list)
    period_s = alarm["Period"]
    for point in list(cloudwatch._metrics.get(series) or []):
        if point["Timestamp"] <= now and alarm.get("Unit") in (None, "", point["Unit"]):
            by_period[int(point["Timestamp"] // period_s)].append(point)
    current = int(now // period_s)
    last = current if current in by_period else current - 1
    first = last - alarm["EvaluationPeriods"] - EXTRA_PERIODS + 1
    statistic = alarm.get("ExtendedStatistic") or alarm.get("Statistic") or "Average"
    return [
        cloudwatch._stat_value(cloudwatch._calc_stats(points), statistic, points) if points else None
        for points in (by_period.get(period, []) for period in range(first, last + 1))
    ]


def state_of(alarm: dict[str, Any], points: list[float | None]) -> tuple[str | None, str]:
    """The state of an alarm with these data points, and why; None keeps the state it has.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html: of the evaluated range
    the newest points that exist count; where they are fewer than the evaluation periods, ``TreatMissingData`` decides.
    """
    periods, treatment = alarm["EvaluationPeriods"], alarm.get("TreatMissingData") or "missing"
    needed = alarm.get("DatapointsToAlarm") or periods
    known = [value for value in points if value is not None][-periods:]
    missing = periods - len(known)
    breaches = COMPARISONS[alarm["ComparisonOperator"]]
    breaching = sum(breaches(value, alarm["Threshold"]) for value in known)
    reason = f"{breaching} of the last {len(known)} datapoints were breaching {alarm['Threshold']}, {missing} missing"
    if breaching + (missing if treatment == "breaching" else 0) >= needed:
        return "ALARM", f"Threshold Crossed: {reason}"
    if not known and treatment == "missing":
        return "INSUFFICIENT_DATA", f"Insufficient Data: {missing} datapoints were unknown"
    if missing and known and breaching == len(known) and treatment == "missing":
        return "ALARM", f"Threshold Crossed: {reason}"
    if treatment == "ignore" and breaching == len(known):
        return None, ""
    return "OK", f"Threshold not crossed: {reason}"
