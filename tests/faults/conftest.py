"""One deployed sandbox for all tests of faults in dispatch."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.support import LAMBDA_RETRY_S, Faults
from tests.sandbox.support import OwnSandbox


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
    own, folder = OwnSandbox(), Path(tempfile.mkdtemp(prefix="tw-faults-"))
    own.environment["SANDBOX_LAMBDA_RETRY_S"] = str(LAMBDA_RETRY_S)
    made = None
    try:
        made = Faults(own, folder)
        yield made
    finally:
        if made is not None:
            made.proxy.close()
        own.remove()
        shutil.rmtree(folder)
