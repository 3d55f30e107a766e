"""The report about drift of a fleet: which device, which sensor, since when, and what to do. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from drift_report.fleet_drift import FLEET, DeviceDrift, FleetDrift, distance, table_of
from toolbox import drift_page, drift_text, report
from toolbox.context import Context
from toolbox.registry import Version
from toolbox.report import COLOURS, SOFT, Fact, Figure, Report, Section, State, Table

MOST_DEVICES, MOST_FEATURES = 40, 40
"""Of the map: those that changed most."""
MOST_DRAWN = 2
"""Devices whose distributions are drawn."""
_RED = "#a11d1d"
_MARKS = {"drift": "◆", "constant": "■", "small change": "▲"}
_SAID = {"drift": "drift", "warn": "look at it", "none": "–"}


@dataclass(frozen=True)
class Window:
    """What was compared with what."""

    since: datetime
    until: datetime
    champion: Version
    n_reference: int
    data_version: str
    """Digest of the readings that were compared."""
    seen: pd.DataFrame

    @property
    def is_whole_day(self) -> bool:
        """Whether it is long enough to stand for its day, beside others."""
        return self.until - self.since >= timedelta(days=1)


def without_champion(run: Context) -> Report:
    """The page where no rollout has been completed yet."""
    return Report(
        title="Drift",
        subtitle=f"Environment {run.twin['env']}",
        state="none",
        headline=f"{run.parameters['model']} has no champion yet",
        action="Nothing. Drift is measured against the training data of the champion: the first completed rollout "
        "names it.",
        footer=(f"Run {run.run_id}, commit {run.git_sha[:12]}.",),
    )


def page(result: FleetDrift, reference: pa.Table, trend: pd.DataFrame, window: Window, run: Context) -> Report:
    """The report. ``trend``: the model's rows of ``drift_summary`` of the last days, this one included."""
    state, headline, action = _answer(result, run)
    silent = _silent(result, trend)
    return Report(
        title="Drift",
        subtitle=(
            f"Environment {run.twin['env']} · {window.since:%d %B %Y %H:%M} to {window.until:%d %B %Y %H:%M} UTC "
            f"· against the training data of {window.champion.name}"
        ),
        state=state,
        headline=headline,
        action=action,
        reasons=[*_reasons(result), *_silence(silent)],
        facts=_facts(result, window),
        sections=[*_sections(result, reference, trend, window)],
        footer=(
            f"Reference: the {window.n_reference:,} rows that {window.champion.name} was fitted on, data version "
            f"{window.champion.data_version[:12]}. Compared: data version {window.data_version[:12]}. A record counts "
            "once for a device (twice, where its sensor changed in between), and once for the fleet, as one of its "
            "devices read it. Readings are the historian's; shares of missing ones are what devices report.",
            "All devices and features together have a finding by chance in at most one of a hundred reports. "
            "docs/toolbox.md defines every number. Drift says that the data is another, not that the model is worse.",
            *(() if window.is_whole_day else ("Less than a day: not kept in drift_summary, nor beside other days.",)),
            f"Run {run.run_id}, commit {run.git_sha[:12]}.",
        ),
    )


def _answer(result: FleetDrift, run: Context) -> tuple[State, str, str]:
    if not result.devices:
        return (
            "none",
            f"No decisions in the last {run.parameters['lookback_h']:g} h",
            "If devices should be running, look at them with `ansible-playbook playbooks/status.yml -l <environment>`.",
        )
    drifting, warning = result.having("drift"), result.having("warn")
    if drifting:
        return (
            "watch",
            f"{_named(drifting)} {'reads' if len(drifting) == 1 else 'read'} other data than the model was trained on",
            f"Look at {_sensors(drifting[0])}: a unit, a cable, a stuck sensor? Where several devices drift alike, it "
            "is the plant. Then see in the report of `model_evaluation` whether decisions got worse: only that is a "
            "reason to retrain.",
        )
    if warning:
        return (
            "watch",
            f"No drift, but {_named(warning)} should be looked at",
            f"Look at {_sensors(warning[0])}: a sensor that stands still or has gaps usually is a cable.",
        )
    if result.fleet and result.fleet.verdict != "none":
        return (
            "watch",
            "Every device alone looks as before, all together do not",
            "Wait for tomorrow's report: the change is too small to be seen on one device.",
        )
    if not any(one.found for one in result.devices):
        return "none", "Too few records to judge any device", "Wait for tomorrow's report."
    return "ok", f"{_count(len(result.devices), 'device')}: the data is as in training", "Nothing."


