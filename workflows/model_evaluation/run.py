"""Evaluates every model version that devices ran in the last hours, and compares the newest with its champion.

Reads decisions (S3), labels (data source plant), the model registry and the rollouts of the ledger; writes report.html,
summary.txt, metrics.json, evaluation.json, and the verdict on the newest version where the gate of its rollout looks.
Decisions without a label count as missing coverage; no decisions at all is a result, not an error.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path

import evaluation
from evaluation import Result
from toolbox import context, data, groups, report
from toolbox.context import Context
from toolbox.registry import CHAMPION, PREVIOUS, Registry, after
from twinops.aws import verdicts
from twinops.aws.ledger import Ledger
from twinops.errors import TwinopsError

GROUPS_FILE = Path(__file__).with_name("device_groups.yml")


def main() -> int:
    """Exit code 0: evaluated, whatever the verdict; 2: the data could not be read."""
    run = context.load()
    until = run.started
    since = until - timedelta(hours=run.parameters["lookback_h"])
    print(f"decisions from {since:%Y-%m-%d %H:%M} UTC on, from s3://{run.twin['data_bucket']}/decisions/")
    s3 = run.client("s3")
    try:
        store = data.source(run, "plant")
        decisions = data.decisions(s3, run.twin["data_bucket"], since=since)
        labels = data.labels(store, decisions["record_id"])
        print(f"{len(decisions)} decisions of {decisions['device'].nunique()} devices, {len(labels)} labels")
        named = groups.load(GROUPS_FILE)
        result = evaluation.evaluate(decisions, labels, champions=champions(run, until), groups=named)
        rollout = rollout_state(run, result)
        keep_verdict(run, result, until)
    except TwinopsError as error:
        print(f"model_evaluation: {error}", file=sys.stderr)
        return 2

    page = evaluation.page(result, decisions, since=since, until=until, run=run, rollout=rollout)
    report.write(run.output, page, evaluation.numbers(result))
    (run.output / "evaluation.json").write_text(json.dumps(asdict(result), indent=2) + "\n", "utf-8")
    print(page.headline)
    return 0


def champions(run: Context, at: datetime) -> list[str]:
    """Digests of the models that the registry had as champion and as the one before, at a moment."""
    registry = Registry(run.client("s3"), run.twin["models_bucket"], run.parameters["model"])
    state = after(registry.history(), at)
    return [state.versions[state.aliases[alias]].sha256 for alias in (CHAMPION, PREVIOUS) if alias in state.aliases]


def rollout_state(run: Context, result: Result) -> str | None:
    """What the ledger says of the newest rollout of the challenger."""
    if not result.versions:
        return None
    rollouts = Ledger(run.twin["ledger_table"], run.client("dynamodb")).rollouts()
    digest = result.versions[-1].model_sha256
    return next((rollout["state"] for rollout in rollouts if rollout["model_digest"] == digest), None)


def keep_verdict(run: Context, result: Result, at: datetime) -> None:
    """Say what was found about the challenger where the gate of its rollout looks (docs/releases.md)."""
    if result.comparison is None or result.champion is None:
        return
    said = {
        "verdict": result.comparison.verdict,
        "reasons": list(result.comparison.reasons),
        "release": result.versions[-1].release,
        "champion": result.champion.release,
        "n": result.comparison.n,
        "run_id": run.run_id,
        "at": at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
    }
    verdicts.write(run.client("s3"), run.twin["data_bucket"], result.versions[-1].model_sha256, said)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except context.ContextError as mistake:
        sys.exit(f"model_evaluation: {mistake}")
