"""The status page in a real browser: the system's Chromium, one process for all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.page import browser


@dataclass
class Shown:
    """A page in the browser, what its console said and what it asked for."""

    page: Any
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser."""
    if missing := browser.missing():
        pytest.skip(missing)
    with browser.chromium() as running:
        yield running


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