def _named(devices: Sequence[DeviceDrift]) -> str:
    if len(devices) > 3:
        return f"{len(devices)} devices ({', '.join(one.device for one in devices[:2])}, …)"
    return " and ".join(", ".join(one.device for one in devices).rsplit(", ", 1))


def _sensors(one: DeviceDrift) -> str:
    names = one.suspects
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(f'`{name}`' for name in names[:3])}{more} of `{one.device}`"


def _reasons(result: FleetDrift) -> Iterator[str]:
    for one in [*result.having("drift"), *result.having("warn")][:6]:
        for sentence in list(drift_text.sentences(one.found))[:2] if one.found else ():
            yield f"{one.device}: {sentence}"
        for name, share in one.gaps.items():
            yield f"{one.device}: {name}: {share:.1%} of the readings are missing, by its own count"


def _silent(result: FleetDrift, trend: pd.DataFrame) -> list[str]:
    """Devices that earlier days know and this one does not."""
    return sorted(set(trend["device"]) - {FLEET} - {one.device for one in result.devices})


def _silence(devices: Sequence[str]) -> list[str]:
    if not devices:
        return []
    names = f"{', '.join(devices[:5])}{' …' if len(devices) > 5 else ''}"
    return [f"{names}: no decision in this time, but on an earlier day"]


def _facts(result: FleetDrift, window: Window) -> list[Fact]:
    drifting, warning = len(result.having("drift")), len(result.having("warn"))
    share = result.n_known / result.n_seen if result.n_seen else 0.0
    return [
        Fact("Devices that drift", f"{drifting} of {len(result.devices)}", f"{warning} more to look at"),
        Fact("Fleet", _SAID[result.fleet.verdict] if result.fleet else "–", "all devices together"),
        Fact("Records compared", f"{result.n_known:,}", f"the historian knows {share:.1%} of those decided"),
        Fact("Reference", window.champion.name, f"{window.n_reference:,} training rows"),
    ]


def _sections(result: FleetDrift, reference: pa.Table, trend: pd.DataFrame, window: Window) -> Iterator[Section]:
    judged = [one for one in result.devices if one.found]
    if judged:
        yield Section("Where it changed", figures=[_map(judged)])
    for one in [*result.having("drift"), *result.having("warn")][:MOST_DRAWN]:
        if one.found and (shown := [f for f in one.found.features if f.finding][: drift_page.MOST_SHOWN]):
            rows = window.seen[(window.seen["device"] == one.device) & window.seen["is_known"]]
            drawn = drift_page.distributions(shown, reference, table_of(rows, reference.column_names))
            yield Section(f"What {one.device} reads", figures=drawn.figures)
    if trend["day"].nunique() > 1:
        yield Section("By day", figures=[_trend(trend)])
    if result.devices:
        yield Section("Every device", tables=[_device_table(result)])
    if result.fleet:
        yield Section("Every feature of the fleet", tables=[drift_page.every_column(result.fleet)])


def _map(judged: Sequence[DeviceDrift]) -> Figure:
    """A square for each device and feature; findings are marked, not told by colour alone."""
    distances = {one.device: {f.name: distance(f) for f in one.found.features} for one in judged if one.found}
    names = list(next(iter(distances.values())))
    strongest = sorted(names, key=lambda name: -max(one[name] for one in distances.values()))[:MOST_FEATURES]
    columns = [name for name in names if name in strongest]
    rows = sorted(sorted(distances, key=lambda device: -max(distances[device].values()))[:MOST_DEVICES])
    figure, (axis,) = report.plot(height=1.1 + 0.26 * len(rows))
    values = np.array([[distances[device][name] for name in columns] for device in rows])
    axis.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axis.grid(visible=False)
    crowded = len(columns) > 20
    axis.set_xticks(range(len(columns)), columns, fontsize=7 if crowded else 9, rotation=90 if crowded else 0)
    axis.set_yticks(range(len(rows)), rows, fontsize=9)
    axis.xaxis.tick_top()
    _mark(axis, judged, rows, columns)
    some = "; ".join(f"{one.device} {', '.join(one.suspects[:3])}" for one in judged if one.suspects) or "none"
    whole = len(judged) <= MOST_DEVICES and len(names) <= MOST_FEATURES
    caption = (
        "The darker, the fewer values in common with the training data. "
        "◆ drift, ■ stands still, ▲ small change, ○ missing readings."
    )
    return Figure(
        report.svg(figure, f"How far devices' features are from the training data, from 0 to 1. Findings: {some}."),
        caption if whole else f"{caption} The map shows those that changed most.",
    )


