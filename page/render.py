"""Draws the page. Same documents, same bytes.

Everything that comes from devices, logs and the ledger is text: Jinja escapes it, and the page's
Content-Security-Policy lets only the one script run whose digest it names.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from jinja2 import Environment as Templates
from jinja2 import FileSystemLoader, StrictUndefined

from page import charts
from page.documents import Environment
from page.views import FAILING, view

TEMPLATES = Path(__file__).with_name("templates")
STATES = {
    "ok": "Everything is fine",
    "watch": "Keep an eye on it",
    "act": "Something has to be done",
    "none": "Nothing to judge yet",
}
TONE_OF_ROLLOUT = {"completed": "ok", "blocked": "act", "running": "watch"}
TONE_OF_GATE = {"passed": "ok", "failed": "act", "held": "act", "running": "watch"}
TONE_OF_RUN = {"SUCCEEDED": "ok", **dict.fromkeys(FAILING, "act")}


def html(environments: Sequence[Environment], *, stale_after_h: float) -> str:
    """The page. The environment that needs somebody most comes first, others in the order given."""
    readable = [one for one in environments if not one.problem]
    created_at = max((one.document["created_at"] for one in readable), default=_now())
    style, script = _file("page.css"), _file("page.js")
    return (
        _templates()
        .get_template("page.html.j2")
        .render(
            title=_title(environments),
            environments=environments,
            first=min(environments, key=lambda one: _URGENCY.index(one.tone)).name,
            views={one.name: view(one.document) for one in readable},
            created_at=created_at,
            stale_after_s=round(stale_after_h * 3600),
            commits=sorted({one.document["commit"] for one in readable}),
            style=style,
            script=script,
            style_hash=_hash(style),
            script_hash=_hash(script),
        )
    )


_URGENCY = ("act", "watch", "none", "ok")


def _title(environments: Sequence[Environment]) -> str:
    worst = min(environments, key=lambda one: _URGENCY.index(one.tone))
    if worst.problem:
        return f"twinops: {worst.name} could not be read"
    return f"twinops: {worst.name}: {worst.document['answer']['headline']}"


def _templates() -> Templates:
    templates = Templates(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    templates.filters.update(utc=_utc, thousands=_thousands, share=_share, duration=_duration, counted=_counted)
    templates.globals.update(
        states=STATES,
        tone_of_rollout=TONE_OF_ROLLOUT,
        tone_of_gate=TONE_OF_GATE,
        tone_of_run=TONE_OF_RUN,
        took=_took,
        plot_size=(charts.WIDTH, charts.HEIGHT, charts.RIGHT),
    )
    return templates


def _file(name: str) -> str:
    return (TEMPLATES / name).read_text("utf-8")


def _hash(text: str) -> str:
    """As a Content-Security-Policy names a script or style that it allows."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _utc(at: str) -> str:
    return f"{at[:10]} {at[11:16]} UTC"


def _thousands(number: float | None) -> str:
    return "–" if number is None else f"{number:,.0f}"


def _share(value: float | None) -> str:
    """Of something from 0 to 1, as people say it: 0.9985 stays apart from 1."""
    return "–" if value is None else f"{value:.4f}" if 0.99 < value < 1 else f"{value:.3f}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _took(begun: str, ended: str) -> str:
    try:
        seconds = (datetime.fromisoformat(ended[:19]) - datetime.fromisoformat(begun[:19])).total_seconds()
    except ValueError:
        return "an unknown time"
    return _duration(seconds)


def _counted(states: Mapping[str, Any]) -> str:
    return ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in states.items())
