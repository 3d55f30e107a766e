"""What shows how workflows are doing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from .base import Json, Resource


@dataclass(frozen=True)
class LogGroup(Resource):
    kind: ClassVar[str] = "log_group"

    retention_days: int


@dataclass(frozen=True)
class Alarm(Resource):
    """A CloudWatch alarm on one metric: ``datapoints`` of the last ``periods`` periods break the threshold.

    ``missing_data``: breaching, notBreaching, ignore or missing. ``actions`` are ARNs to tell, by the state that the
    alarm comes to. ``warm_up_min`` (set, never compared: it only matters once) is for how many minutes a new alarm
    keeps quiet because nothing can be there to see yet.
    """

    kind: ClassVar[str] = "alarm"

    description: str
    namespace: str
    metric: str
    dimensions: Mapping[str, str]
    statistic: str
    period_s: int
    periods: int
    datapoints: int
    comparison: str
    threshold: float
    missing_data: str
    enabled: bool
    actions: Mapping[str, tuple[str, ...]]
    warm_up_min: int = field(default=0, metadata={"owned": False})


@dataclass(frozen=True)
class CompositeAlarm(Resource):
    """A CloudWatch alarm on the states of other alarms, by ``rule``, such as ``ALARM("a") OR ALARM("b")``."""

    kind: ClassVar[str] = "composite_alarm"
    needs: ClassVar[tuple[str, ...]] = ("alarm",)

    description: str
    rule: str
    enabled: bool
    actions: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Dashboard(Resource):
    """A CloudWatch dashboard. AWS's listing of tags does not know dashboards: it is ours by its name."""

    kind: ClassVar[str] = "dashboard"
    taggable: ClassVar[bool] = False

    body: Json
