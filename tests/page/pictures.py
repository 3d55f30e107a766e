"""Draws the pictures of docs/status-page.md, and measures its search.

Run as ``PYTHONPATH=module_utils python -m tests.page.pictures``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from sandbox.settings import CLONE
from tests.page import worlds
from tests.page.browser import PHONE, chromium, cost_of_search
from tests.page.drawing import drawn, several

IMAGES = CLONE / "docs/images"
DESK = {"viewport": {"width": 1280, "height": 1000}}
DARK = {"color_scheme": "dark"}


def main() -> None:
    with chromium() as browser, tempfile.TemporaryDirectory() as folder:

        def take(name: str, text: str, search: str = "", **options: Any) -> None:
            file = Path(folder) / f"{name}.html"
            file.write_text(text, "utf-8")
            context = browser.new_context(**options)
            page = context.new_page()
            page.goto(file.as_uri())
            if name == "status-page-thousand":
                cost = cost_of_search(browser, page)
                print(f"1,000 devices: a key costs {cost.cpu_ms:.0f} ms; painted after {cost.painted_ms:.0f} ms")
            if search:
                page.get_by_role("searchbox").fill(search)
                page.locator(".devices").scroll_into_view_if_needed()
                page.evaluate("document.querySelector('.devices').scrollIntoView()")
                page.wait_for_timeout(500)
            page.screenshot(path=IMAGES / f"{name}.png")
            context.close()

        take("status-page", drawn(worlds.troubled()), **DESK)
        take("status-page-dark", several(), **DESK, **DARK)
        take("status-page-phone", drawn(worlds.troubled()), **PHONE)
        take("status-page-phone-devices", drawn(worlds.troubled(1000)), "device-0", **PHONE, **DARK)
        take("status-page-thousand", drawn(worlds.troubled(1000)), "silent v1", **DESK)
        take("status-page-empty", drawn(worlds.empty()), **DESK)
        take("status-page-partial", drawn(worlds.partial()), **DESK)


if __name__ == "__main__":
    main()
