"""What the report of a month says. Pure: a :class:`month.Month` in, a :class:`toolbox.report.Report` out.

No clock and no random id: the same month, the same words.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone

import numpy as np
from monthly_report.month import Day, Month
from toolbox import chart, metrics
from toolbox.chart import Chart, Interval
from toolbox.metrics import Quality
from toolbox.report import COLOURS, Fact, Figure, Report, Section, State, Table

MOST_COLUMNS = 8
"""Devices side by side in a table; of more only usage.csv has each day."""

Confusion = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Totals:
    """Sums over days."""

    decisions: int
    alarms: int
    counted: int
    confusion: Confusion

    @classmethod
    def of(cls, days: Iterable[Day]) -> Totals:
        some = list(days)
        cells = np.array([one.confusion for one in some], dtype=np.int64).reshape(-1, 2, 2).sum(axis=0).tolist()
        return cls(
            sum(one.decisions for one in some),
            sum(one.alarms for one in some),
            sum(one.counted for one in some),
            ((cells[0][0], cells[0][1]), (cells[1][0], cells[1][1])),
        )

    @property
    def labelled(self) -> int:
        return sum(map(sum, self.confusion))

    @property
    def coverage(self) -> float | None:
        """Share of the different records that have a label."""
        return self.labelled / self.counted if self.counted else None

    @property
    def quality(self) -> Quality | None:
        """None without a label."""
        if not self.labelled:
            return None
        return metrics.quality_of(metrics.score_counts(np.array(self.confusion), (0, 1)))

    @property
    def recall(self) -> Interval | None:
        """Of the real anomalies: the share that raised an alarm."""
        (_, _), (missed, hits) = self.confusion
        return _share(hits, hits + missed)

    @property
    def precision(self) -> Interval | None:
        """Of the alarms about labelled records: the share that was right."""
        (_, false), (_, hits) = self.confusion
        return _share(hits, hits + false)

    @property
    def false_alarm_rate(self) -> Interval | None:
        """Of the normal records: the share that raised an alarm all the same."""
        (right, false), (_, _) = self.confusion
        return _share(false, right + false)


def _share(part: int, whole: int) -> Interval | None:
    interval = metrics.exact_interval(part, whole)
    return Interval(part / whole, *interval) if interval else None


@dataclass(frozen=True)
class Answer:
    """The first screen: is the feature doing its job, and if not, what happens next."""

    state: State
    headline: str
    action: str


def answer(month: Month) -> Answer:
    """What the customer wants to know first."""
    total = Totals.of(month.days)
    return _about_use(month, total) or _about_quality(month, total)


def _about_use(month: Month, total: Totals) -> Answer | None:
    """Where devices did not decide, nothing else matters."""
    name, when = month.feature_title, _title(month)
    if not month.devices:
        return Answer("none", f"No device of yours had {name} in {when}", "Tell us if that is a mistake.")
    if not total.decisions:
        return Answer(
            "act",
            f"{name}: no device decided anything in {when}",
            "Check that the devices have power and network. Their decisions are kept on them and follow later.",
        )
    quiet = [one.device for one in month.silences if not one.until]
    if not quiet:
        return None
    return Answer(
        "act",
        f"{len(quiet)} of {_count(len({one[0] for one in month.devices}), 'device')} stopped deciding in {when}",
        f"Check power and network of {_list(quiet)}. What they decided meanwhile follows later.",
    )


def _about_quality(month: Month, total: Totals) -> Answer:
    name, when = month.feature_title, _title(month)
    broken, doubtful = _against_agreed(month, total)
    if broken:
        return Answer(
            "act",
            f"{name} did not do what was agreed in {when}: {broken[0]}",
            "Nothing on your devices. A better model has to be released; until then inspect more than the alarms.",
        )
    if total.recall is None:
        return Answer(
            "none",
            f"{name} ran in {when}; how well it did nobody can say yet",
            "Have some records inspected, alarms and others, and store the results with your data: quality is "
            "measured on real anomalies.",
        )
    if doubtful:
        return Answer(
            "watch",
            f"{name} may have done less than agreed in {when}: {doubtful[0]}",
            "Nothing yet: with so few inspected anomalies it may be bad luck. Have more records inspected.",
        )
    if month.silences:
        return Answer(
            "watch",
            f"{name} did its job in {when}, {_silent(month)}",
            f"Look at power and network of {_list(one.device for one in month.silences)}: nothing was decided then.",
        )
    done = "did what was agreed" if _promises(month) else "ran on all your devices"
    return Answer("ok", f"{name} {done} in {when}", "Nothing.")


def _silent(month: Month) -> str:
    """How often, as a customer would say it."""
    number = len(month.silences)
    return f"but {'one device was silent once' if number == 1 else f'devices were silent {number} times'}"


def _promises(month: Month) -> list[str]:
    return [name for name in ("least_recall", "most_false_alarm_rate") if month.agreed[name] is not None]


def _against_agreed(month: Month, total: Totals) -> tuple[list[str], list[str]]:
    """(what was certainly not kept, what looks as if it was not)."""
    broken, doubtful = [], []
    least, most = month.agreed["least_recall"], month.agreed["most_false_alarm_rate"]
    recall, false = total.recall, total.false_alarm_rate
    if least is not None and recall and recall.value < least:
        text = "{} of the anomalies found instead of {}".format(*_apart(recall.value, least))
        (broken if recall.high < least else doubtful).append(text)
    if most is not None and false and false.value > most:
        text = "{} false alarms instead of {}".format(*_apart(false.value, most))
        (broken if false.low > most else doubtful).append(text)
    return broken, doubtful


def report(month: Month) -> Report:
    """The report of a month."""
    said, total = answer(month), Totals.of(month.days)
    sections = (_usage, _decisions, _quality, _incidents, _day_by_day) if month.devices else ()
    revision = f" · revision {month.revision}" if month.revision > 1 else ""
    so_far = "" if month.is_over else " · the month is not over, these are the numbers so far"
    return Report(
        title=f"{month.feature_title}: {_title(month)}",
        subtitle=f"{month.customer_title} · as known on {_moment(month.as_of)} UTC{revision}{so_far}",
        state=said.state,
        headline=said.headline,
        action=said.action,
        reasons=_reasons(month, total),
        facts=_facts(month, total),
        sections=[section(month) for section in sections],
        footer=_footer(month),
    )


def _title(month: Month) -> str:
    return f"{_first_day(month):%B %Y}"


def _first_day(month: Month) -> date:
    return datetime.strptime(month.month, "%Y-%m").replace(tzinfo=timezone.utc).date()


def _reasons(month: Month, total: Totals) -> list[str]:
    if not total.decisions:
        return []
    reasons = [
        f"{_count(_active(month), 'device')} judged {total.decisions:,} records and raised "
        f"{_count(total.alarms, 'alarm')}."
    ]
    (_, false), (missed, hits) = total.confusion
    if total.recall:
        reasons.append(
            f"Of {_count(hits + missed, 'real anomaly', 'real anomalies')} among the inspected records {hits:,} raised "
            f"an alarm: {_percent(total.recall.value)} ({_between(total.recall)})"
            f"{_agreed(month, 'least_recall', 'at least')}."
        )
    if total.false_alarm_rate:
        reasons.append(
            f"Of the normal ones {_percent(total.false_alarm_rate.value)} raised a false alarm, {false:,} in all "
            f"({_between(total.false_alarm_rate)}){_agreed(month, 'most_false_alarm_rate', 'at most')}."
        )
    stopped = [one for one in month.incidents if one.kind == "rollout"]
    if stopped:
        reasons.append(
            f"{_count(len(stopped), 'new release')} did not pass its tests on your devices and was taken back at once."
        )
    return reasons


def _agreed(month: Month, name: str, word: str) -> str:
    value = month.agreed[name]
    return "" if value is None else f"; agreed: {word} {_percent(value)}"


def _facts(month: Month, total: Totals) -> list[Fact]:
    if not total.decisions:
        return []
    found = Fact("Anomalies found", "–", "no label yet")
    if total.recall:
        (_, _), (missed, hits) = total.confusion
        found = Fact("Anomalies found", _percent(total.recall.value), f"{hits:,} of {hits + missed:,} inspected ones")
    return [
        Fact("Records judged", f"{total.decisions:,}", f"on {_count(_active(month), 'device')}"),
        Fact("Alarms", f"{total.alarms:,}", f"{_percent(total.alarms / total.decisions)} of the records"),
        found,
        Fact("Inspected", _percent(total.coverage), f"{total.labelled:,} of {total.counted:,} different records"),
    ]


def _active(month: Month) -> int:
    return len({one.device for one in month.days})


def _usage(month: Month) -> Section:
    days, rows = _calendar(month), _by_device(month)
    drawn = rows if len(rows) <= len(COLOURS) else {"all devices": _sums(rows)}
    text = ", ".join(f"{device} {sum(values):,}" for device, values in drawn.items())
    plot = chart.daily_bars(days, drawn, f"Records judged by day: {text}.")
    table = Table(
        ("Device", "Records", "Days with any", "Fewest in such a day", "Most in a day"),
        [(device, *_use_of(values)) for device, values in rows.items()],
        "Records judged by device.",
    )
    figures = [_figure(plot, "Each bar is a day (UTC).")]
    return Section("Usage", "How many records each device judged.", figures=figures, tables=[table])


def _by_device(month: Month) -> dict[str, list[int]]:
    """Records judged on each day, by device."""
    days = {f"{day}": n for n, day in enumerate(_calendar(month))}
    counts = {device: [0] * len(days) for device in sorted({device for device, _, _ in month.devices})}
    for one in month.days:
        counts[one.device][days[one.day]] += one.decisions
    return counts


def _sums(rows: Mapping[str, Sequence[int]]) -> list[int]:
    return [sum(values) for values in zip(*rows.values(), strict=True)]


def _use_of(values: Sequence[int]) -> tuple[str, ...]:
    some = [value for value in values if value]
    return (f"{sum(values):,}", f"{len(some)}", *(f"{pick(some):,}" if some else "–" for pick in (min, max)))


def _calendar(month: Month) -> list[date]:
    first = _first_day(month)
    return [day for n in range(31) if (day := first + timedelta(days=n)).month == first.month]


def _decisions(month: Month) -> Section:
    days = _calendar(month)
    alarms = [sum(one.alarms for one in month.days if one.day == f"{day}") for day in days]
    plot = chart.daily_bars(days, {"alarms": alarms}, f"Alarms by day, {sum(alarms):,} in all.")
    rows = []
    for device in sorted({one[0] for one in month.devices}):
        mine = [one for one in month.days if one.device == device]
        total = Totals.of(mine)
        releases = ", ".join(dict.fromkeys(one.release for one in sorted(mine, key=lambda one: one.day))) or "–"
        rate = total.alarms / total.decisions if total.decisions else None
        rows.append((device, releases, f"{total.decisions:,}", f"{total.alarms:,}", _percent(rate)))
    table = Table(
        ("Device", "Releases", "Records", "Alarms", "Alarm rate"),
        rows,
        "Releases in the order in which they came.",
        text_columns=(1,),
    )
    figures = [_figure(plot, "Alarms of all devices.")]
    return Section("Decisions", "What the devices called an anomaly.", figures=figures, tables=[table])


def _quality(month: Month) -> Section:
    text = (
        "Measured on the records that were inspected. What is not inspected is not in it, and is stated as coverage. "
        "The fewer there are, the longer the bar in which the true value lies (95 %)."
    )
    if not Totals.of(month.days).labelled:
        return Section("Quality", "No record of this month has a label yet, so its quality is not known.")
    days = _calendar(month)
    by_day = [Totals.of(one for one in month.days if one.day == f"{day}") for day in days]
    series = {
        "anomalies found": [one.recall for one in by_day],
        "alarms that were right": [one.precision for one in by_day],
    }
    described = ", ".join(f"{day.day}: {_percent(one.recall.value)}" for day, one in zip(days, by_day) if one.recall)
    plot = chart.daily_intervals(days, series, month.agreed["least_recall"], f"Anomalies found by day: {described}.")
    releases = sorted({one.release for one in month.days})
    by_release = [
        (release, *_quality_row(Totals.of(one for one in month.days if one.release == release))) for release in releases
    ]
    table = Table(("Release", *_QUALITY_COLUMNS), by_release, "By release, over the month.")
    caption = "Dots are measured shares, bars their 95 % intervals; days without an inspected anomaly are empty."
    return Section("Quality over time", text, figures=[_figure(plot, caption)], tables=[table])


_QUALITY_COLUMNS = ("Inspected", "Coverage", "Anomalies", "Found", "Missed", "False alarms", "Macro-F1 (95 %)")


def _quality_row(total: Totals) -> tuple[str, ...]:
    (_, false), (missed, hits) = total.confusion
    quality = total.quality
    interval = quality.macro_f1_interval if quality else None
    macro = f"{quality.macro_f1:.3f} ({interval[0]:.3f}–{interval[1]:.3f})" if quality and interval else "–"
    counts = (hits + missed, hits, missed, false)
    return (f"{total.labelled:,}", _percent(total.coverage), *(f"{count:,}" for count in counts), macro)


_KINDS = {"run": "Run that failed", "rollout": "Release stopped", "device": "Release not kept", "silence": "Silence"}


def _incidents(month: Month) -> Section:
    rows = [
        (_moment(one.at), _KINDS[one.kind], one.what, f"{one.outcome}{f': {one.why}' if one.why else ''}")
        for one in month.incidents
    ]
    rows += [
        (
            _moment(one.since),
            _KINDS["silence"],
            one.device,
            f"until {_moment(one.until)}" if one.until else "went on at the end of the month",
        )
        for one in month.silences
    ]
    if not rows:
        return Section("Incidents", "None: no run failed, no release was stopped or taken back, no device was silent.")
    longest = _duration(month.agreed["silent_after_min"])
    caption = f"Times are UTC. A silence is {longest} or more in which a device in use decided nothing."
    table = Table(("When", "What", "Where", "Outcome"), sorted(rows), caption, text_columns=(1, 2, 3))
    return Section("Incidents", "Everything that did not go as planned, also what was caught in time.", tables=[table])


def _day_by_day(month: Month) -> Section:
    """The numbers behind the plots."""
    days, rows = _calendar(month), _by_device(month)
    tables = []
    if len(rows) <= MOST_COLUMNS:
        every = _sums(rows)
        daily = [
            (f"{day:%a %d}", *(_number(values[n]) for values in rows.values()), f"{every[n]:,}")
            for n, day in enumerate(days)
        ]
        total = ("Month", *(f"{sum(values):,}" for values in rows.values()), f"{sum(every):,}")
        caption = "Records judged by device and day (UTC). A dash is a day without any."
        tables.append(Table(("Day", *rows, "All"), [*daily, total], caption))
    by_day = [(day, Totals.of(one for one in month.days if one.day == f"{day}")) for day in days]
    quality = [(f"{day:%a %d}", *_quality_row(one)) for day, one in by_day if one.labelled]
    if quality:
        quality.append(("Month", *_quality_row(Totals.of(month.days))))
        tables.append(Table(("Day", *_QUALITY_COLUMNS), quality, "Quality by day (UTC)."))
    text = "" if len(rows) <= MOST_COLUMNS else "What each device judged on each day is in usage.csv."
    return Section("Day by day", text, tables=tables)


def _footer(month: Month) -> list[str]:
    lines = [
        f"Decisions, labels and incidents as they were known on {_moment(month.as_of)} UTC. What came later is not in "
        "this report; a new revision takes it in. "
        + ("" if month.is_over else "The month was not over then, so nothing is frozen yet. "),
        "A record that a sensor's feed brings again counts as usage, but only once per device and release as "
        "evidence of quality. Intervals of shares are exact (Clopper–Pearson), that of macro-F1 is from 2,000 "
        "bootstrap samples with a fixed seed.",
    ]
    if month.left_out:
        others = ", ".join(f"{count:,} of {release}" for release, count in sorted(month.left_out.items()))
        lines.append(
            f"Decisions of releases that are not this feature's, or are not known any more, are left out: {others}."
        )
    digest = hashlib.sha256(month.to_bytes()).hexdigest()
    return [*lines, f"SHA-256 of the numbers behind this report: {digest}"]


def usage_csv(month: Month) -> str:
    """Every device, day and release, for who wants to compute with it."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        ("device", "day", "release", "decisions", "alarms", "counted", "labelled", "hits", "missed", "false_alarms")
    )
    for one in sorted(month.days, key=lambda one: (one.device, one.day, one.release)):
        (right, false), (missed, hits) = one.confusion
        labelled = right + false + missed + hits
        numbers = (one.decisions, one.alarms, one.counted, labelled, hits, missed, false)
        writer.writerow((one.device, one.day, one.release, *numbers))
    return buffer.getvalue()


