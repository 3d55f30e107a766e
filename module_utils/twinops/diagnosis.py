"""What is wrong with a device, from the facts that it reports (docs/interfaces.md, "Facts"). Pure.

A device asks this about itself, compared with what it reported when all was well, to raise an alarm; the workflow
``staging_triage`` asks it compared with the other devices. Facts come from devices in the field: whatever is not what
was expected counts as not said.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from statistics import median
from typing import Any

from .conversions import CONVERSIONS

Facts = Mapping[str, Any]

ACT, WATCH = "act", "watch"

SILENT, SERVICE, RESTARTS, MODEL = "silent", "service", "restarts", "model_mismatch"
CLOCK, DISK, MEMORY, UPLOADS = "clock", "disk", "memory", "uploads"
STUCK, UNIT, SHIFTED, MISSING = "stuck_sensor", "unit_change", "shifted_readings", "missing_values"
ALARMS = "alarm_rate"
OF_SENSORS = (STUCK, UNIT, SHIFTED, MISSING)
"""Findings about readings: their ``subject`` is the feature."""

SILENT_INTERVALS, SILENT_AT_LEAST_S = 3, 900
"""A device is silent when three reports in a row did not come, but not before a quarter of an hour."""
RESTARTS_WITHIN, RESTARTS_MOST = timedelta(hours=1), 3
STARTS_OF_COMMITTED, STARTS_OF_TAKEN_BACK = 1, 2
"""An install starts the service, and once more where it is taken back."""
CLOCK_WATCH_S, CLOCK_ACT_S, CLOCK_REFUSED_S = 5, 60, 900
"""S3 refuses who is a quarter of an hour off. What is said by two clocks a second apart is no news."""
REPORT_DELAY_S = 60
"""How long after being written a report may reach the cloud, by a slow line, before it tells of a wrong clock."""
DISK_WATCH, DISK_ACT = 0.10, 0.03
MEMORY_WATCH = 0.05
UPLOAD_OVERDUE_S = 900

ENOUGH_TO_OUTVOTE = 3
"""Of so many to compare with, one that is broken as well is outvoted; of fewer, the most similar one counts."""
FEWEST_READINGS = 200
STUCK_CHANCE = 1e-6
MISSING_SHARE, MISSING_MANY, MISSING_FEWEST = 0.01, 0.5, 10
MOVED_SHARE = 0.4
"""A feature has moved when it is certain from the quantiles that this share of its readings lies elsewhere: the lower
bound of Kolmogorov's distance. (A quantile alone may jump: it often lies in a gap between two states of a machine.)"""
RESCALED = 5
"""And when 90 % of its readings spread over five times what is usual, or a fifth of it."""
UNIT_LEFT_WIDTHS, UNIT_LEFT_SHARE = 0.2, 0.25
"""What a conversion of units may leave between the quantiles, but for one of them: of what is usual between the 5 % and
the 95 % quantile, converted, and of the distance without it."""
ALARMS_FACTOR, ALARMS_DEVIATIONS = 2, 6

