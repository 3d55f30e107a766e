"""What devices read, against what their model was trained on: each device, and the fleet. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import pyarrow as pa
from toolbox import drift, joins, statistics
from toolbox.columns import Feature
from toolbox.drift import Drift, Policy, Verdict
from toolbox.groups import group_of
from toolbox.statistics import NumberDistance

FLEET = "*"
"""Stands for the fleet where rows name devices."""
LEAST_RECORDS = 100
"""A device with fewer is shown, not judged."""

_OF_FLEET = """
select * from seen qualify row_number() over (partition by record_id order by md5(device || ' ' || record_id)) = 1
order by record_id
"""


@dataclass(frozen=True)
class DeviceDrift:
    """One device. ``found`` is None with fewer than :data:`LEAST_RECORDS` records."""

    device: str
    release: str
    """Of its last decision."""
    n_records: int
    found: Drift | None
    gaps: Mapping[str, float]
    """Features of which the device itself reports that readings are missing, and their share."""

    @property
    def verdict(self) -> Verdict:
        verdict = self.found.verdict if self.found else "none"
        return "warn" if self.gaps and verdict == "none" else verdict

    @property
    def furthest(self) -> float:
        """The largest distance of a feature from the training data; 0 for a device that is not judged."""
        return max(map(distance, self.found.features), default=0.0) if self.found else 0.0

    @property
    def suspects(self) -> list[str]:
        """Features with a finding, the worst first."""
        if self.found is None:
            return list(self.gaps)
        order = {"drift": 0, "constant": 1, "small change": 2}
        some = sorted((one for one in self.found.features if one.finding), key=lambda one: order[str(one.finding)])
        return list(dict.fromkeys([*(one.name for one in some), *self.found.missing, *self.gaps]))


@dataclass(frozen=True)
class FleetDrift:
    """All devices, in the order of their names. ``fleet`` is None with fewer than :data:`LEAST_RECORDS` records."""

    devices: tuple[DeviceDrift, ...]
    fleet: Drift | None
    n_decisions: int
    n_known: int
    """Decided records, each once for a device, of which the historian has the readings."""
    n_seen: int

    @property
    def verdict(self) -> Verdict:
        """Of the worst device, or the fleet."""
        verdicts = [one.verdict for one in self.devices] + ([self.fleet.verdict] if self.fleet else [])
        return max(verdicts, key=["none", "warn", "drift"].index, default="none")

    def having(self, verdict: Verdict) -> list[DeviceDrift]:
        """The devices with a verdict, those first that changed most."""
        return sorted((one for one in self.devices if one.verdict == verdict), key=lambda one: -one.furthest)


def judge(
    seen: pd.DataFrame,
    reference: pa.Table,
    gaps: Mapping[str, Mapping[str, tuple[int, int]]],
    limits: Policy,
    *,
    n_decisions: int,
) -> FleetDrift:
    """Compare each device and the fleet with ``reference``, whose columns are the features.

    ``gaps``: device -> feature -> (readings that are missing, readings) as the device itself counts them. All devices
    together have a finding by chance as rarely as one comparison has (``limits.significance``, Bonferroni).
    """
    names = reference.column_names
    devices = sorted({*seen["device"], *gaps})
    shared = replace(limits, significance=limits.significance / (len(devices) + 1))
    known = seen[seen["is_known"]]
    of_device = dict(tuple(known.groupby("device")))
    last = seen.drop_duplicates("device", keep="last").set_index("device")["release"]
    found = [
        DeviceDrift(
            device=device,
            release=str(last.get(device, "–")),
            n_records=len(of_device.get(device, ())),
            found=_compare(reference, of_device.get(device), names, shared, device),
            gaps=_gaps(gaps.get(device, {}), reference.num_rows, shared),
        )
        for device in devices
    ]
    fleet = joins.query(_OF_FLEET, {"seen": known}) if len(known) else known
    return FleetDrift(
        devices=tuple(found),
        fleet=_compare(reference, fleet, names, shared, "the fleet"),
        n_decisions=n_decisions,
        n_known=len(known),
        n_seen=len(seen),
    )


def _compare(
    reference: pa.Table, rows: pd.DataFrame | None, names: Sequence[str], limits: Policy, where: str
) -> Drift | None:
    if rows is None or len(rows) < LEAST_RECORDS:
        return None
    return drift.compare(reference, table_of(rows, names), limits, names=("training data", where))


def table_of(rows: pd.DataFrame, names: Sequence[str]) -> pa.Table:
    """The features of some rows as a table; what is missing is null."""
    return pa.Table.from_pandas(rows[list(names)].astype("float64"), preserve_index=False)


def _gaps(counted: Mapping[str, tuple[int, int]], n_reference: int, limits: Policy) -> dict[str, float]:
    """The share of missing readings of the features where it is no chance, and enough to matter."""
    found = {}
    for name, (missing, whole) in counted.items():
        if not whole or missing / whole < limits.least_missing_change:
            continue
        if statistics.share_p(0, n_reference, missing, whole) * len(counted) < limits.significance:
            found[name] = missing / whole
    return found


def distance(feature: Feature) -> float:
    """Kolmogorov-Smirnov's D; 0 without any value."""
    return feature.distance.ks_d if isinstance(feature.distance, NumberDistance) else 0.0


