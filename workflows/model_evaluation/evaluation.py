"""What the evaluation finds, and the report about it. No I/O: decisions and labels in, a :class:`Result` out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pandas as pd
from toolbox import compare, metrics, report
from toolbox.context import Context
from toolbox.groups import group_of
from toolbox.metrics import Quality, Scores
from toolbox.report import COLOURS, SOFT, Fact, Figure, Section, State, Table

VERSION = ["release", "model_sha256"]
BLOCKED = "blocked"
"""A rollout that its gate stopped and took back."""


@dataclass(frozen=True)
class DeviceQuality:
    """One version on one device."""

    device: str
    n_decisions: int
    n_labelled: int
    quality: Quality | None


@dataclass(frozen=True)
class VersionQuality:
    """One version on all devices. A record is counted once per device."""

    release: str
    model_sha256: str
    first_at: str
    n_decisions: int
    n_labelled: int
    alarm_rate: float
    """Share of decisions that raised an alarm; needs no label."""
    running_on: tuple[str, ...]
    """Devices whose last decision was made by this version."""
    quality: Quality | None
    """``None`` without a single label."""
    devices: tuple[DeviceQuality, ...]
    groups: tuple[DeviceQuality, ...] = ()
    """The same by group of devices, with the group's name as ``device``; empty where there are no groups."""

    @property
    def coverage(self) -> float:
        return self.n_labelled / self.n_decisions


@dataclass(frozen=True)
class Result:
    """Every version in the order in which they came; the last is the challenger."""

    versions: tuple[VersionQuality, ...]
    comparison: compare.Comparison | None
    champion_index: int | None = None
    """Which of ``versions`` the challenger was compared with."""

    @property
    def champion(self) -> VersionQuality | None:
        return None if self.champion_index is None else self.versions[self.champion_index]


def evaluate(
    decisions: pd.DataFrame,
    labels: pd.Series[int],
    *,
    champions: Sequence[str] = (),
    groups: Mapping[str, Sequence[str]] | None = None,
) -> Result:
    """Evaluate every version in ``decisions``; ``labels`` is indexed by ``record_id``.

    The newest version is compared with the first of ``champions`` (digests of models, such as the registry's champion
    and the one before) that is another model and was seen; where none was, with the version before it. ``groups``: name
    -> patterns of devices.
    """
    if decisions.empty:
        return Result((), None)
    last = decisions.sort_values("recorded_at").drop_duplicates("device", keep="last").set_index("device")
    counted = metrics.once_per_device(decisions).assign(truth=lambda frame: frame["record_id"].map(labels))
    parts = sorted(counted.groupby(VERSION), key=lambda part: part[1]["recorded_at"].min())
    versions = tuple(_version(release, sha, rows, last, groups or {}) for (release, sha), rows in parts)
    if len(parts) < 2:
        return Result(versions, None)
    champion = _champion([sha for (_, sha), _ in parts], champions)
    paired = compare.pair(parts[champion][1], parts[-1][1], labels)
    return Result(versions, compare.compare(paired["truth"], paired["champion"], paired["challenger"]), champion)


def _champion(models: Sequence[str], champions: Sequence[str]) -> int:
    """Which of the models, in the order in which they came, the last one is compared with."""
    for digest in champions:
        if digest != models[-1] and digest in models:
            return len(models) - 1 - list(models)[::-1].index(digest)
    return len(models) - 2


def _version(
    release: str, sha: str, rows: pd.DataFrame, last: pd.DataFrame, groups: Mapping[str, Sequence[str]]
) -> VersionQuality:
    running = last[(last["release"] == release) & (last["model_sha256"] == sha)]
    named = rows["device"].map({device: group_of(str(device), groups) for device in rows["device"].unique()})
    return VersionQuality(
        release=release,
        model_sha256=sha,
        first_at=rows["recorded_at"].min().isoformat(),
        n_decisions=len(rows),
        n_labelled=int(rows["truth"].count()),
        alarm_rate=float(rows["label"].mean()),
        running_on=tuple(sorted(map(str, running.index))),
        quality=_quality(rows),
        devices=_by(rows, rows["device"]),
        groups=_by(rows, named) if groups else (),
    )


