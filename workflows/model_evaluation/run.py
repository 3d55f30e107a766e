"""Evaluates every model version that devices ran in the last hours, and compares the newest with its champion.

Reads decisions (S3) and labels (data source plant), writes report.html, summary.txt, metrics.json and evaluation.json.
Decisions without a label count as missing coverage; no decisions at all is a result, not an error.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import datetime, timedelta, timezone

import evaluation
from toolbox import context, data, report


def main() -> int:
    """Exit code 0: evaluated, whatever the verdict; 2: the data could not be read."""
    run = context.load()
    until = datetime.fromisoformat(run.started_at.replace("Z", "+00:00")).astimezone(timezone.utc)
    since = until - timedelta(hours=run.parameters["lookback_h"])
    print(f"decisions from {since:%Y-%m-%d %H:%M} UTC on, from s3://{run.twin['data_bucket']}/decisions/")
    try:
        store = data.source(run, "plant")
        decisions = data.decisions(run.client("s3"), run.twin["data_bucket"], since=since)
        labels = data.labels(store, decisions["record_id"])
    except data.DataError as error:
        print(f"model_evaluation: {error}", file=sys.stderr)
        return 2
    print(f"{len(decisions)} decisions of {decisions['device'].nunique()} devices, {len(labels)} labels")

    result = evaluation.evaluate(decisions, labels)
    page = evaluation.page(result, decisions, since=since, until=until, run=run)
    (run.output / "report.html").write_text(report.html(page), "utf-8")
    (run.output / "summary.txt").write_text(report.text(page), "utf-8")
    (run.output / "evaluation.json").write_text(json.dumps(asdict(result), indent=2) + "\n", "utf-8")
    (run.output / "metrics.json").write_text(json.dumps(evaluation.numbers(result), indent=2) + "\n", "utf-8")
    print(page.headline)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except context.ContextError as mistake:
        sys.exit(f"model_evaluation: {mistake}")
