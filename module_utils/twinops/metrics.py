"""The metrics that twinops publishes in the namespace of an environment, and that its alarms are on. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RUN_FAILED = "RunFailed"
"""0 or 1 at the end of each run: whether it failed. Published for its workflow, and once more for all together."""
RUN_DURATION = "RunDuration"
"""Seconds."""
BACKUP_TOOK_OVER = "BackupTookOver"
"""1 for each run that the dispatcher could not start and the backup was called for."""

WORKFLOW = "Workflow"
"""The dimension by which runs are told apart."""


def of_run(workflow: str, metrics: Mapping[str, float]) -> list[dict[str, Any]]:
    """``MetricData`` of numbers about one run of a workflow.

    An alarm watches one metric, and a composite alarm a hundred alarms: so whether a run failed is also published
    without its workflow.
    """
    dimensions = [{"Name": WORKFLOW, "Value": workflow}]
    data: list[dict[str, Any]] = [
        {"MetricName": name, "Dimensions": dimensions, "Value": value} for name, value in metrics.items()
    ]
    if RUN_FAILED in metrics:
        data.append({"MetricName": RUN_FAILED, "Value": metrics[RUN_FAILED]})
    return data
