"""The report about one device, about all of them, and about one that nobody knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from statistics import median
from typing import TYPE_CHECKING, Any

from toolbox import report
from toolbox.fleet import QUANTILES, Facts, Finding
from toolbox.report import COLOURS, SOFT, Fact, Figure, Section, State, Table

if TYPE_CHECKING:
    from routines import Routine
    from toolbox.context import Context
    from triage import Triage

TITLE = "Triage"
MOST_DEVICES, MOST_ROWS = 50, 20
PLOT_FROM, PLOT_TO = -2.0, 3.0
ALL_WELL = "Nothing."


def of_device(
    one: Triage,
    tried: Sequence[Routine],
    why_not: str,
    deployments: Sequence[Mapping[str, Any]],
    *,
    now: datetime,
    run: Context,
) -> report.Report:
    """``tried``: debug routines with answers; ``why_not``: why there are no more. ``deployments``: the ledger's."""
    facts = one.heard.facts
    sections = [
        *(_finding(finding) for finding in one.findings),
        _tried(tried, why_not),
        _readings(one),
        _system(one, now),
        _deployments(one.device, deployments),
        _log(facts),
    ]
    return report.Report(
        title=f"{TITLE} of {one.device}",
        subtitle=_subtitle(now, run),
        state=_state([one]),
        headline=headline(one),
        action=one.findings[0].action if one.findings else ALL_WELL,
        reasons=[finding.title for finding in one.findings[1:]],
        facts=_facts(one),
        sections=[section for section in sections if section],
        footer=_footer(run, f"Compared with {one.compared_with}."),
    )


def of_all(found: Sequence[Triage], *, now: datetime, run: Context) -> report.Report:
    """The devices that need something first, then the others."""
    ill = sorted((one for one in found if one.findings), key=lambda one: (one.state != "act", one.device))
    if not found:
        text, action = "No device has reported within a month", "Enrol devices: `ansible-playbook playbooks/edge.yml`."
    elif not ill:
        text, action = f"All {len(found)} devices are well", ALL_WELL
    else:
        text = f"{len(ill)} of {len(found)} devices need a look"
        action = f"Begin with {ill[0].device}: {ill[0].findings[0].action}"
    silent = sum(one.is_silent for one in found)
    return report.Report(
        title=f"{TITLE} of all devices",
        subtitle=_subtitle(now, run),
        state=_state(found) if found else "none",
        headline=text,
        action=action,
        reasons=[headline(one) for one in ill[:MOST_ROWS]],
        facts=[
            Fact("Devices", str(len(found)), "reported within a month"),
            Fact("Need a look", str(len(ill)), f"{sum(one.state == 'act' for one in ill)} of them at once"),
            Fact("Silent", str(silent)),
        ],
        sections=[_overview(found, now), *(_of_one(one) for one in ill[:MOST_DEVICES])] if found else [],
        footer=_footer(run, "One device in depth: start this workflow with the parameter device."),
    )


def of_nobody(device: str, known: Sequence[str], *, now: datetime, run: Context) -> report.Report:
    """About a device that has not reported within a month."""
    return report.Report(
        title=f"{TITLE} of {device}",
        subtitle=_subtitle(now, run),
        state="none",
        headline=f"{device} has never reported, or not for a month",
        action="Is the name right? If so, enrol it (`ansible-playbook playbooks/edge.yml -l <device>`), or look at its "
        "network: it reports by itself a minute after it was switched on.",
        reasons=[f"devices that report: {', '.join(known[:MOST_ROWS]) or 'none'}"],
        footer=_footer(run),
    )


def headline(one: Triage) -> str:
    """The worst about a device."""
    if not one.findings:
        return f"{one.device} is well"
    title = one.findings[0].title
    return f"{one.device}: {title[0].lower() + title[1:] if title.startswith('It') else title}"


def _state(found: Sequence[Triage]) -> State:
    states = {one.state for one in found}
    return "act" if "act" in states else "watch" if "watch" in states else "ok"


def _subtitle(now: datetime, run: Context) -> str:
    return f"Environment {run.twin['env']} · {now:%d %B %Y %H:%M} UTC"


def _footer(run: Context, *lines: str) -> tuple[str, ...]:
    told = "What devices report is in docs/interfaces.md, what is looked for in docs/workflows.md."
    return (*lines, told, f"Run {run.run_id}, commit {run.git_sha[:12]}.")


def _facts(one: Triage) -> list[Fact]:
    facts = one.heard.facts
    health = _part(facts, "health")
    readings = _part(facts, "readings")
    records, alarms = _count(readings, "records"), _count(readings, "alarms")
    share = f"{alarms / records:.1%}" if records else "–"
    return [
        Fact("Runs", _text(facts, "release") or "–", f"service {_text(health, 'status') or 'does not answer'}"),
        Fact("Last report", f"{one.heard.at:%H:%M:%S}", f"{one.heard.at:%d %B %Y}, UTC"),
        Fact("Alarms", share, f"of the last {records:,} records"),
        Fact("Waiting", f"{_count(health, 'spool_depth'):,}", "decisions not yet uploaded"),
    ]


