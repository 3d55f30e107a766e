"""What happened in a month, as plain numbers (:class:`Month`): all that a report says follows from them.

They are frozen when a month is reported for the first time after its end: labels come late, devices upload late, and
nobody keeps when each label came. Pure: decisions, labels and the ledger's items in, numbers out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, time, timedelta, timezone
from typing import Any

import pandas as pd
from toolbox import metrics
from twinops import runs

SCHEMA = 1
_BAD_RUNS = (runs.FAILED, runs.TIMED_OUT, runs.LOST)
_BAD_DEPLOYMENTS = ("rolled_back", "failed", "unreachable")
_UNTOUCHED = "pending"


@dataclass(frozen=True)
class Day:
    """What one release decided on one device on one day (UTC)."""

    device: str
    day: str
    release: str
    decisions: int
    alarms: int
    counted: int
    """Different records: one that the sensor's feed brings again is no more evidence."""
    confusion: tuple[tuple[int, int], tuple[int, int]]
    """Of those with a label: ((true negatives, false alarms), (missed alarms, hits))."""


@dataclass(frozen=True)
class Silence:
    """A time in which a device decided nothing, though it had been in use. ``until`` is empty while it goes on."""

    device: str
    since: str
    until: str


@dataclass(frozen=True)
class Incident:
    """Something that went wrong, or that was kept from going wrong."""

    at: str
    kind: str
    """run, rollout or device."""
    what: str
    outcome: str
    why: str