def _by(rows: pd.DataFrame, names: pd.Series[str]) -> tuple[DeviceQuality, ...]:
    return tuple(
        DeviceQuality(str(name), len(some), int(some["truth"].count()), _quality(some))
        for name, some in rows.groupby(names)
    )


def _quality(rows: pd.DataFrame) -> Quality | None:
    labelled = rows.dropna(subset="truth")
    return metrics.evaluate(labelled["truth"].astype("int64"), labelled["label"]) if len(labelled) else None


def numbers(result: Result) -> dict[str, float]:
    """The numbers for CloudWatch: those of the version that most devices run."""
    if not result.versions:
        return {"Decisions": 0}
    version = _in_use(result)
    found = {
        "Decisions": sum(version.n_decisions for version in result.versions),
        "LabelCoverage": version.coverage,
        "AlarmRate": version.alarm_rate,
    }
    if version.quality:
        quality = version.quality
        found |= {
            "MacroF1": quality.macro_f1,
            "Accuracy": quality.accuracy,
            "FalseAlarmRate": quality.false_alarm_rate,
            "MissedAlarmRate": quality.missed_alarm_rate,
        }
    return {name: float(value) for name, value in found.items() if value is not None}


def _in_use(result: Result) -> VersionQuality:
    return max(reversed(result.versions), key=lambda version: len(version.running_on))


@dataclass(frozen=True)
class Answer:
    """Is everything fine, and if not, what do I do."""

    state: State
    headline: str
    action: str
    reasons: Sequence[str] = ()


def answer(result: Result, lookback_h: int, rollout: str | None = None) -> Answer:
    """The first screen's answer. ``rollout``: the state of the challenger's newest rollout, where there was one."""
    if not result.versions:
        return Answer(
            "none",
            f"No decisions in the last {lookback_h} h",
            "If devices should be running, look at them with `ansible-playbook playbooks/status.yml -l <environment>`; "
            "they upload their decisions every few seconds.",
        )
    if result.comparison is None or result.champion is None:
        return _answer_for_one(result.versions[0])
    if rollout == BLOCKED:
        return _answer_for_blocked(result.comparison, result.champion.release, result.versions[-1].release)
    return _answer_for_two(result.comparison, result.champion.release, result.versions[-1])


def _answer_for_two(found: compare.Comparison, champion: str, newest: VersionQuality) -> Answer:
    challenger, running = newest.release, len(newest.running_on)
    if found.verdict == "promote":
        return Answer("ok", f"{challenger} is better than {champion}", "Nothing. Its rollout may go on.", found.reasons)
    if found.verdict == "hold":
        meanwhile = f"{_count(running, 'device')} may keep {challenger} meanwhile" if running else "no device runs it"
        return Answer(
            "watch",
            f"{challenger} is not clearly better than {champion}",
            f"Wait for more labelled records; {meanwhile}.",
            found.reasons,
        )
    if running:
        return Answer(
            "act",
            f"{challenger} is worse than {champion} and runs on {_count(running, 'device')}",
            f"Go back with `ansible-playbook playbooks/rollback.yml -l <environment> -e release={champion}`.",
            found.reasons,
        )
    return Answer(
        "ok",
        f"{challenger} is worse than {champion}, and no device runs it",
        f"Nothing for the devices. Do not release {challenger} again without a change to its model.",
        found.reasons,
    )


