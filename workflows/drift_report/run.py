"""Compares what the sensors of each device read with the data that the champion was trained on.

Reads decisions (S3), readings (data source plant), what devices report of missing readings (S3, facts/), the model
registry and the training data; writes report.html, summary.txt, metrics.json, drift.json, the rows of the day in the
table drift_summary, and the version of the data that was compared. Drift warns people: it never fails the run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from drift_report import fleet_drift, fleet_drift_page
from drift_report.fleet_drift import FleetDrift
from drift_report.fleet_drift_page import Window
from toolbox import context, data, datasets, drift, fleet, groups, policy, readings, report, training_data
from toolbox.context import Context
from toolbox.registry import Registry, Version
from twinops.errors import TwinopsError

GROUPS_FILE = Path(__file__).with_name("feature_groups.yml")
SUMMARY = "drift_summary"
MOST_READINGS = 1_000_000
"""No device counts more readings of a feature (it keeps a thousand): who says so is not believed."""


def main() -> int:
    """Exit code 0: compared, whatever was found; 2: the data could not be read or written."""
    run = context.load()
    try:
        return report_drift(run)
    except TwinopsError as error:
        print(f"drift_report: {error}", file=sys.stderr)
        return 2


def report_drift(run: Context) -> int:
    """The whole run. Raises TwinopsError where data cannot be read or written."""
    until = run.started
    since = until - timedelta(hours=run.parameters["lookback_h"])
    champion = Registry(run.client("s3"), run.twin["models_bucket"], run.parameters["model"]).champion(until)
    if champion is None:
        _write(run, fleet_drift_page.without_champion(run), {}, {})
        return 0
    training = training_data.of_version(run, champion)
    reference = training_data.fitted(champion, training).select(training["features"])
    print(f"reference: {reference.num_rows} rows that {champion.name} was trained on")

    result, seen = compare(run, reference, since=since, until=until)
    print(
        f"{result.n_decisions} decisions of {len(result.devices)} devices, {result.n_known} readings of their records"
    )
    named = groups.load(GROUPS_FILE)
    rows = fleet_drift.summary(result, named, data_version=champion.data_version)
    version = register(run, seen)
    window = Window(since, until, champion, reference.num_rows, version.sha256, seen)
    day = until.date().isoformat()
    trend = keep_summary(run, rows, day=day) if window.is_whole_day else rows.assign(day=day)
    page = fleet_drift_page.page(result, reference, trend, window, run)
    _write(run, page, fleet_drift.numbers(result, rows), as_json(result, champion, version))
    print(f"{result.verdict}: {page.headline}")
    return 0


def compare(run: Context, reference: pa.Table, *, since: datetime, until: datetime) -> tuple[FleetDrift, pd.DataFrame]:
    """What was found, and the readings that it was found in."""
    s3, bucket, features = run.client("s3"), run.twin["data_bucket"], reference.column_names
    decisions = data.decisions(s3, bucket, since=since, until=until)
    known = data.readings(data.source(run, "plant"), decisions["record_id"], features)
    mine = known["device"].isin({*decisions["device"], fleet_drift.FLEET})
    seen = readings.as_seen(decisions, known[mine], features)
    gaps = reported_gaps(s3, bucket, features, since=since)
    limits = policy.load(drift.Policy, drift.POLICY_FILE)
    return fleet_drift.judge(seen, reference, gaps, limits, n_decisions=len(decisions)), seen


def reported_gaps(
    s3: Any, bucket: str, features: list[str], *, since: datetime
) -> dict[str, dict[str, tuple[int, int]]]:
    """device -> feature -> (missing, readings), as devices report them of their last thousand records since a moment.

    Nobody decides on a record that lacks a reading, so decisions do not show it. What a device writes is not trusted to
    be complete, or to be numbers that can be: one that reports nothing of the kind, or of an earlier release, is left
    out, and so is a feature with impossible counts.

    :raises FleetError: the bucket cannot be read
    """
    heard = fleet.latest(s3, bucket)
    counted = {device: _gaps(one.facts, features, since) for device, one in heard.items()}
    return {device: gaps for device, gaps in counted.items() if gaps}


def _gaps(facts: Mapping[str, Any], features: list[str], since: datetime) -> dict[str, tuple[int, int]]:
    try:
        counts = facts["readings"]
        if datetime.fromisoformat(counts["until"].replace("Z", "+00:00")) < since:
            return {}
        of = counts["features"]
        counted = {name: (int(of[name]["missing"]), int(of[name]["count"])) for name in features}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return {}
    return {
        name: (missing, missing + count)
        for name, (missing, count) in counted.items()
        if min(missing, count) >= 0 and missing + count <= MOST_READINGS
    }


def keep_summary(run: Context, rows: pd.DataFrame, *, day: str) -> pd.DataFrame:
    """Replace the model's rows of ``day``, and return its rows of all days that the trend shows, with their ``day``."""
    name = run.parameters["summary_source"]
    if name:
        store: data.Source = data.source(run, name)
    else:
        store = data.S3(run.client("s3"), bucket=run.twin["data_bucket"], prefix="summaries/")
    model = run.parameters["model"]
    store.replace(SUMMARY, {"day": day, "model": model}, rows)
    first = datetime.fromisoformat(day) - timedelta(days=run.parameters["trend_days"])
    columns = ["day", "model", *fleet_drift.SUMMARY_COLUMNS]
    kept = store.read(SUMMARY, columns, within=("day", first.date().isoformat(), day))
    return kept[kept["model"] == model]


def register(run: Context, seen: pd.DataFrame) -> datasets.Version:
    """Keep the version of the data that was compared."""
    table = pa.Table.from_pandas(seen, preserve_index=False).replace_schema_metadata()
    version = datasets.version("field-readings", table, time_column="recorded_at")
    datasets.register(run.client("s3"), run.twin["data_bucket"], version)
    return version


def as_json(result: FleetDrift, champion: Version, version: datasets.Version) -> dict[str, Any]:
    """``drift.json``: the numbers of the report, for who computes with them."""
    return {
        "verdict": result.verdict,
        "champion": champion.name,
        "reference_data_version": champion.data_version,
        "field_data_version": version.sha256,
        "n_decisions": result.n_decisions,
        "n_known": result.n_known,
        "fleet": drift.as_json(result.fleet) if result.fleet else None,
        "devices": {
            one.device: {
                "verdict": one.verdict,
                "release": one.release,
                "n_records": one.n_records,
                "missing_reported": dict(one.gaps),
                "drift": drift.as_json(one.found) if one.found else None,
            }
            for one in result.devices
        },
    }


def _write(run: Context, page: report.Report, metrics: Mapping[str, float], result: Mapping[str, Any]) -> None:
    report.write(run.output, page, metrics)
    (run.output / "drift.json").write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", "utf-8")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except context.ContextError as mistake:
        sys.exit(f"drift_report: {mistake}")
