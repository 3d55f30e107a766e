"""The table ``fault -> outcome``: what was broken on purpose, and what came of it. ``make faults`` prints it.

A test that passes adds its rows: by ``@pytest.mark.fault(fault, outcome)`` what it asserts, by the fixture ``outcome``
what it measured.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

PROPERTY = "fault"


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("fault"):
        item.user_properties.append((PROPERTY, mark.args))


@pytest.fixture
def outcome(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """``outcome(fault, what came of it)``: a line of the table, if the test passes."""
    return lambda fault, text: request.node.user_properties.append((PROPERTY, (fault, text)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if "fault" not in config.getoption("markexpr").replace("not faults", ""):
        return
    passed = terminalreporter.stats.get("passed", [])
    found = (tuple(row) for report in passed for name, row in report.user_properties if name == PROPERTY)
    rows = list(dict.fromkeys(found))  # a fault that several cases show is one row
    if not rows:
        return
    width = max(len(fault) for fault, _ in rows)
    terminalreporter.section("fault -> outcome")
    for fault, text in rows:
        terminalreporter.write_line(f"{fault:<{width}}  {text}")
