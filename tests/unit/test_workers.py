from __future__ import annotations

import os
import signal

import pytest
from twinops import workers


@pytest.mark.parametrize("stopping", [signal.SIGINT, signal.SIGTERM])
def test_what_is_printed_is_printed_as_a_whole(stopping: signal.Signals) -> None:
    happened: list[str] = []
    before = signal.signal(stopping, lambda *_: happened.append("stopped"))
    try:
        with workers.uninterrupted():
            os.kill(os.getpid(), stopping)
            happened.append("printed")
        assert happened == ["printed", "stopped"]
        os.kill(os.getpid(), stopping)
        assert happened[2:] == ["stopped"], "and from then on it stops at once"
    finally:
        signal.signal(stopping, before)