def overview(reports: Sequence[tuple[str, Report]], feature: str, month: str) -> Report:
    """Where several customers were reported on: for the engineers, who send each his own."""
    order: dict[State, int] = {"act": 0, "watch": 1, "none": 2, "ok": 3}
    worst: State = min((one.state for _, one in reports), key=order.__getitem__)
    sorted_reports = sorted(reports, key=lambda pair: (order[pair[1].state], pair[0]))
    open_ones = [name for name, one in sorted_reports if one.state in ("act", "watch")]
    action = f"Read the reports of {_list(open_ones)} first." if open_ones else "Send each customer his report."
    rows = [(name, one.headline, f"{name}/report.html, {name}/report.pdf") for name, one in sorted_reports]
    return Report(
        title=f"Monthly reports: {feature}, {month}",
        subtitle=f"{_count(len(reports), 'customer')}; this page is for us, each customer gets his own",
        state=worst,
        headline=f"{sorted_reports[0][1].headline}" if open_ones else "Every customer's report is ready",
        action=action,
        sections=[
            Section(
                "Every customer",
                tables=[
                    Table(("Customer", "Says", "Files beside this page"), rows, "Worst first.", text_columns=(1, 2))
                ],
            )
        ],
    )


def _figure(plot: Chart, caption: str) -> Figure:
    return Figure(chart.svg(plot), caption, plot)


def _number(value: int) -> str:
    return f"{value:,}" if value else "–"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _apart(one: float, other: float) -> tuple[str, str]:
    """Two shares with as many digits as it takes to tell them apart, at most four."""
    for digits in range(1, 4):
        if f"{one:.{digits}%}" != f"{other:.{digits}%}":
            return f"{one:.{digits}%}", f"{other:.{digits}%}"
    return f"{one:.4%}", f"{other:.4%}"


def _between(interval: Interval) -> str:
    return f"{_percent(interval.low)} to {_percent(interval.high)} with 95 % confidence"


def _duration(minutes: int) -> str:
    return _count(minutes // 60, "hour") if minutes % 60 == 0 else _count(minutes, "minute")


def _moment(text: str) -> str:
    return text[:16].replace("T", " ")


def _count(number: int, noun: str, plural: str = "") -> str:
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def _list(names: Iterable[str]) -> str:
    unique = list(dict.fromkeys(names))
    return ", ".join(unique[:6]) + (f" and {len(unique) - 6} more" if len(unique) > 6 else "")