def summary(result: FleetDrift, groups: Mapping[str, Sequence[str]], *, data_version: str) -> pd.DataFrame:
    """The rows of the table ``drift_summary``, whose key is day and model: one for each device (``*``: the fleet) and
    group of features."""
    compared = [(one.device, one.found, one.gaps, one.n_records) for one in result.devices]
    compared.insert(0, (FLEET, result.fleet, {}, result.n_known))
    rows = []
    for device, found, gaps, n_records in compared:
        by_group: dict[str, list[Feature]] = {}
        for feature in found.features if found else ():
            by_group.setdefault(group_of(feature.name, groups), []).append(feature)
        for group, some in by_group.items():
            drifted = [one.name for one in some if one.finding == "drift"]
            warned = [one.name for one in some if one.finding in ("constant", "small change") or one.name in gaps]
            rows.append(
                {
                    "device": device,
                    "feature_group": group,
                    "verdict": "drift" if drifted else "warn" if warned else "none",
                    "drifted": " ".join(drifted),
                    "distance": round(max(map(distance, some)), 6),
                    "missing_share": round(max((gaps.get(one.name, 0.0) for one in some), default=0.0), 6),
                    "records": n_records,
                    "data_version": data_version,
                }
            )
    return pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS)).astype(_SUMMARY_NUMBERS)


SUMMARY_COLUMNS = {
    "device": "device, * is the fleet",
    "feature_group": "of feature_groups.yml",
    "verdict": "none, warn or drift",
    "drifted": "features that drifted",
    "distance": "largest D of the group",
    "missing_share": "largest share of missing readings",
    "records": "that were compared",
    "data_version": "digest of the data it was trained on",
}


_SUMMARY_NUMBERS = {"distance": "float64", "missing_share": "float64", "records": "int64"}
"""Said also where there is no row: the first summary makes the table."""


def numbers(result: FleetDrift, rows: pd.DataFrame) -> dict[str, float]:
    """The numbers for CloudWatch: for each group of features how far the fleet is off, and how many devices drift."""
    found = {
        "DriftingDevices": len(result.having("drift")),
        "WarningDevices": len(result.having("warn")),
        "RecordsCompared": result.n_known,
    }
    for group, some in rows.groupby("feature_group"):
        of_devices = some[some["device"] != FLEET]
        fleet = some[some["device"] == FLEET]
        if len(fleet):
            found[f"DriftDistance.{group}"] = float(fleet["distance"].iloc[0])
        found[f"DriftingDevices.{group}"] = int((of_devices["verdict"] == "drift").sum())
    return {name: float(value) for name, value in found.items()}
