"""One job at a time: who waits, who gives up, who takes over, and who does not begin."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline.local import locks
from pipeline.tools import CLONE, PipelineError

HOLDER = """
import sys, time
from pathlib import Path
from pipeline.local import locks
with locks.held(Path(sys.argv[1]), "staging", "pipeline 1, deploy-staging", timeout_s=1, clear=print):
    print("held", flush=True)
    time.sleep(60)
"""


def held(folder: Path, holder: str, timeout_s: float = 5, cleared: list[str] | None = None):  # type: ignore[no-untyped-def]
    clear = cleared.append if cleared is not None else lambda _: None
    return locks.held(folder, "staging", holder, timeout_s=timeout_s, clear=clear)


def start_holder(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        cwd=CLONE,
        env={**os.environ, "PYTHONPATH": f"{CLONE}/module_utils:{CLONE}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_waits_and_says_so(tmp_path: Path) -> None:
    order = []

    def first() -> None:
        with held(tmp_path, "first"):
            began.set()
            time.sleep(0.5)
            order.append("first")

    began = threading.Event()
    thread = threading.Thread(target=first)
    thread.start()
    assert began.wait(5)
    with held(tmp_path, "second") as message:
        order.append("second")
    thread.join(5)
    assert order == ["first", "second"]
    assert message.startswith("lock staging: waited 0.")


def test_a_lock_that_is_free_is_had_at_once(tmp_path: Path) -> None:
    for _ in range(2):
        with held(tmp_path, "somebody") as message:
            assert message == ""


def test_who_waits_for_too_long_does_not_begin(tmp_path: Path) -> None:
    with start_holder(tmp_path) as holder:
        with pytest.raises(PipelineError, match=r"more than 0.4 s; nothing was started"), held(tmp_path, "me", 0.4):
            raise AssertionError
        holder.kill()


def test_a_lock_that_is_free_waits_for_whose_turn_it_is(tmp_path: Path) -> None:
    turns = iter([False, False, True])
    with locks.held(
        tmp_path, "staging", "me", timeout_s=5, clear=lambda _: None, is_turn=lambda: next(turns)
    ) as message:
        assert message.startswith("lock staging: waited 0.")
    assert list(turns) == []


def test_whose_turn_does_not_come_does_not_begin(tmp_path: Path) -> None:
    with (
        pytest.raises(PipelineError, match=r"more than 0.4 s; nothing was started"),
        locks.held(tmp_path, "staging", "me", timeout_s=0.4, clear=lambda _: None, is_turn=lambda: False),
    ):
        raise AssertionError
    with held(tmp_path, "whose turn it is") as message:
        assert message == ""


def test_what_a_lost_holder_left_is_cleared_first(tmp_path: Path) -> None:
    with start_holder(tmp_path) as holder:
        os.kill(holder.pid, signal.SIGKILL)
    cleared: list[str] = []
    with held(tmp_path, "next", cleared=cleared) as message:
        assert cleared == ["pipeline 1, deploy-staging"]
        assert "pipeline 1, deploy-staging was lost while it had it" in message
    with held(tmp_path, "after", cleared=cleared) as message:
        assert (message, len(cleared)) == ("", 1)


def test_where_what_is_left_does_not_go_nobody_begins(tmp_path: Path) -> None:
    with start_holder(tmp_path) as holder:
        os.kill(holder.pid, signal.SIGKILL)

    def survive(_: str) -> None:
        raise PipelineError("its processes do not end")

    for _ in range(2):  # the second time as well: the record stays
        with (
            pytest.raises(PipelineError, match="do not end"),
            locks.held(tmp_path, "staging", "next", timeout_s=1, clear=survive),
        ):
            raise AssertionError


@pytest.mark.parametrize("text", ["garbage", '{"nobody": 1}', "[]"])
def test_a_record_that_cannot_be_read_lets_nobody_in(tmp_path: Path, text: str) -> None:
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks/staging.json").write_text(text)
    with pytest.raises(PipelineError, match="nothing was started"), held(tmp_path, "me"):
        raise AssertionError


def test_a_folder_that_cannot_be_written_lets_nobody_in(tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("a file")
    with pytest.raises(PipelineError, match="nothing was started"), held(tmp_path, "me"):
        raise AssertionError


def test_the_record_names_the_holder(tmp_path: Path) -> None:
    with held(tmp_path, "pipeline 7, deploy-staging"):
        record = json.loads((tmp_path / "locks/staging.json").read_text())
    assert record == {"holder": "pipeline 7, deploy-staging", "process": os.getpid()}
    assert (tmp_path / "locks/staging.json").read_text() == ""