def _answer_for_blocked(found: compare.Comparison, champion: str, challenger: str) -> Answer:
    """The gate stopped the rollout and took it back; what devices decided last may be from before that."""
    said = {"block": "worse than", "hold": "not clearly better than", "promote": "better than"}[found.verdict]
    again = {
        "block": f"Do not release {challenger} again without a change to its model.",
        "hold": f"These decisions do not show that {challenger} is worth another try.",
        "promote": f"Read in the ledger why its gate stopped it before you try {challenger} again.",
    }[found.verdict]
    return Answer(
        "watch" if found.verdict == "promote" else "ok",
        f"{challenger} is {said} {champion}, and its rollout was stopped",
        f"Nothing for the devices: they were taken back, and one that did not answer goes back by itself. {again}",
        found.reasons,
    )


def _answer_for_one(version: VersionQuality) -> Answer:
    if version.quality is None:
        return Answer(
            "none",
            f"{version.release} decides, but none of its records has a label yet",
            "Wait for labels in the data store's table `labels`; quality cannot be judged before.",
        )
    return Answer(
        "ok",
        f"{version.release} is the only version; nothing to compare it with",
        "Nothing. The next release is compared with it.",
        (f"macro-F1 {_number(version.quality.macro_f1)}, {_percent(version.quality.missed_alarm_rate)} alarms missed",),
    )


def page(
    result: Result,
    decisions: pd.DataFrame,
    *,
    since: datetime,
    until: datetime,
    run: Context,
    rollout: str | None = None,
) -> report.Report:
    """The report about a result; ``rollout`` as in :func:`answer`."""
    said = answer(result, int(run.parameters["lookback_h"]), rollout)
    sections = [_comparison(result), _versions(result), _groups_of(result), _devices_of(result), _use(decisions)]
    return report.Report(
        title="Model evaluation",
        subtitle=f"Environment {run.twin['env']} · {since:%d %B %Y %H:%M} to {until:%d %B %Y %H:%M} UTC",
        state=said.state,
        headline=said.headline,
        action=said.action,
        reasons=said.reasons,
        facts=_facts(result),
        sections=[section for section in sections if section],
        footer=(
            "A record counts once per device and version. The comparison uses only records that both versions decided "
            "and that have a label, each once. Intervals are 95 %, from 2,000 bootstrap samples with a fixed seed.",
            f"Run {run.run_id}, commit {run.git_sha[:12]}.",
        ),
    )


def _facts(result: Result) -> list[Fact]:
    if not result.versions:
        return []
    version = _in_use(result)
    decided = sum(one.n_decisions for one in result.versions)
    labelled = sum(one.n_labelled for one in result.versions)
    facts = [
        Fact("In use", version.release, f"on {_count(len(version.running_on), 'device')}"),
        Fact("Decisions", f"{decided:,}", f"{_percent(labelled / decided)} have a label"),
    ]
    if version.quality:
        quality = version.quality
        hits, alarms = quality.confusion[1][1], quality.alarms
        facts += [
            Fact(f"Macro-F1 of {version.release}", _number(quality.macro_f1), _interval(quality.macro_f1_interval)),
            Fact("Alarms missed", _percent(quality.missed_alarm_rate), f"{alarms - hits:,} of {alarms:,}"),
        ]
    return facts


def _comparison(result: Result) -> Section | None:
    if result.comparison is None or result.champion is None:
        return None
    found, both = result.comparison, (result.champion, result.versions[-1])
    champion, challenger = (version.release for version in both)
    if champion == challenger:  # retrained under the same name
        champion, challenger = (f"{one.release} ({one.model_sha256[:8]})" for one in both)
    rows = [
        ("Macro-F1", _number(found.champion.macro_f1), _number(found.challenger.macro_f1)),
        ("Accuracy", _percent(found.champion.accuracy), _percent(found.challenger.accuracy)),
        ("Precision of alarms", _percent(found.champion.precision[1]), _percent(found.challenger.precision[1])),
        ("Recall of alarms", _percent(found.champion.recall[1]), _percent(found.challenger.recall[1])),
        ("False alarms", _false_alarms(found.champion), _false_alarms(found.challenger)),
        ("Only this one is right", f"{found.only_champion_right:,}", f"{found.only_challenger_right:,}"),
    ]
    return Section(
        f"{challenger} against {champion}",
        f"Verdict: {found.verdict}. On the {found.n:,} labelled records that both versions decided.",
        figures=[_difference_plot(found, champion, challenger)] if found.macro_f1_difference_interval else [],
        tables=[Table(("", champion, challenger), rows, f"The same {found.n:,} records for both versions.")],
    )


