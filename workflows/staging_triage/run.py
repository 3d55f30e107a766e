"""Finds out what is wrong with a device, or with all of them, from what devices report.

Reads facts (S3), the ledger and the release that the device runs; writes report.html, summary.txt, metrics.json,
findings.json, and an item about each device into the ledger. A device that nobody knows is a result, not an error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import pages
import routines
import triage
from toolbox import context, fleet, report
from toolbox.models import ModelError


def main() -> int:
    """Exit code 0: looked at, whatever was found; 2: what devices report, or the ledger, could not be read."""
    run = context.load()
    now, wanted = datetime.now(timezone.utc), str(run.parameters["device"])
    ledger = fleet.ledger(run)
    try:
        heard = fleet.latest(run.client("s3"), run.twin["data_bucket"])
        print(f"{len(heard)} devices report; looking at {wanted or 'all of them'}")
        rollouts = ledger.rollouts()
        digests = triage.allowed_digests(rollouts)
        devices = [wanted] if wanted else sorted({*heard, *triage.known_devices(rollouts)})
        found = [
            _examine(run, device, heard, now, digests) if device in heard else triage.never_heard(device, now)
            for device in devices
        ]
        deployments = ledger.deployments(wanted) if wanted else []
        page = _page(run, found, heard, deployments, now)
        for one in found:
            _record(run, ledger, one)
    except (fleet.FleetError, fleet.LedgerError) as error:
        print(f"staging_triage: {error}", file=sys.stderr)
        return 2
    said = {one.device: triage.as_items(one.findings) for one in found}
    report.write(run.output, page, triage.numbers(found))
    (run.output / "findings.json").write_text(json.dumps(said, indent=2) + "\n", "utf-8")
    print(page.headline)
    return 0


def _examine(
    run: context.Context, device: str, heard: dict[str, fleet.Heard], now: datetime, digests: frozenset[str]
) -> triage.Triage:
    """First without the device's history, which is read where there is something to date or nobody to compare with."""
    first = triage.examine(device, heard, now, digests=digests)
    if not first.findings and len(first.references) >= triage.FEWEST_PEERS:
        return first
    since = now - timedelta(hours=int(run.parameters["history_h"]))
    past = fleet.history(run.client("s3"), run.twin["data_bucket"], device, since=since)
    return triage.examine(device, heard, now, digests=digests, history=past)


def _page(
    run: context.Context,
    found: Sequence[triage.Triage],
    heard: dict[str, fleet.Heard],
    deployments: Sequence[Mapping[str, Any]],
    now: datetime,
) -> report.Report:
    wanted = str(run.parameters["device"])
    if not wanted:
        return pages.of_all(found, now=now, run=run)
    if wanted not in heard:
        return pages.of_nobody(wanted, sorted(heard), now=now, run=run)
    (one,) = found
    tried, why_not = _try(run, one)
    return pages.of_device(one, tried, why_not, deployments, now=now, run=run)


def _try(run: context.Context, one: triage.Triage) -> tuple[list[routines.Routine], str]:
    """(what was tried, why not more)."""
    facts = one.heard.facts
    version, digest = facts.get("release"), facts.get("release_digest")
    if not isinstance(version, str) or not isinstance(digest, str):
        return [], "It runs no release yet."
    try:
        release = fleet.release(
            run.client("s3"), run.twin["models_bucket"], env=run.twin["env"], version=version, digest=digest
        )
        return routines.run(one.findings, release, facts), ""
    except (fleet.FleetError, ModelError) as error:
        return [], str(error)


def _record(run: context.Context, ledger: Any, one: triage.Triage) -> None:
    ledger.record_triage(
        one.device,
        run.run_id,
        at=run.started_at,
        state=one.state,
        findings=json.dumps(triage.as_items(one.findings)),
        report_key=f"staging_triage/{run.run_id}/report.html",
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except context.ContextError as mistake:
        sys.exit(f"staging_triage: {mistake}")
