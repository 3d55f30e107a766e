"""The status page as people use it: in Chromium, by mouse, keyboard and screen reader, on a desk and on a phone."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.page import worlds
from tests.page.browser import PHONE, cost_of_search
from tests.page.conftest import Shown
from tests.page.drawing import FOR_EVER_H, drawn, several

Show = Callable[..., Shown]

SEARCH_CPU_MS = 100
"""What people feel as at once. Processor time, for both frames that a key asks for: other load does not change it."""


def visible_devices(page: Any) -> list[str]:
    return page.locator(".environment:not([hidden]) .devices tbody tr:not([hidden]) th").all_inner_texts()


def told(page: Any, text: str) -> None:
    """Wait for how many devices are shown."""
    page.locator(".devices .shown", has_text=re.compile(f"^{re.escape(text)}$")).wait_for()


def violations(page: Any) -> list[str]:
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{each['id']}: {node['html'][:120]}" for each in found for node in each["nodes"]]


PAGES: list[tuple[str, Callable[[], str], dict[str, Any]]] = [
    ("partial", lambda: drawn(worlds.partial()), {}),
    ("troubled, phone, dark", lambda: drawn(worlds.troubled()), {**PHONE, "color_scheme": "dark"}),
    ("several, one unreadable", several, {"color_scheme": "dark"}),
    ("empty", lambda: drawn(worlds.empty()), {}),
]


@pytest.mark.parametrize(("make", "options"), [case[1:] for case in PAGES], ids=[case[0] for case in PAGES])
def test_accessible_quiet_and_alone(show: Show, make: Callable[[], str], options: dict[str, Any]) -> None:
    shown = show(make(), **options)
    for details in shown.page.locator("details").all():
        details.evaluate("each => { each.open = true }")
    assert violations(shown.page) == []
    assert shown.console == []
    assert len(shown.requests) == 1, "it asks for nothing but itself"
    overflow = shown.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow == 0, "nothing has to be scrolled sideways"


def test_the_first_screen_says_what_is_wrong_and_leads_there(show: Show) -> None:
    page = show(drawn(worlds.troubled())).page
    assert page.locator(".answer h2").inner_text() == "3 things need somebody, 5 more to watch"
    assert page.locator(".answer").bounding_box()["y"] < 100
    first = page.locator(".answer .items li").first
    assert "1 of 6 devices failed" in first.inner_text()
    first.get_by_role("link").click()
    assert [name.splitlines()[0] for name in visible_devices(page)] == ["device-002"]
    assert page.locator(".devices .shown").inner_text() == "1 of 6 devices."
    assert page.url.endswith("#staging-devices")


def test_search_and_menus_narrow_each_other(show: Show) -> None:
    page = show(drawn(worlds.troubled(200))).page
    assert page.locator(".devices .shown").inner_text() == "The first 100 of 200 that fit, of 200 devices."
    search = page.get_by_role("searchbox")
    search.fill("device-02")
    told(page, "10 of 200 devices.")
    page.get_by_label("Wave").select_option("canary")
    told(page, "None of 200 devices fits.")
    page.get_by_role("button", name="Clear").click()
    assert search.input_value() == ""
    page.get_by_role("button", name="Show all 200").click()
    assert page.locator(".devices tbody tr:not([hidden])").count() == 200
    commit = worlds.release("v1")["git_sha"][:12]
    search.fill(f"{commit} silent")
    told(page, "4 of 200 devices.")


def test_keyboard_alone(show: Show) -> None:
    page = show(drawn(worlds.troubled())).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.type") == "search"
    page.keyboard.type("nan")
    told(page, "1 of 6 devices.")
    page.keyboard.press("Escape")
    told(page, "6 of 6 devices.")
    for _ in range(5):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('role')") == "region", "a table can be scrolled by keys"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
    assert [name.splitlines()[0] for name in visible_devices(page)][:2] == ["device-001", "device-002"]
    page.keyboard.press("Enter")
    assert visible_devices(page)[0].splitlines()[0] == "device-006"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "where the focus is can be seen"


def test_one_environment_at_a_time_the_worst_first(show: Show) -> None:
    page = show(several()).page
    shown = ".environment:not([hidden])"
    assert page.locator(shown).get_attribute("id") == "staging"
    assert page.locator("[aria-current]").inner_text().splitlines()[0] == "staging"
    page.get_by_role("link", name=re.compile("^sandbox")).click()
    page.locator("#sandbox").wait_for()
    assert "Everything is fine" in page.locator(shown).locator(".answer").inner_text()
    page.get_by_role("link", name=re.compile("^production")).click()
    page.locator("#production").wait_for()
    assert "The config profile (twinops-production) could not be found" in page.locator(shown).inner_text()


def test_what_devices_and_logs_say_stays_text(show: Show) -> None:
    text = drawn(worlds.hostile())
    shown = show(text)
    assert "owned" not in shown.page.title().split("<script>")[0]
    assert shown.page.evaluate("document.scripts.length") == 1
    assert shown.page.locator("img").count() == 0
    assert worlds.HOSTILE.split("\u202e")[0] in shown.page.locator(".devices tbody").inner_text()
    assert shown.console == []
    assert len(shown.requests) == 1


def test_an_escape_that_was_forgotten_runs_no_script_either(show: Show) -> None:
    """The page's own policy: what is not the one script of that digest does not run."""
    injected = """<img src="nowhere" onerror="document.title='owned'"><script>document.title = 'owned'</script>"""
    shown = show(drawn(worlds.healthy()).replace("<main>", f"<main>{injected}"))
    assert shown.page.title() != "owned"
    assert any("Content Security Policy" in line for line in shown.console)


def test_times_are_ages_with_their_zone_and_an_old_page_says_so(show: Show) -> None:
    fresh = show(drawn(worlds.healthy()), timezone_id="Asia/Kolkata").page
    time = fresh.locator(".devices tbody time").first
    assert time.inner_text() == "1 min ago"
    assert time.get_attribute("title").startswith("2026-11-23 07:59 UTC – 23 Nov 2026, 13:29:00 GMT+5:30")
    assert fresh.locator(".asof time").inner_text() == "2026-11-23 08:00 UTC"
    assert not fresh.locator("#stale").is_visible()
    old = worlds.NOW.timestamp() * 1000 + 3 * 86_400_000
    context = fresh.context
    context.add_init_script(f"Date.now = () => {old}")
    fresh.reload()
    assert fresh.locator("#age").inner_text() == "3 days ago"
    stale = show(drawn(worlds.healthy(), stale_after_h=-FOR_EVER_H)).page
    assert stale.locator("#stale").is_visible()


def test_without_script_everything_is_there(show: Show) -> None:
    page = show(drawn(worlds.troubled(120)), java_script_enabled=False).page
    assert page.locator(".devices tbody tr").count() == 120
    assert page.locator(".devices tbody tr").last.is_visible()
    assert not page.locator(".filter").is_visible(), "no control that does nothing"
    assert page.locator(".devices tbody time").first.inner_text().endswith(" UTC")


def test_a_thousand_devices_are_searched_at_once(show: Show, chromium: Any) -> None:
    text = drawn(worlds.troubled(1000))
    page = show(text).page
    cost = cost_of_search(chromium, page)
    assert page.locator(".devices .shown").inner_text() == "The first 100 of 1,000 that fit, of 1,000 devices."
    assert 0 < cost.cpu_ms < SEARCH_CPU_MS
    assert len(text) < 1_100_000


def test_the_page_is_the_same_for_the_same_documents(tmp_path: Path) -> None:
    assert drawn(worlds.troubled()) == drawn(worlds.troubled())
