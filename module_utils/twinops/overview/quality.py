"""Model quality over time: what each evaluation found of the release that most devices ran. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .model import Quality

EVALUATION = "model_evaluation"
METRICS, VERSIONS = "metrics.json", "evaluation.json"


def trend(runs: Iterable[Mapping[str, Any]], results: Mapping[str, Mapping[str, Any]]) -> tuple[Quality, ...]:
    """Oldest first. ``results``: run → file → content; a run without metrics has no point."""
    points = [
        _point(run, results[run["run_id"]])
        for run in runs
        if run["workflow"] == EVALUATION and METRICS in results.get(run["run_id"], {})
    ]
    return tuple(sorted(points, key=lambda point: point.at))


def _point(run: Mapping[str, Any], files: Mapping[str, Any]) -> Quality:
    metrics = files[METRICS]
    return Quality(
        at=run.get("ended_at") or run["claimed_at"],
        run_id=run["run_id"],
        release=_in_use(files.get(VERSIONS) or {}),
        macro_f1=metrics.get("MacroF1"),
        missed_alarm_rate=metrics.get("MissedAlarmRate"),
        false_alarm_rate=metrics.get("FalseAlarmRate"),
        alarm_rate=metrics.get("AlarmRate"),
        label_coverage=metrics.get("LabelCoverage"),
        decisions=metrics.get("Decisions"),
    )


def _in_use(evaluation: Mapping[str, Any]) -> str:
    """The version that most devices ran, the newest of several: the one that the metrics are about."""
    versions = list(evaluation.get("versions") or ())[::-1]
    in_use: Mapping[str, Any] = max(versions, key=lambda version: len(version.get("running_on") or ()), default={})
    return str(in_use.get("release", ""))