# ---- sections


def _finding(finding: Finding) -> Section:
    return Section(finding.title, f"What to do: {finding.action}", points=finding.evidence)


def _of_one(one: Triage) -> Section:
    points = [
        f"{finding.title}: {'; '.join(finding.evidence)}. What to do: {finding.action}" for finding in one.findings
    ]
    return Section(one.device, points=points)


def _tried(tried: Sequence[Routine], why_not: str) -> Section | None:
    if not tried and not why_not:
        return None
    points = [f"{routine.question} {routine.answer}" for routine in tried]
    points += [f"Not tried: {why_not}"] if why_not else []
    tables = [Table(routine.columns, routine.rows[:MOST_ROWS], routine.question) for routine in tried if routine.rows]
    return Section("What was tried", "On the twin, with the release as it was published.", points=points, tables=tables)


def _readings(one: Triage) -> Section | None:
    features = _part(_part(one.heard.facts, "readings"), "features")
    named = [(str(name), feature) for name, feature in features.items() if isinstance(feature, Mapping)]
    if not named:
        return None
    usual = {name: _usual(one.references, name) for name, _ in named}
    rows = [
        (
            name,
            *(_shown(feature.get(quantile)) for quantile in ("p05", "p50", "p95")),
            f"{_count(feature, 'missing'):,}",
            f"{_count(feature, 'distinct'):,}",
            f"{_count(feature, 'unchanged_records'):,}",
            " / ".join(map(_shown, usual[name])) if usual[name] else "–",
        )
        for name, feature in named
    ]
    columns = ("Feature", "5 %", "50 %", "95 %", "Missing", "Values", "Unchanged for", "Usual 5 / 50 / 95 %")
    figure = _plot(named, usual)
    return Section(
        "What its sensors read",
        f"Its last {_count(_part(one.heard.facts, 'readings'), 'records'):,} records, beside {one.compared_with}.",
        figures=[figure] if figure else [],
        tables=[
            Table(columns, rows, "Values: how many different ones. Unchanged for: records with the present value.")
        ],
    )


def _usual(references: Sequence[Facts], name: str) -> tuple[float, float, float] | None:
    windows = [_part(_part(_part(one, "readings"), "features"), name) for one in references]
    known = [
        [float(window[quantile]) for quantile in ("p05", "p50", "p95")]
        for window in windows
        if all(isinstance(window.get(quantile), (int, float)) for quantile in QUANTILES)
    ]
    if not known:
        return None
    low, middle, high = (median(window[at] for window in known) for at in range(3))
    return low, middle, high


def _plot(
    named: Sequence[tuple[str, Mapping[str, Any]]], usual: Mapping[str, tuple[float, float, float] | None]
) -> Figure | None:
    """Where the middle 90 % of the readings lie, where 0 and 1 are the ends of what is usual."""
    shown = []
    for name, feature in named:
        reference = usual[name]
        values = [feature.get(quantile) for quantile in ("p05", "p50", "p95")]
        if reference and reference[2] > reference[0] and all(isinstance(value, (int, float)) for value in values):
            width = reference[2] - reference[0]
            shown.append((name, [(float(value) - reference[0]) / width for value in values if value is not None]))
    if not shown:
        return None
    figure, (axis,) = report.plot(height=0.8 + 0.3 * len(shown))
    axis.axvspan(0, 1, color="#e7f4ec", zorder=0)
    for row, (_, (low, middle, high)) in enumerate(reversed(shown)):
        at = [min(max(value, PLOT_FROM), PLOT_TO) for value in (low, high)]
        colour = COLOURS[0] if -0.5 <= middle <= 1.5 else "#a11d1d"
        axis.plot(at, [row, row], color=colour, linewidth=5, alpha=0.4, solid_capstyle="round")
        if PLOT_FROM <= middle <= PLOT_TO:
            axis.plot([middle], [row], "o", color=colour, markersize=7)
        for side, mark, is_beyond in ((PLOT_FROM, "<", low < PLOT_FROM), (PLOT_TO, ">", high > PLOT_TO)):
            if is_beyond:
                axis.plot([side], [row], mark, color=colour, markersize=9, clip_on=False)
    axis.set(xlim=(PLOT_FROM, PLOT_TO), ylim=(-0.6, len(shown) - 0.4), yticks=range(len(shown)))
    axis.set_yticklabels([name for name, _ in reversed(shown)])
    axis.set_xticks([0, 1], ["usual 5 %", "usual 95 %"])
    axis.tick_params(axis="x", colors=SOFT)
    off = [name for name, (_, middle, _) in shown if not -0.5 <= middle <= 1.5]
    return Figure(
        report.svg(
            figure,
            f"Readings of {len(shown)} features beside what is usual; far from it: {', '.join(off) or 'none'}.",
        ),
        "The bar is where 90 % of the readings lie, the dot their median; the green field is where they usually lie. "
        "An arrow means: further than is shown.",
    )