QUANTILES = {"p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95}


@dataclass(frozen=True)
class Finding:
    """One anomaly: what, how it shows, and what to do about it."""

    kind: str
    severity: str
    """``act`` or ``watch``."""
    title: str
    evidence: tuple[str, ...]
    action: str
    subject: str = ""
    """The feature, of findings about readings."""
    conversion: tuple[float, float] | None = None
    """Of a change of units: factor and offset that turn a reading back into what it was."""


@dataclass(frozen=True)
class Heard:
    """The latest facts of a device and when the cloud received them."""

    facts: Facts
    at: datetime

    def is_silent(self, now: datetime) -> bool:
        return (now - self.at).total_seconds() > silent_after_s(self.facts)


def silent_after_s(facts: Facts) -> float:
    return max(SILENT_AT_LEAST_S, SILENT_INTERVALS * (_number(facts, "interval_s") or 0))


def diagnose(
    heard: Heard, now: datetime, references: Sequence[Facts], *, digests: frozenset[str] = frozenset()
) -> list[Finding]:
    """What is wrong with a device at ``now``, the worst first; nothing if nothing is.

    ``references`` are facts of when and where all is well: of other devices, or of this one earlier. ``digests`` are
    those of the releases that devices may run now; unknown if there are none.
    """
    facts = heard.facts
    found = [
        *_silent(heard, now),
        *_service(facts),
        *_restarts(facts),
        *_model(facts, digests),
        *_clock(heard),
        *_disk(facts),
        *_memory(facts),
        *_uploads(facts),
        *_missing(facts, references),
        *_stuck(facts, references),
        *_moved(facts, references),
        *_alarms(facts, references),
    ]
    return sorted(found, key=lambda finding: finding.severity != ACT)  # stable: otherwise in the order above


def is_sound(facts: Facts) -> bool:
    """Whether a device's service works, so that others may be compared with what its sensor reads."""
    return _text(facts, "health", "status") == "ok"


# ---- the device


def _silent(heard: Heard, now: datetime) -> Iterator[Finding]:
    if not heard.is_silent(now):
        return
    said = _text(heard.facts, "health", "status") or "no service"
    yield Finding(
        SILENT,
        ACT,
        f"It has not reported for {_duration((now - heard.at).total_seconds())}",
        (
            f"last report {heard.at:%Y-%m-%d %H:%M} UTC; one is due every "
            f"{_duration(_number(heard.facts, 'interval_s') or 0)}",
            f"then it said: service {said}, release {_text(heard.facts, 'release') or 'none'}; "
            "what is found below is of that time",
        ),
        "Is it switched on, and has it a network? Then log in: `twinops-edge status`, `twinops-edge report`. "
        "A clock that is more than 15 minutes wrong makes a device silent as well.",
    )


def _service(facts: Facts) -> Iterator[Finding]:
    if time_of(facts.get("reported_at")) is None:
        yield Finding(
            SERVICE, ACT, "What it reports cannot be read", ("expected JSON with the time of the report",),
            "Log in and try `twinops-edge facts`; enrol it again (`ansible-playbook playbooks/edge.yml -l <device>`).",
        )  # fmt: skip
        return
    if facts.get("release") is None:
        return
    health = facts.get("health")
    status = _text(facts, "health", "status")
    log = _texts(facts.get("log"))[-3:]
    if not isinstance(health, Mapping):
        problems = _texts(facts.get("problems"))
        said = (*problems, *(f"log: {line}" for line in log)) or ("it does not answer",)
        yield Finding(
            SERVICE, ACT, "Its service does not run", said,
            "Look at the log below; the release before can be had back by `playbooks/rollback.yml`.",
        )  # fmt: skip
    elif status == "failed":
        reason = _text(facts, "health", "reason") or "no reason given"
        yield Finding(
            SERVICE, ACT, "Its service decides nothing", (reason, *(f"log: {line}" for line in log)),
            "What it could not decide is tried again each second and not lost. Mend what the reason names, or go back "
            "to the release before by `playbooks/rollback.yml`.",
        )  # fmt: skip


def _restarts(facts: Facts) -> Iterator[Finding]:
    reported_at = time_of(facts.get("reported_at"))
    if reported_at is None:
        return
    begin = reported_at - RESTARTS_WITHIN
    starts = [at for at in map(time_of, _list(facts.get("starts"))) if at and at > begin]
    installs = [one for one in _list(facts.get("history")) if (at := time_of(_get(one, "at"))) and at > begin]
    explained = sum(
        STARTS_OF_COMMITTED if _text(one, "outcome") == "committed" else STARTS_OF_TAKEN_BACK for one in installs
    )
    if len(starts) - explained > RESTARTS_MOST:
        log = _texts(facts.get("log"))[-3:]
        yield Finding(
            RESTARTS,
            ACT,
            f"Its service started {len(starts)} times within an hour",
            (
                f"installs of releases explain {explained} of them; "
                f"the last starts: {', '.join(f'{at:%H:%M:%S}' for at in starts[-5:])} UTC",
                *(f"log: {line}" for line in log),
            ),
            "Something ends it: memory (dmesg names what the kernel ended), power, or a crash in the model's runtime. "
            "Try the golden records on the device: `twinops-edge status` and its log.",
        )


def _model(facts: Facts, digests: frozenset[str]) -> Iterator[Finding]:
    wanted, on_disk = _text(facts, "model_sha256"), _text(facts, "model_file_sha256")
    loaded = _text(facts, "health", "model_sha256")
    if wanted and on_disk and wanted != on_disk:
        yield Finding(
            MODEL, ACT, "Its model is not the one that was signed",
            (f"the manifest says {wanted[:12]}…, the file is {on_disk[:12]}…",),
            "The disk is damaged or somebody changed the file. Install the release again "
            "(`playbooks/edge.yml -l <device>`); if it comes back, replace the disk.",
        )  # fmt: skip
    if wanted and loaded and wanted != loaded:
        yield Finding(
            MODEL, ACT, "It decides by another model than its release has",
            (f"the release {_text(facts, 'release')} has {wanted[:12]}…, the service runs {loaded[:12]}…",),
            "Its service was not restarted after an install: restart `twinops-inference`.",
        )  # fmt: skip
    digest = _text(facts, "release_digest")
    if digest and digests and digest not in digests and not facts.get("target"):
        waiting = facts.get("waiting")
        window = f"; it waits for its maintenance window {_text(waiting, 'window')}" if waiting else ""
        yield Finding(
            MODEL, WATCH, f"It runs {_text(facts, 'release')}, which is not the environment's release",
            (f"release digest {digest[:12]}…, expected {' or '.join(sorted(one[:12] + '…' for one in digests))}"
             f"{window}",),
            "It was away during a rollout or a rollback. A device that pulls follows by itself; "
            "else run `playbooks/edge.yml` again.",
        )  # fmt: skip


def _clock(heard: Heard) -> Iterator[Finding]:
    facts = heard.facts
    offsets: dict[str, float] = {}
    if (said_s := _number(facts, "health", "clock_offset_s")) is not None:
        offsets["compared with S3, at its last upload"] = said_s
    reported_at = time_of(facts.get("reported_at"))
    if reported_at and not -REPORT_DELAY_S < (ahead_s := (reported_at - heard.at).total_seconds()) < 0:
        offsets["compared with when its report arrived"] = ahead_s
    wrong = {how: offset_s for how, offset_s in offsets.items() if abs(offset_s) > CLOCK_WATCH_S}
    refused = "RequestTimeTooSkewed" in _text(facts, "health", "upload_error")
    if wrong or refused:
        worst_s = max(map(abs, wrong.values()), default=CLOCK_REFUSED_S)
        yield Finding(
            CLOCK,
            ACT if refused or worst_s > CLOCK_ACT_S else WATCH,
            "Its clock is wrong",
            (
                *(f"{_signed(offset_s)}, {how}" for how, offset_s in wrong.items()),
                *(["S3 refuses its uploads because of the time that they say"] if refused else []),
            ),
            "Look at NTP on the device (`timedatectl`). Its decisions bear wrong times; beyond 15 minutes S3 refuses "
            "them, and beyond the expiry of metadata it refuses releases.",
        )


def _disk(facts: Facts) -> Iterator[Finding]:
    total, free = _number(facts, "disk", "total_bytes"), _number(facts, "disk", "free_bytes")
    if not total or free is None or free / total >= DISK_WATCH:
        return
    yield Finding(
        DISK,
        ACT if free / total < DISK_ACT else WATCH,
        f"Its disk is {1 - free / total:.0%} full",
        (f"{_bytes(free)} of {_bytes(total)} are free", f"decisions not yet uploaded: {_spool(facts)}"),
        "Old environments (`venvs/`) and logs can go. A full disk stops deciding and installing; the release that runs "
        "stays.",
    )


def _memory(facts: Facts) -> Iterator[Finding]:
    total, free = _number(facts, "memory", "total_bytes"), _number(facts, "memory", "available_bytes")
    if total and free is not None and free / total < MEMORY_WATCH:
        service = _number(facts, "memory", "service_bytes")
        yield Finding(
            MEMORY, WATCH, "It has hardly any memory left",
            (f"{_bytes(free)} of {_bytes(total)} are available",
             f"the service has {_bytes(service)}" if service else "the service does not run"),
            "Find what has it (`ps -eo rss,args --sort=-rss | head`); the kernel ends something soon.",
        )  # fmt: skip


def _uploads(facts: Facts) -> Iterator[Finding]:
    dropped = _number(facts, "health", "spool_dropped") or 0
    error = _text(facts, "health", "upload_error")
    reported_at, last = time_of(facts.get("reported_at")), time_of(_get(facts.get("health"), "last_upload_at"))
    started = time_of(_get(facts.get("health"), "started_at"))
    since = last or started
    overdue_s = (reported_at - since).total_seconds() if reported_at and since else 0.0
    late = bool(error) and overdue_s > UPLOAD_OVERDUE_S
    if dropped or late:
        yield Finding(
            UPLOADS,
            ACT,
            "Decisions were lost" if dropped else f"It has uploaded no decision for {_duration(overdue_s)}",
            (
                *([f"{dropped:,.0f} were dropped because the spool was full"] if dropped else []),
                f"waiting: {_spool(facts)}",
                *([error] if error else []),
            ),
            "Look at its network, its role and the bucket. Decisions wait on the device meanwhile, the oldest go first "
            "when its spool is full.",
        )


# ---- the sensor


def _missing(facts: Facts, references: Sequence[Facts]) -> Iterator[Finding]:
    total = _number(facts, "readings", "records") or 0
    for name, feature in _features(facts):
        missing = _number(feature, "missing") or 0
        share = missing / total if total else 0.0
        usual = _usual(references, name, _missing_share) or 0.0
        if missing < MISSING_FEWEST or share < MISSING_SHARE + 3 * usual:
            continue
        yield Finding(
            MISSING,
            ACT if share >= MISSING_MANY else WATCH,
            f"{share:.0%} of the readings of {name} are missing",
            (
                f"{missing:,.0f} of the last {total:,.0f} records; elsewhere {usual:.1%}",
                "a record that lacks a reading is decided by nobody",
            ),
            f"Look at the sensor of {name}: cable, power, the gateway in between. Nobody decides on these records.",
            subject=name,
        )


def _stuck(facts: Facts, references: Sequence[Facts]) -> Iterator[Finding]:
    for name, feature in _features(facts):
        unchanged = _number(feature, "unchanged_records") or 0
        usual = _usual(references, name, lambda one: _number(one, "most_common_share"))
        if unchanged < FEWEST_READINGS or usual is None:
            continue
        chance = unchanged * math.log10(usual) if usual > 0 else -math.inf
        if chance > math.log10(STUCK_CHANCE):
            continue
        value = _number(feature, "p50" if _number(feature, "distinct") == 1 else "max")
        shown = f" at {_shown(value)}" if _number(feature, "distinct") == 1 and value is not None else ""
        yield Finding(
            STUCK,
            ACT,
            f"{name} is stuck{shown}",
            (
                f"unchanged for {unchanged:,.0f} records, since {_since(feature)}",
                f"elsewhere its most common value makes up {usual:.0%} of the readings",
            ),
            f"Look at the sensor of {name}: replace it, or restart its gateway. Decisions since then rest on a value "
            "that is not measured.",
            subject=name,
        )


def _moved(facts: Facts, references: Sequence[Facts]) -> Iterator[Finding]:
    stuck = {finding.subject for finding in _stuck(facts, references)}
    for name, feature in _features(facts):
        now = _quantiles(feature)
        windows = [window for one in _of(references, name) if (window := _quantiles(one))]
        if name in stuck or not now or not windows:
            continue
        if len(windows) < ENOUGH_TO_OUTVOTE:
            windows = [min(windows, key=lambda window: _surely_elsewhere(now, window))]
        usual = tuple(median(window[at] for window in windows) for at in range(len(QUANTILES)))
        width = usual[-1] - usual[0]
        has_moved = median(_surely_elsewhere(now, window) for window in windows) >= MOVED_SHARE
        if width <= 0 or not (has_moved or not width / RESCALED <= now[-1] - now[0] <= width * RESCALED):
            continue
        evidence = (
            f"5 %, 50 % and 95 % of its readings are below {_shown_quantiles(now)}",
            f"elsewhere below {_shown_quantiles(usual)}",
        )
        unit = _conversion(usual, now, width)
        if unit:
            label, factor, offset = unit
            # The subject of a mail, which this becomes, takes no other letters.
            plain = label.replace("°", "").replace("→", "to").encode("ascii", "replace").decode()
            fits = f"{label}: {factor:g} × what is usual {'+' if offset >= 0 else '−'} {abs(offset):g} fits"
            yield Finding(
                UNIT, ACT, f"{name} is reported in another unit: {plain}", (*evidence, fits),
                f"Set the sensor or gateway of {name} back to the unit that the model was trained on. "
                "The model takes the numbers as they come.",
                subject=name, conversion=(1 / factor, -offset / factor),
            )  # fmt: skip
        else:
            yield Finding(
                SHIFTED, WATCH, f"{name} reads otherwise than elsewhere", evidence,
                f"Is the machine in another state, or does the sensor of {name} need calibration? "
                "No change of units explains it.",
                subject=name,
            )  # fmt: skip


def _surely_elsewhere(now: Sequence[float], usual: Sequence[float]) -> float:
    """The largest difference of the two distribution functions that their quantiles prove."""
    levels = tuple(QUANTILES.values())
    proved = 0.0
    for level, value in zip(levels, now):
        at_most = min((one for one, quantile in zip(levels, usual) if quantile > value), default=1.0)
        at_least = max((one for one, quantile in zip(levels, usual) if quantile < value), default=0.0)
        proved = max(proved, level - at_most, at_least - level)
    return proved


def _conversion(usual: Sequence[float], now: Sequence[float], width: float) -> tuple[str, float, float] | None:
    """The conversion that makes ``now`` of what is usual, if one explains most of the way."""

    def left(factor: float, offset: float, converted_width: float) -> tuple[float, float]:
        """The second largest and the largest distance between quantiles, in widths."""
        converted = sorted(factor * value + offset for value in usual)
        apart = sorted(abs(one - other) / converted_width for one, other in zip(converted, now))
        return apart[-2], apart[-1]

    best = min(CONVERSIONS, key=lambda one: left(one[1], one[2], abs(one[1]) * width))
    converted_width = abs(best[1]) * width
    fits, _ = left(best[1], best[2], converted_width)
    without, _ = left(1.0, 0.0, converted_width)
    return best if fits <= min(UNIT_LEFT_WIDTHS, UNIT_LEFT_SHARE * without) else None


def _alarms(facts: Facts, references: Sequence[Facts]) -> Iterator[Finding]:
    """Another share of alarms than elsewhere: by six standard deviations, and twice or half as many."""
    records, alarms = _number(facts, "readings", "records") or 0, _number(facts, "readings", "alarms") or 0
    shares = [
        (_number(one, "readings", "alarms") or 0) / count
        for one in references
        if (count := _number(one, "readings", "records") or 0) >= FEWEST_READINGS
    ]
    if records < FEWEST_READINGS or not shares:
        return
    share = alarms / records
    usual = median(shares) if len(shares) >= ENOUGH_TO_OUTVOTE else min(shares, key=lambda one: abs(one - share))
    deviation = math.sqrt(max(usual, 1 / records) * (1 - usual) / records)
    many, few = share > ALARMS_FACTOR * usual, share < usual / ALARMS_FACTOR
    if (many or few) and abs(share - usual) > ALARMS_DEVIATIONS * deviation:
        yield Finding(
            ALARMS, WATCH, f"It raises {'more' if many else 'fewer'} alarms than others",
            (f"{share:.1%} of the last {records:,.0f} records; elsewhere {usual:.1%}",),
            "If a sensor is named above, mend that first. Else the machine may really be in trouble: tell its owner.",
        )  # fmt: skip


# ---- reading facts


def _features(facts: Facts) -> Iterator[tuple[str, Facts]]:
    """Name and summary of the features with enough readings, present or missing, to say something."""
    features = _get(facts.get("readings"), "features")
    if isinstance(features, Mapping):
        for name, feature in features.items():
            if isinstance(feature, Mapping) and _received(feature) >= FEWEST_READINGS:
                yield str(name), feature


def _received(feature: Facts) -> float:
    return (_number(feature, "count") or 0) + (_number(feature, "missing") or 0)


def _of(references: Iterable[Facts], name: str) -> list[Facts]:
    return [feature for one in references for found, feature in _features(one) if found == name]


def _usual(references: Iterable[Facts], name: str, number: Any) -> float | None:
    """A number of a feature that is high where the feature is unusual, as it is elsewhere."""
    values = [value for one in _of(references, name) if (value := number(one)) is not None]
    return (median(values) if len(values) >= ENOUGH_TO_OUTVOTE else max(values)) if values else None


def _missing_share(feature: Facts) -> float:
    return (_number(feature, "missing") or 0) / _received(feature)


def _quantiles(feature: Facts) -> tuple[float, ...] | None:
    if (_number(feature, "count") or 0) < FEWEST_READINGS:
        return None
    values = [_number(feature, name) for name in QUANTILES]
    return tuple(value for value in values if value is not None) if None not in values else None


def _get(holder: Any, key: str) -> Any:
    return holder.get(key) if isinstance(holder, Mapping) else None


def _number(holder: Any, *keys: str) -> float | None:
    for key in keys:
        holder = _get(holder, key)
    if not isinstance(holder, (int, float)) or isinstance(holder, bool):
        return None
    try:
        return float(holder) if math.isfinite(holder) else None
    except OverflowError:  # an integer beyond all floats
        return None


def _text(holder: Any, *keys: str) -> str:
    for key in keys:
        holder = _get(holder, key)
    return holder if isinstance(holder, str) else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _texts(value: Any) -> list[str]:
    return [one for one in _list(value) if isinstance(one, str)]


def time_of(value: Any) -> datetime | None:
    """A time as it is in JSON, UTC where it names no zone; None where it is none."""
    try:
        found = datetime.fromisoformat(value.replace("Z", "+00:00"))
    except (AttributeError, ValueError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


# ---- words


def _spool(facts: Facts) -> str:
    depth = _number(facts, "health", "spool_depth")
    return "unknown" if depth is None else f"{depth:,.0f} decisions"


def _shown(value: float) -> str:
    return f"{value:.6g}"


def _shown_quantiles(quantiles: Sequence[float]) -> str:
    """Those of 5, 50 and 95 %."""
    return ", ".join(_shown(quantiles[at]) for at in (0, len(quantiles) // 2, -1))


def _since(feature: Facts) -> str:
    at = time_of(feature.get("changed_at"))
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else "its start"


def _signed(seconds: float) -> str:
    return f"{_duration(abs(seconds))} {'ahead' if seconds > 0 else 'behind'}"


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _bytes(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.0f} KB"
