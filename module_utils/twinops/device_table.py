"""Devices as a table for people, and what ran on one of them when. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import runs, slots
from .columns import aligned
from .deployments import Period
from .run_table import duration

HEADER = (
    *("device", "wave", "release", "slot", "health", "model", "commit", "data"),
    *("records", "spool", "uploaded", "clock", "disk free"),
)
_TO_THE_RIGHT = ("records", "spool", "disk free")
PERIOD_HEADER = ("from (UTC)", "until (UTC)", "release", "model", "commit", "data", "rollout")

CLOCK_TOLERANCE_S = 10
"""As much may the way to a busy device take."""

Result = Mapping[str, Any]
"""What was registered for ``edge_status`` on a device; empty where it was not asked."""


def table(
    results: Mapping[str, Result], waves: Mapping[str, str], last_known: Mapping[str, Period | None]
) -> list[str]:
    """The lines, devices in the order given. ``waves``: device -> wave; ``last_known``: of those that are silent."""
    if not results:
        return ["no devices"]
    rows = [_row(device, waves.get(device, "-"), result) for device, result in results.items()]
    notes = {
        number: list(_notes(result, last_known.get(device))) for number, (device, result) in enumerate(results.items())
    }
    return [*aligned(HEADER, rows, to_the_right=_TO_THE_RIGHT, notes=notes), _summary(results)]


def history(device: str, found: Sequence[Period]) -> list[str]:
    """All that ever ran on a device, newest first."""
    if not found:
        return [f"{device}: no release ever ran on it"]
    newest_first = found[::-1]
    rows = [
        (_time(each.since), _time(each.until) or "now", each.release, *_short(each), each.rollout_id or "by itself")
        for each in newest_first
    ]
    notes = {number: [("back", each.why)] for number, each in enumerate(newest_first) if each.why}
    return aligned(PERIOD_HEADER, rows, notes=notes)


def answer(device: str, moment: str, period: Period | None, known_at: str = "") -> list[str]:
    """What ran on a device at a moment, and all that is known of it."""
    known = f", as known at {_time(known_at)} UTC" if known_at else ""
    title = f"{device} at {_time(moment)} UTC{known}:"
    if period is None:
        return [f"{title} no release"]
    said = (
        ("from", f"{_time(period.since)} until {_time(period.until) or 'now'}"),
        ("digest", period.release_digest),
        ("model", period.model_digest),
        ("commit", period.git_sha),
        ("data", period.data_version),
        ("rollout", period.rollout_id or "the device fetched it by itself"),
        ("back", period.why),
        ("learnt", _time(period.recorded_at) or "only the device knows it yet"),
    )
    return [f"{title} {period.release}", *(f"    {name + ':':<8} {text}" for name, text in said if text)]


def is_ok(result: Result) -> bool:
    """Whether the device answers and its release is at work."""
    return _health(result) == "ok" and slots.at_rest(result["device_status"])


def _row(device: str, wave: str, result: Result) -> tuple[str, ...]:
    status = result.get("device_status") or {}
    health = status.get("health") or {}
    return (
        device,
        wave,
        status.get("release") or "-",
        status.get("slot") or "-",
        _health(result),
        *(str(status.get(name) or "-")[:8] for name in ("model_sha256", "git_sha", "data_version")),
        str(health.get("records", "-")),
        str(health.get("spool_depth", "-")),
        _uploaded(status, health),
        _clock(result),
        f"{status['disk']['free_bytes'] / 1e9:.1f} GB" if "disk" in status else "-",
    )


def _health(result: Result) -> str:
    if result.get("unreachable"):
        return "unreachable"
    status = result.get("device_status")
    if status is None:
        return "unknown"
    if status["phase"] == "not enrolled":
        return "not enrolled"
    return str((status.get("health") or {}).get("status", "silent" if status.get("release") else "no release"))


def _uploaded(status: Result, health: Result) -> str:
    if not health.get("last_upload_at"):
        return "-"
    passed = runs.parse(status["clock"]) - runs.parse(health["last_upload_at"])
    return f"{duration(max(0.0, passed.total_seconds()))} ago"


def _clock(result: Result) -> str:
    ahead_s = result.get("clock_ahead_s")
    if ahead_s is None:
        return "-"
    if abs(ahead_s) <= CLOCK_TOLERANCE_S:
        return "right"
    return f"{duration(abs(ahead_s))} {'ahead' if ahead_s > 0 else 'behind'}"


def _notes(result: Result, known: Period | None) -> Iterator[tuple[str, str]]:
    status = result.get("device_status") or {}
    health = status.get("health") or {}
    if result.get("unreachable") and known is not None:
        yield "known", f"{known.release} since {_time(known.since)} UTC, says the ledger"
    if status.get("target"):
        yield "doing", f"{status['target']['release']}: {status['phase']}"
    for title, text in (
        ("why", status.get("reason")),
        ("health", health.get("reason")),
        ("upload", health.get("upload_error")),
    ):
        if text:
            yield title, str(text)
    if health.get("spool_dropped"):
        yield "spool", f"{health['spool_dropped']} decisions dropped"
    if status.get("phase") != "not enrolled":
        yield from (("problem", text) for text in status.get("problems", ()))


def _summary(results: Mapping[str, Result]) -> str:
    releases = Counter((result.get("device_status") or {}).get("release") or "none" for result in results.values())
    healths = Counter("ok" if is_ok(result) else _health(result) for result in results.values())
    return f"{len(results)} devices: {_counted(healths)}. Releases: {_counted(releases)}."


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counter.most_common())


def _short(period: Period) -> tuple[str, ...]:
    return tuple((text or "-")[:8] for text in (period.model_digest, period.git_sha, period.data_version))


def _time(text: str) -> str:
    return text[:19].replace("T", " ")