def _false_alarms(scores: Scores) -> str:
    recall = scores.recall[0]
    return _percent(None if recall is None else 1 - recall)


def _difference_plot(found: compare.Comparison, champion: str, challenger: str) -> Figure:
    low, high = found.macro_f1_difference_interval or (0, 0)
    difference = found.macro_f1_difference or 0
    colour = {"promote": COLOURS[2], "hold": SOFT, "block": "#a11d1d"}[found.verdict]
    figure, (axis,) = report.plot(height=1.35)
    axis.axvline(0, color=SOFT, linewidth=1)
    axis.plot([low, high], [0, 0], color=colour, linewidth=5, solid_capstyle="round", alpha=0.45)
    axis.plot([difference], [0], "o", color=colour, markersize=10)
    axis.annotate(f"{difference:+.3f}", (difference, 0), (0, 9), textcoords="offset points", ha="center", weight="bold")
    reach = max(abs(low), abs(high), 0.01) * 1.25
    axis.set(xlim=(-reach, reach), ylim=(-1, 1.4), yticks=[], xlabel="difference of macro-F1")
    for side, text in ((-1, f"← {champion} is better"), (1, f"{challenger} is better →")):
        axis.annotate(text, (side * reach, 1.1), ha="left" if side < 0 else "right", color=SOFT)
    return Figure(
        report.svg(
            figure, f"Macro-F1 of {challenger} minus {champion}: {difference:+.3f}, between {low:+.3f} and {high:+.3f}."
        ),
        "The dot is the measured difference, the bar where it lies with 95 % confidence. "
        "A bar that touches zero decides nothing.",
    )


def _versions(result: Result) -> Section | None:
    if not result.versions:
        return None
    rows = []
    for version in result.versions:
        quality = version.quality
        rows.append(
            (
                version.release,
                _count(len(version.running_on), "device") if version.running_on else "nowhere",
                f"{version.n_decisions:,}",
                _percent(version.coverage),
                _percent(version.alarm_rate),
                *(_row(quality) if quality else ("–",) * 6),
            )
        )
    columns = ("Version", "Runs on", "Decisions", "Labelled", "Alarm rate", "Macro-F1", "Accuracy")
    columns += ("Precision", "Recall", "False alarms", "Missed alarms")
    return Section(
        "Every version",
        "Accuracy is shown because people ask for it; most records are no alarms, so a model that never raises one "
        "would look good in it. Macro-F1 is not fooled.",
        figures=[_quality_plot(result)] if any(version.quality for version in result.versions) else [],
        tables=[Table(columns, rows, "Precision and recall are those of alarms.", text_columns=(1,))],
    )


def _row(quality: Quality) -> tuple[str, ...]:
    rates = (quality.accuracy, quality.precision, quality.recall)
    false_alarms, missed_alarms = quality.confusion[0][1], quality.confusion[1][0]
    return (_number(quality.macro_f1), *map(_percent, rates), f"{false_alarms:,}", f"{missed_alarms:,}")


_SERIES = (
    ("macro_f1", "macro-F1", "o"),
    ("recall", "recall of alarms", "s"),
    ("precision", "precision of alarms", "D"),
)


