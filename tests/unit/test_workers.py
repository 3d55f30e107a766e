from __future__ import annotations

import os
import signal
from types import SimpleNamespace

import pytest
from twinops import workers


def test_a_play_may_say_a_number_for_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    class Action:
        def _compute_environment_string(self, into: dict[str, object]) -> None:
            into.update(AWS_MAX_ATTEMPTS=5, AWS_REGION="eu-central-1")

    monkeypatch.setattr(workers.ctypes, "CDLL", lambda *_, **__: SimpleNamespace(prctl=lambda *_: 0))
    for name in ("AWS_MAX_ATTEMPTS", "AWS_REGION"):
        monkeypatch.setenv(name, "before")
    workers.work_as_a_module(Action())
    assert (os.environ["AWS_MAX_ATTEMPTS"], os.environ["AWS_REGION"]) == ("5", "eu-central-1")


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