def _mark(axis: Any, judged: Sequence[DeviceDrift], rows: Sequence[str], columns: Sequence[str]) -> None:
    for one in judged:
        for name in one.gaps if one.device in rows else ():
            if name in columns:
                axis.annotate("○", (columns.index(name), rows.index(one.device)), ha="center", va="center", color=_RED)
        for feature in one.found.features if one.found and one.device in rows else ():
            if feature.finding and feature.name in columns:
                at = (columns.index(feature.name), rows.index(one.device))
                colour = "white" if distance(feature) > 0.5 else _RED
                axis.annotate(_MARKS[feature.finding], at, ha="center", va="center", color=colour)


def _trend(trend: pd.DataFrame) -> Figure:
    days = sorted(trend["day"].unique())
    fleet = trend[trend["device"] == FLEET]
    groups = sorted(fleet["feature_group"].unique())
    devices = trend[trend["device"] != FLEET]
    drifting = devices[devices["verdict"] == "drift"].groupby("day")["device"].nunique().reindex(days, fill_value=0)
    figure, (upper, lower) = report.plot(height=3.2, rows=2)
    at = np.arange(len(days))
    for index, group in enumerate(groups):
        line = fleet[fleet["feature_group"] == group].set_index("day")["distance"].reindex(days)
        upper.plot(at, line, marker="os^Dv"[index % 5], color=COLOURS[index % len(COLOURS)], label=group)
    upper.set(ylabel="largest D, fleet", ylim=(0, max(0.1, float(fleet["distance"].max()) * 1.2 if len(fleet) else 0)))
    figure.legend(loc="outside upper left", ncols=6)
    lower.yaxis.get_major_locator().set_params(integer=True)
    lower.bar(at, drifting, color=COLOURS[1], width=0.5)
    lower.set(ylabel="devices that drift", ylim=(0, max(1, int(drifting.max())) * 1.2))
    for axis in (upper, lower):
        axis.grid(axis="y")
        axis.set_xlim(-0.6, max(len(days) - 0.4, 6.6))
        step = max(1, len(days) // 8)
        axis.set_xticks(at[::step], [day[5:] for day in days[::step]], fontsize=8, color=SOFT)
    upper.tick_params(labelbottom=False)
    newest = ", ".join(f"{day[5:]} {count}" for day, count in drifting.tail(5).items())
    return Figure(
        report.svg(figure, f"By day, how far the fleet is from the training data, and devices that drift: {newest}."),
        "Above: of each group of features the one that is furthest from the training data, over the whole fleet. "
        "Below: how many devices drifted.",
    )


def _device_table(result: FleetDrift) -> Table:
    rows = []
    for one in result.devices:
        features = one.found.features if one.found else ()
        largest = max(features, key=distance, default=None)
        rows.append(
            (
                one.device,
                _SAID[one.verdict] if one.found else "too few records",
                ", ".join(one.suspects[:4]) + (" …" if len(one.suspects) > 4 else "") or "–",
                "; ".join(filter(None, (feature.unit for feature in features))) or "–",
                f"{largest.name} {distance(largest):.3f}" if largest else "–",
                f"{max(one.gaps.values()):.1%}" if one.gaps else "–",
                f"{one.n_records:,}",
                one.release,
            )
        )
    columns = ("Device", "Finding", "Features", "Explanation", "Largest D", "Missing", "Records", "Release")
    return Table(columns, rows, "Missing: the largest share of a feature's readings.", text_columns=(1, 2, 3, 4, 7))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
