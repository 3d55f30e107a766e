"""The system's Chromium, driven by Playwright, which has an environment of its own (locks/page.in)."""

from __future__ import annotations

import statistics
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sandbox import setup

ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
PHONE = {"viewport": {"width": 390, "height": 844}}


def missing() -> str:
    """What it takes that is not here; empty where all is."""
    if setup.chromium() is None:
        return f"the status page is tried in a browser: expected one of {', '.join(setup.CHROMIUM)} on PATH"
    if not setup.is_complete(setup.PAGE):
        return "Playwright is not set up; `make setup-dev` does it where a Chromium is installed"
    return ""


@contextmanager
def chromium() -> Iterator[Any]:
    """The browser. The environment has the same Python as this one: its packages are lent while the browser runs."""
    packages = sysconfig.get_path("purelib", vars={"base": str(setup.PAGE.path)})
    sys.path.append(packages)
    try:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=setup.chromium(), args=list(ARGUMENTS))
            yield browser
            browser.close()
    finally:
        sys.path.remove(packages)


@dataclass(frozen=True)
class Cost:
    """Of a key in the search: what the browser computes for it, and when its result is painted."""

    cpu_ms: float
    painted_ms: float


def cost_of_search(browser: Any, page: Any) -> Cost:
    """Of eight keys: the average of the renderers' processor time, which other load does not change, and the median."""
    session = browser.new_browser_cdp_session()
    before = _renderer_s(session)
    took: list[float] = page.evaluate("""async () => {
        const search = document.querySelector('input[type=search]'), took = [];
        const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
        for (const words of ['d', 'de', 'device-9', 'device-99', 'v1', 'silent', 'nothing like it', '']) {
            await frame();
            const begin = performance.now();
            search.value = words;
            search.dispatchEvent(new Event('input'));
            await frame();
            took.push(performance.now() - begin);
        }
        return took;
    }""")
    cpu_ms = 1000 * (_renderer_s(session) - before) / len(took)
    session.detach()
    return Cost(cpu_ms, statistics.median(took))


def _renderer_s(session: Any) -> float:
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    return float(sum(process["cpuTime"] for process in processes if process["type"] == "renderer"))
