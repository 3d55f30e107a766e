"""Reads what a month's report is made from, and freezes it: an object below ``s3://<reports>/monthly_report/frozen/``
that is written once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import pandas as pd
from botocore.exceptions import BotoCoreError, ClientError
from monthly_report import customers
from monthly_report import month as months
from monthly_report.customers import Customer, Owned
from monthly_report.month import Month, Span
from toolbox import data
from toolbox.context import Context
from toolbox.data import DataError
from twinops import runs
from twinops.aws.ledger import Ledger
from twinops.aws.objects import put_once


@dataclass(frozen=True)
class Asked:
    """What is reported, the same for every customer."""

    span: Span
    revision: int
    everyone: Sequence[Customer]
    """All customers who have the feature."""
    releases: set[str]
    """Those that are the feature."""


@dataclass(frozen=True)
class Known:
    """What is known about the devices of all customers, with the items of the ledger oldest first."""

    owned: Mapping[str, Sequence[Owned]]
    """Customer -> the devices in the month."""
    releases: Sequence[Mapping[str, Any]]
    """Deployments of all time until the end of the month."""
    runs: Sequence[Mapping[str, Any]]
    """Of the month, as are the next two."""
    rollouts: Sequence[Mapping[str, Any]]
    deployments: Sequence[Mapping[str, Any]]


def known(run: Context, asked: Asked) -> Known:
    """Read it.

    :raises CustomerError: a device has two owners at a time
    :raises DataError: the bucket cannot be read
    :raises LedgerError: the ledger cannot be read
    """
    start, end = asked.span.moments
    ledger = Ledger(run.twin["ledger_table"], run.client("dynamodb"))
    bounds = {"since": runs.timestamp(start), "until": runs.timestamp(end - timedelta(microseconds=1))}
    releases = ledger.happened("deployment", since="0", until=bounds["until"])
    devices = {item["device"] for item in releases} | set(data.devices(run.client("s3"), run.twin["data_bucket"]))
    return Known(
        owned=customers.owners(asked.everyone, sorted(devices), asked.span.start, asked.span.end),
        releases=releases,
        runs=ledger.happened("run", **bounds),
        rollouts=ledger.happened("rollout", **bounds),
        deployments=ledger.happened("deployment", **bounds),
    )


def month_of(run: Context, customer: Customer, asked: Asked, read: Callable[[], Known]) -> Month:
    """The month as it was frozen; where it was not and is over, as it is known now, which is frozen.

    ``read``: :func:`known`, which a frozen month does not need.

    :raises CustomerError: a device has two owners at a time
    :raises DataError: a source cannot be read
    :raises LedgerError: the ledger cannot be read
    """
    key = f"monthly_report/frozen/{customer.feature}/{customer.name}/{asked.span.name}/r{asked.revision}.json"
    frozen = _read(run, key)
    if frozen:
        return frozen
    found = collect(run, customer, asked, read())
    if not found.is_over or _freeze(run, key, found):
        return found
    frozen = _read(run, key)  # another run was faster: its numbers are the month's
    if frozen is None:
        raise DataError(f"s3://{run.twin['reports_bucket']}/{key}: expected the month that is there, it cannot be read")
    return frozen


def collect(run: Context, customer: Customer, asked: Asked, of_all: Known) -> Month:
    """The month as it was known when the run started."""
    (_, end), now = asked.span.moments, run.started
    until = min(end, now)
    store, s3, bucket = data.source(run, "plant"), run.client("s3"), run.twin["data_bucket"]
    owned = of_all.owned[customer.name]
    days, silences = [], []
    left_out: dict[str, int] = {}
    for one in owned:
        since, before = months.midnight(one.since), min(months.midnight(one.until), until)
        decisions = data.decisions(s3, bucket, since=since, until=before, device=one.device)
        ours = decisions["release"].isin(asked.releases)
        for release, count in decisions.loc[~ours, "release"].value_counts().items():
            left_out[str(release)] = left_out.get(str(release), 0) + int(count)
        of_device = [item for item in of_all.releases if item["device"] == one.device]
        silences += months.silences_of(
            one.device,
            decisions["recorded_at"],
            in_use_since=months.in_use_since(of_device, since),
            until=before,
            silent_after_min=customer.agreed.silent_after_min,
        )
        mine: pd.DataFrame = decisions[ours]
        days += months.days_of(mine, data.labels(store, mine["record_id"]))
    incidents = months.incidents_of(
        [one.device for one in owned],
        of_all.runs,
        of_all.rollouts,
        of_all.deployments,
    )
    return Month(
        customer=customer.name,
        customer_title=customer.title,
        feature=customer.feature,
        feature_title=customer.feature_title,
        month=asked.span.name,
        revision=asked.revision,
        as_of=runs.timestamp(now),
        is_over=now >= end,
        agreed=asdict(customer.agreed),
        devices=tuple((one.device, one.since.isoformat(), one.until.isoformat()) for one in owned),
        days=tuple(days),
        silences=tuple(silences),
        incidents=tuple(incidents),
        left_out=left_out,
    )


def _read(run: Context, key: str) -> Month | None:
    bucket = run.twin["reports_bucket"]
    try:
        return Month.from_bytes(run.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
    except ClientError as error:
        # S3 answers 403 for a missing object to who may not list the bucket, as the twin may not.
        if error.response["Error"]["Code"] in ("NoSuchKey", "AccessDenied", "403", "404"):
            return None
        raise DataError(f"s3://{bucket}/{key}: expected to read the frozen month: {error}") from error
    except (BotoCoreError, ValueError) as error:
        raise DataError(f"s3://{bucket}/{key}: expected to read the frozen month: {error}") from error


def _freeze(run: Context, key: str, found: Month) -> bool:
    """False where another run has frozen the month meanwhile."""
    bucket = run.twin["reports_bucket"]
    try:
        return put_once(run.client("s3"), bucket, key, found.to_bytes())
    except (BotoCoreError, ClientError) as error:
        raise DataError(f"s3://{bucket}/{key}: expected to freeze the month: {error}") from error