def _quality_plot(result: Result) -> Figure:
    versions = [version for version in result.versions if version.quality][::-1]
    figure, (axis,) = report.plot(height=0.9 + 0.55 * len(versions))
    for row, version in enumerate(versions):
        quality = version.quality
        if quality and quality.macro_f1_interval:
            axis.plot(quality.macro_f1_interval, [row, row], color=COLOURS[0], linewidth=5, alpha=0.3)
    for index, (field, name, marker) in enumerate(_SERIES):
        values = [getattr(version.quality, field) for version in versions]
        known = [(value, row) for row, value in enumerate(values) if value is not None]
        axis.plot(*zip(*known), marker, color=COLOURS[index], markersize=8 - index, label=name, linestyle="none")
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.6, len(versions) - 0.4), yticks=range(len(versions)))
    axis.set_yticklabels([version.release for version in versions])
    figure.legend(loc="outside upper left", ncols=len(_SERIES), handletextpad=0.1)
    described = "; ".join(f"{one.release} macro-F1 {_number(one.quality.macro_f1)}" for one in versions if one.quality)
    return Figure(
        report.svg(figure, f"Quality by version, from 0 to 1: {described}."),
        "Further right is better. The bar is the 95 % interval of macro-F1. What is not defined has no mark.",
    )


def _devices_of(result: Result) -> Section | None:
    if not result.versions:
        return None
    rows = [_device_row(version, device) for version in result.versions for device in version.devices]
    caption = "A device that differs from its peers with the same version has a problem of its own: look at its sensor."
    return Section("Every device", tables=[Table(("Device", *_COLUMNS), sorted(rows), caption, text_columns=(1,))])


_COLUMNS = ("Version", "Decisions", "Labelled", "Macro-F1", "Alarms missed", "False alarms")


def _device_row(version: VersionQuality, device: DeviceQuality) -> tuple[str, ...]:
    return (
        device.device,
        version.release,
        f"{device.n_decisions:,}",
        f"{device.n_labelled:,}",
        _number(device.quality.macro_f1) if device.quality else "–",
        _percent(device.quality.missed_alarm_rate) if device.quality else "–",
        _percent(device.quality.false_alarm_rate) if device.quality else "–",
    )


def _groups_of(result: Result) -> Section | None:
    rows = [_device_row(version, group) for version in result.versions for group in version.groups]
    if len({row[0] for row in rows}) < 2:
        return None
    caption = "Groups are those of device_groups.yml beside the script."
    return Section("Every group of devices", tables=[Table(("Group", *_COLUMNS), sorted(rows), caption, (1,))])


def _use(decisions: pd.DataFrame) -> Section | None:
    if decisions.empty:
        return None
    span = decisions["recorded_at"].max() - decisions["recorded_at"].min()
    steps = {"1s": "second", "10s": "10 seconds", "1min": "minute", "15min": "15 minutes", "1h": "hour"}
    step = next((step for step in steps if span / pd.Timedelta(step) <= 120), "1h")
    bins = decisions.groupby([pd.Grouper(key="recorded_at", freq=step), "release"]).size().unstack(fill_value=0)
    bins = bins.asfreq(step, fill_value=0)
    releases = decisions.groupby("release")["recorded_at"].min().sort_values().index
    figure, (axis,) = report.plot(height=2.3)
    colours = [COLOURS[index % len(COLOURS)] for index in range(len(releases))]
    axis.stackplot(
        bins.index, [bins[name] for name in releases], labels=releases, colors=colours, step="post", alpha=0.85
    )
    axis.grid(axis="y")
    axis.grid(visible=False, axis="x")
    axis.set(ylim=(0, None), ylabel=f"decisions per {steps[step]}")
    axis.margins(x=0)
    figure.legend(loc="outside upper left", ncols=6)
    total = ", ".join(f"{name} {int(bins[name].sum()):,}" for name in releases)
    return Section(
        "Use",
        figures=[
            Figure(
                report.svg(figure, f"Decisions over time by version: {total}."),
                "Decisions of all devices by the version that made them. Gaps are uploads that have not come yet.",
            )
        ],
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _interval(interval: tuple[float, float] | None) -> str:
    return f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
