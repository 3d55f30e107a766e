"""Keeps calls below the rates that AWS documents, so that it never has to throttle us.

A throttled call is not just late: standard retries back off together and fail together, adaptive ones took 2.7 times
as long as the rates allow. So each service has a bucket of tokens here, a little smaller and slower than AWS's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

SHARE = 0.98
"""Of each documented rate, what we take: clocks differ, and others in the account call, too."""

BURST_S = 0.5
"""How many seconds' worth may be called at once. AWS lets more pass; calls overtake each other on their way to it."""

RATES_PER_S: Mapping[str, Mapping[str, float]] = {
    # by service and operation, as botocore names them in its events; "*" is what the others share
    # docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html: "API requests": GetFunction 100, GetPolicy 15,
    # the remainder of the control plane 15 together
    "lambda": {"GetFunction": 100, "Invoke": 1000, "*": 15},
    # docs.aws.amazon.com/AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl.html (the lowest of all regions)
    "cloudwatch-logs": {
        "DescribeLogGroups": 10,
        "CreateLogGroup": 10,
        "DeleteLogGroup": 10,
        "PutRetentionPolicy": 5,
        "*": 10,
    },
    # docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_limits.html
    "cloudwatch": {"PutMetricAlarm": 3, "DescribeAlarms": 9, "DeleteAlarms": 3, "ListTagsForResource": 10, "*": 10},
    # docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html
    "eventbridge": {"*": 50},
    # docs.aws.amazon.com/scheduler/latest/UserGuide/scheduler-quotas.html (the lowest of all regions); groups: 10
    "scheduler": {
        "CreateScheduleGroup": 10,
        "DeleteScheduleGroup": 10,
        "GetScheduleGroup": 10,
        "ListTagsForResource": 10,
        "TagResource": 10,
        "*": 50,
    },
    # docs.aws.amazon.com/ARG/latest/userguide/reference-quotas.html
    "resource-groups-tagging-api": {"GetResources": 15, "*": 5},
    # docs.aws.amazon.com/sns/latest/dg/../general/latest/gr/sns.html
    "sns": {"*": 10, "Publish": 300, "Subscribe": 100},
    # docs.aws.amazon.com/general/latest/gr/sagemaker.html
    "sagemaker": {"*": 10},
}


@dataclass
class Bucket:
    """A token a call; ``rate_per_s`` flow in, at most ``BURST_S`` seconds' worth is kept."""

    rate_per_s: float
    clock: Callable[[], float] = time.monotonic
    _tokens: float = field(init=False)
    _at: float = field(init=False)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._tokens, self._at = self._capacity, self.clock()

    @property
    def _capacity(self) -> float:
        return max(1.0, self.rate_per_s * BURST_S)

    def reserve(self) -> float:
        """Takes a token and says in how many seconds it is there."""
        with self._lock:
            now = self.clock()
            self._tokens = min(self._capacity, self._tokens + (now - self._at) * self.rate_per_s)
            self._at = now
            self._tokens -= 1
            return max(0.0, -self._tokens / self.rate_per_s)


class Pacer:
    """The buckets of one process."""

    def __init__(
        self,
        rates_per_s: Mapping[str, Mapping[str, float]] = RATES_PER_S,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sleep = sleep
        self._buckets = {
            (service, operation): Bucket(rate * SHARE, clock)
            for service, operations in rates_per_s.items()
            for operation, rate in operations.items()
        }

    def wait(self, service: str, operation: str) -> None:
        """Returns when the call may be made."""
        bucket = self._buckets.get((service, operation)) or self._buckets.get((service, "*"))
        pause_s = bucket.reserve() if bucket else 0.0
        if pause_s:
            self._sleep(pause_s)
