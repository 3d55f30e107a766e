"""What the page counts and draws of a status document. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from page.charts import Chart, charts

FAILING = ("FAILED", "TIMED_OUT", "LOST")
AT_WORK = ("RUNNING", "CLAIMED", "QUEUED")
HEALTH_ORDER = ("failed", "silent", "unreachable", "waiting", "starting", "no release", "unknown", "ok")
"""The worst first: so devices stand in the table."""
TONE_OF_HEALTH = {"ok": "ok", "failed": "act", "silent": "watch", "unreachable": "watch"}
COLOURS = 6
NO_RELEASE = "no release"


@dataclass(frozen=True)
class Part:
    """A stretch of a bar, in percent of its length."""

    colour: int
    x: float
    width: float


@dataclass(frozen=True)
class WaveBar:
    """A wave by release, as a bar and in words."""

    name: str
    parts: tuple[Part, ...]
    counted: str


@dataclass(frozen=True)
class Release:
    """A release in the legend."""

    name: str
    colour: int


@dataclass(frozen=True)
class Choice:
    """A menu by which devices are filtered."""

    name: str
    title: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class View:
    """What the template needs beside the document itself."""

    on_release: int
    healths: str
    succeeded: int
    ended: int
    at_work: str
    newest_quality: Mapping[str, Any] | None
    releases: tuple[Release, ...]
    waves: tuple[WaveBar, ...]
    choices: tuple[Choice, ...]
    devices: tuple[Mapping[str, Any], ...]
    charts: tuple[Chart, ...]
    checks: Mapping[str, Mapping[str, Any]]
    """Kind of drift → the last look for it."""
    unread: frozenset[str]
    """Names of the sources that could not be read."""


def view(document: Mapping[str, Any]) -> View:
    """Everything counted."""
    devices, runs = document["devices"], [run for flow in document["workflows"] for run in flow["runs"]]
    ended = Counter(run["state"] for run in runs)
    failed = sum(ended[state] for state in FAILING)
    at_work = sum(ended[state] for state in AT_WORK)
    deployed = document["deployed"]
    releases = _releases(devices, deployed)
    return View(
        on_release=sum(bool(deployed) and one["release_digest"] == deployed["release_digest"] for one in devices),
        healths=_in_words(Counter(one["health"] for one in devices), HEALTH_ORDER[::-1]) or "none in the inventory",
        succeeded=ended["SUCCEEDED"],
        ended=ended["SUCCEEDED"] + failed,
        at_work=", ".join(filter(None, (failed and f"{failed} failed", f"{at_work or 'none'} at work"))),
        newest_quality=document["quality"][-1] if document["quality"] else None,
        releases=tuple(releases.values()),
        waves=tuple(_wave(name, devices, releases) for name in _values(devices, "wave")),
        choices=(
            Choice("wave", "Wave", _values(devices, "wave")),
            Choice("release", "Release", tuple(releases)),
            Choice("health", "Health", tuple(h for h in HEALTH_ORDER if any(one["health"] == h for one in devices))),
        ),
        devices=_in_order(devices),
        charts=charts(document["quality"]),
        checks={check["kind"]: check for check in document["drift_checks"]},
        unread=frozenset(each["name"] for each in document["sources"] if each["state"] == "failed"),
    )


def _releases(devices: Sequence[Mapping[str, Any]], deployed: Mapping[str, Any] | None) -> dict[str, Release]:
    """The releases on devices, that of the environment first, then by how many have it; each with its colour."""
    counted = Counter(one["release"] or NO_RELEASE for one in devices)
    current = deployed["release"] if deployed else ""
    names = sorted(counted, key=lambda name: (name != current, name == NO_RELEASE, -counted[name], name))
    return {name: Release(name, number % COLOURS) for number, name in enumerate(names)}


def _wave(name: str, devices: Sequence[Mapping[str, Any]], releases: Mapping[str, Release]) -> WaveBar:
    members = [one["release"] or NO_RELEASE for one in devices if one["wave"] == name]
    counted = Counter(members)
    parts, x = [], 0.0
    for release in releases.values():
        width = 100 * counted[release.name] / len(members)
        if width and release.name != NO_RELEASE:
            parts.append(Part(release.colour, round(x, 3), round(width, 3)))
        x += width
    words = ", ".join(f"{release} × {counted[release]:,}" for release in releases if counted[release])
    return WaveBar(name, tuple(parts), words)


def _values(devices: Sequence[Mapping[str, Any]], field: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one[field] for one in devices))


def _in_order(devices: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """With tone and rank, the worst first."""
    ranked = [
        {**one, "tone": TONE_OF_HEALTH.get(one["health"], "none"), "rank": HEALTH_ORDER.index(one["health"])}
        for one in devices
    ]
    return tuple(sorted(ranked, key=lambda one: one["rank"]))


def _in_words(counted: Mapping[str, int], order: Sequence[str]) -> str:
    return ", ".join(f"{counted[name]:,} {name}" for name in order if counted.get(name))
