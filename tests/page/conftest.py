"""The status page in a real browser: the system's Chromium, one process for all tests."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from twinops.overview.model import Read

from page.documents import Environment
from page.render import html
from sandbox import setup
from tests.page import worlds

ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
FOR_EVER_H = 24 * 365 * 100
"""Until a page is stale, in tests about something else."""


def drawn(*reads: Read, stale_after_h: float = FOR_EVER_H) -> str:
    """The page about what was read."""
    documents = [worlds.as_document(read) for read in reads]
    return html([Environment(made["env"], made) for made in documents], stale_after_h=stale_after_h)


@dataclass
class Shown:
    """A page in the browser, what its console said and what it asked for."""

    page: Any
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser. Playwright has an environment of its own, of the same Python; its folder is lent to this one."""
    program = setup.chromium()
    if program is None:
        pytest.skip(f"the tests of the status page need one of {', '.join(setup.CHROMIUM)} on PATH")
    if not setup.is_complete(setup.PAGE):
        pytest.skip("Playwright is not set up; `make setup-dev` does it where a Chromium is installed")
    packages = sysconfig.get_path("purelib", vars={"base": str(setup.PAGE.path)})
    sys.path.append(packages)
    try:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
            yield browser
            browser.close()
    finally:
        sys.path.remove(packages)


@pytest.fixture
def show(chromium: Any, tmp_path: Path) -> Iterator[Callable[..., Shown]]:
    """``show(html)``: the page, in a window of its own. Whatever it asks for besides itself is refused and noted."""
    contexts = []

    def shown(text: str, **options: Any) -> Shown:
        file = tmp_path / f"page-{len(contexts)}.html"
        file.write_text(text, "utf-8")
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, "locale": "en-GB", **options})
        contexts.append(context)
        page = context.new_page()
        result = Shown(page)
        page.on("console", lambda message: result.console.append(message.text))
        page.on("pageerror", lambda error: result.console.append(str(error)))
        page.on("request", lambda request: result.requests.append(request.url))
        page.goto(file.as_uri())
        return result

    yield shown
    for context in contexts:
        context.close()