@dataclass(frozen=True)
class Month:
    """Everything that the report of a month is made from."""

    customer: str
    customer_title: str
    feature: str
    feature_title: str
    month: str
    revision: int
    as_of: str
    """When the labels, the decisions and the ledger were read."""
    is_over: bool
    """Whether the month had ended by then; if not, all numbers are of a part of it."""
    agreed: Mapping[str, Any]
    devices: tuple[tuple[str, str, str], ...]
    """Device, and the days since when and until when (exclusive) it was the customer's in this month."""
    days: tuple[Day, ...]
    silences: tuple[Silence, ...]
    incidents: tuple[Incident, ...]
    left_out: Mapping[str, int]
    """Decisions of releases that are not known as this feature's: how many of each."""
    schema: int = SCHEMA

    def to_bytes(self) -> bytes:
        """As JSON; the same month, the same bytes."""
        return json.dumps(asdict(self), indent=1, sort_keys=True).encode() + b"\n"

    @classmethod
    def from_bytes(cls, body: bytes) -> Month:
        """What :meth:`to_bytes` wrote.

        :raises ValueError: it is something else, or of another version of this workflow
        """
        fields = json.loads(body)
        if not isinstance(fields, dict) or fields.get("schema") != SCHEMA:
            raise ValueError(f"expected a month of schema {SCHEMA}")
        try:
            return cls(
                **{
                    **fields,
                    "devices": tuple(tuple(one) for one in fields["devices"]),
                    "days": tuple(
                        Day(**{**one, "confusion": tuple(tuple(row) for row in one["confusion"])})
                        for one in fields["days"]
                    ),
                    "silences": tuple(Silence(**one) for one in fields["silences"]),
                    "incidents": tuple(Incident(**one) for one in fields["incidents"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"expected a month: {error!r}") from error


@dataclass(frozen=True)
class Span:
    """A month: its first day, and the first day of the next."""

    start: date
    end: date

    @classmethod
    def of(cls, month: str, today: date) -> Span:
        """``month`` as in 2026-10; empty: the one before that of ``today``.

        :raises ValueError: not a month, or one that has not begun
        """
        if month:
            try:
                start = datetime.strptime(month, "%Y-%m").replace(tzinfo=timezone.utc).date()
            except ValueError:
                raise ValueError(f"month: expected one such as 2026-10, got {month!r}") from None
        else:
            start = (today.replace(day=1) - timedelta(days=1)).replace(day=1)
        if start > today:
            raise ValueError(f"month: expected one that has begun, got {month!r}")
        return cls(start, (start + timedelta(days=31)).replace(day=1))

    @property
    def name(self) -> str:
        return f"{self.start:%Y-%m}"

    @property
    def moments(self) -> tuple[datetime, datetime]:
        """Its beginning and its end."""
        return midnight(self.start), midnight(self.end)


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), timezone.utc)


def days_of(decisions: pd.DataFrame, labels: pd.Series[int]) -> list[Day]:
    """The days of one device. Columns of ``decisions``: those of :func:`toolbox.data.decisions`."""
    if decisions.empty:
        return []
    rows = decisions.drop_duplicates("seq").assign(day=lambda frame: frame["recorded_at"].dt.strftime("%Y-%m-%d"))
    counted = metrics.once_per_device(rows).assign(truth=lambda frame: frame["record_id"].map(labels))
    # 0 right without alarm, 1 false alarm, 2 missed alarm, 3 hit
    labelled = counted.dropna(subset="truth").assign(cell=lambda frame: 2 * frame["truth"] + frame["label"])
    use = rows.groupby(["day", "release"])["label"].agg(["size", "sum"])
    evidence = counted.groupby(["day", "release"]).size()
    cells = labelled.groupby(["day", "release", "cell"]).size()
    return [
        Day(
            device=str(rows["device"].iloc[0]),
            day=day,
            release=release,
            decisions=int(decided),
            alarms=int(alarms),
            counted=int(evidence.get((day, release), 0)),
            confusion=(
                (int(cells.get((day, release, 0), 0)), int(cells.get((day, release, 1), 0))),
                (int(cells.get((day, release, 2), 0)), int(cells.get((day, release, 3), 0))),
            ),
        )
        for (day, release), decided, alarms in use.itertuples()
    ]


def silences_of(
    device: str, moments: pd.Series[Any], *, in_use_since: datetime | None, until: datetime, silent_after_min: int
) -> list[Silence]:
    """Times of at least ``silent_after_min`` minutes without a decision, until ``until``.

    ``in_use_since`` is when the device was there to decide; None: from its first decision on.
    """
    times = sorted(moments)
    if in_use_since is not None:
        times = [in_use_since, *(moment for moment in times if moment >= in_use_since)]
    if not times:
        return []
    longest = timedelta(minutes=silent_after_min)
    found = [
        Silence(device, runs.timestamp(one), runs.timestamp(other))
        for one, other in zip(times, times[1:])
        if other - one >= longest
    ]
    if until - times[-1] >= longest:
        found.append(Silence(device, runs.timestamp(times[-1]), ""))
    return found


def in_use_since(deployments: Iterable[Mapping[str, Any]], start: datetime) -> datetime | None:
    """Since when a device had a release, but not before ``start``; None where the ledger knows of none."""
    began = [one["valid_from"] for one in deployments if one["state"] == "committed" and one.get("valid_from")]
    return max(runs.parse(min(began)), start) if began else None


def incidents_of(
    devices: Sequence[str],
    found_runs: Iterable[Mapping[str, Any]],
    rollouts: Iterable[Mapping[str, Any]],
    deployments: Iterable[Mapping[str, Any]],
) -> list[Incident]:
    """What went wrong, oldest first: runs of workflows that failed, rollouts that a gate stopped after they had reached
    one of the ``devices``, and releases that one of these did not keep."""
    found = [
        Incident(run["claimed_at"], "run", f"Workflow {run['workflow']}", run["state"], run.get("reason", ""))
        for run in found_runs
        if run["state"] in _BAD_RUNS
    ]
    for rollout in rollouts:
        reached = {device for device, state in json.loads(rollout["devices"]).items() if state != _UNTOUCHED}
        mine = sorted(reached & set(devices))
        if rollout["state"] == "blocked" and mine:
            what = f"Release {rollout['release']} on {', '.join(mine)}"
            found.append(Incident(rollout["started_at"], "rollout", what, "stopped by its gate", rollout["reason"]))
    for one in deployments:
        if one["device"] in devices and one["state"] in _BAD_DEPLOYMENTS:
            outcome = one["state"].replace("_", " ")
            what = f"Release {one['release']} on {one['device']}"
            when = one.get("valid_from") or one["recorded_at"]  # who is unreachable told no time
            found.append(Incident(when, "device", what, outcome, one.get("reason", "")))
    return sorted(found, key=lambda incident: (incident.at, incident.kind, incident.what))