def _system(one: Triage, now: datetime) -> Section:
    said = _system_values(one.heard.facts)
    usual = [_system_values(facts) for facts in one.references]
    rows = []
    for name, (value, unit) in said.items():
        others = [each[name][0] for each in usual if name in each and each[name][0] is not None]
        known = [other for other in others if other is not None]
        rows.append((name, _measured(value, unit), _measured(median(known), unit) if known else "–"))
    starts = one.heard.facts.get("starts")
    rows.append(("Starts of the service, last known", str(len(starts)) if isinstance(starts, list) else "–", ""))
    late_s = (now - one.heard.at).total_seconds()
    return Section(
        "The device beside the others",
        f"Of its report {late_s:,.0f} s ago.",
        tables=[Table(("", one.device, "Median of the others"), rows, f"The others: {one.compared_with}.")],
    )


def _system_values(facts: Facts) -> dict[str, tuple[float | None, str]]:
    health, disk, memory = (_part(facts, name) for name in ("health", "disk", "memory"))
    return {
        "Disk free": (_number(disk, "free_bytes"), "B"),
        "Memory available": (_number(memory, "available_bytes"), "B"),
        "Memory of the service": (_number(memory, "service_bytes"), "B"),
        "Clock ahead": (_number(health, "clock_offset_s"), "s"),
        "Decisions waiting": (_number(health, "spool_depth"), ""),
        "Decisions dropped": (_number(health, "spool_dropped"), ""),
        "Errors": (_number(health, "errors"), ""),
        "Latency, 99 %": (_number(_part(health, "latency_ms"), "p99"), "ms"),
        "Up for": (_number(facts, "uptime_s"), "h"),
    }


def _deployments(device: str, deployments: Sequence[Mapping[str, Any]]) -> Section | None:
    if not deployments:
        return None
    rows = [
        (one.get("valid_from") or one["recorded_at"], one["release"], one["state"], one.get("reason") or "")
        for one in reversed(deployments[-MOST_ROWS:])
    ]
    rows = [(f"{at[:10]} {at[11:19]}", *rest) for at, *rest in rows]
    columns, caption = ("Time (UTC)", "Release", "Outcome", "Why"), "By the device's clock, newest first."
    text = f"`playbooks/status.yml -e device={device}` tells what ran at any time."
    return Section("What ran on it", text, tables=[Table(columns, rows, caption, text_columns=(1, 2, 3))])


def _log(facts: Facts) -> Section | None:
    lines, problems = (_texts(facts, name) for name in ("log", "problems"))
    if not lines and not problems:
        return None
    return Section("The last lines of its log", points=problems, lines=lines)


def _overview(found: Sequence[Triage], now: datetime) -> Section:
    words = {"act": "act", "watch": "keep an eye on it", "ok": "fine"}
    rows = [
        (
            one.device,
            words[one.state],
            _text(one.heard.facts, "release") or "–",
            _text(_part(one.heard.facts, "health"), "status") or "does not answer",
            f"{(now - one.heard.at).total_seconds() / 60:,.0f} min ago",
            _first_of(one),
        )
        for one in sorted(found, key=lambda one: (("act", "watch", "ok").index(one.state), one.device))
    ]
    columns = ("Device", "State", "Release", "Service", "Reported", "Findings")
    return Section("Every device", tables=[Table(columns, rows, "The worst first.", text_columns=(1, 2, 3, 5))])


def _first_of(one: Triage) -> str:
    if not one.findings:
        return "–"
    more = f", and {len(one.findings) - 1} more" if len(one.findings) > 1 else ""
    return f"{one.findings[0].title}{more}"


# ---- what strangers wrote


def _part(holder: Any, name: str) -> Mapping[str, Any]:
    value = holder.get(name) if isinstance(holder, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _text(holder: Mapping[str, Any], name: str) -> str:
    value = holder.get(name)
    return value if isinstance(value, str) else ""


def _texts(holder: Mapping[str, Any], name: str) -> list[str]:
    value = holder.get(name)
    return [one for one in value if isinstance(one, str)][:MOST_ROWS] if isinstance(value, list) else []


def _number(holder: Mapping[str, Any], name: str) -> float | None:
    value = holder.get(name)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _count(holder: Mapping[str, Any], name: str) -> int:
    return int(_number(holder, name) or 0)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else "–"


def _measured(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    if unit == "B":
        return f"{value / 1e9:.1f} GB" if value >= 1e9 else f"{value / 1e6:.0f} MB"
    if unit == "h":
        return f"{value / 3600:.1f} h"
    return f"{value:,.4g} {unit}".strip()
