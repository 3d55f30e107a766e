"""One deployed sandbox for all tests of faults, and the table of what came of each fault."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox.settings import CLONE
from tests.faults.support import Faults
from tests.sandbox.support import OwnSandbox

TABLE = CLONE / "build/faults.jsonl"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of them are slow; what is looked for in all logs is looked for last."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.faults)
            item.add_marker(pytest.mark.sandbox)
    items.sort(key=lambda item: item.path == here / "test_afterwards.py")


@pytest.fixture(scope="session")
def faults() -> Iterator[Faults]:
    TABLE.unlink(missing_ok=True)
    own, folder = OwnSandbox(), Path(tempfile.mkdtemp(prefix="tw-faults-"))
    made = None
    try:
        made = Faults(own, folder)
        yield made
    finally:
        if made is not None:
            made.proxy.close()
        own.remove()
        shutil.rmtree(folder)


@pytest.fixture
def outcome(request: pytest.FixtureRequest) -> Iterator[Callable[[str, str], None]]:
    """``outcome(fault, what came of it)``: a line of the table, if the test passes."""
    lines: list[tuple[str, str]] = []
    yield lambda fault, text: lines.append((fault, text))
    TABLE.parent.mkdir(exist_ok=True)
    with TABLE.open("a") as table:
        table.writelines(json.dumps(line) + "\n" for line in lines)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not TABLE.exists() or not any(
        "tests/faults" in report.nodeid for report in terminalreporter.stats.get("passed", [])
    ):
        return
    rows = [json.loads(line) for line in TABLE.read_text().splitlines()]
    width = max(len(fault) for fault, _ in rows)
    terminalreporter.section("fault -> outcome")
    for fault, text in rows:
        terminalreporter.write_line(f"{fault:<{width}}  {text}")
