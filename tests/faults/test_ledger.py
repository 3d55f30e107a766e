"""The ledger is away, or throttles, while runs start, work and end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.proxy import AWAY, THROTTLED
from tests.faults.support import END_WITHIN_S, LAMBDA_RETRY_S, OUTAGE_S, Faults
from tests.sandbox.support import eventually

Outcome = Callable[[str, str], None]


@pytest.mark.parametrize("mode", [AWAY, THROTTLED])
def test_an_outage(faults: Faults, outcome: Outcome, mode: str) -> None:
    def send(when: str, sleep_s: int = 0) -> str:
        return faults.send(
            faults.payload(f"{mode} {when}", "sleep", sleep_s, timeout_s=300, runner={"heartbeat_s": 0.5})
        )

    sent = {
        "while the script works": send("while the script works", OUTAGE_S + 15),
        "at the end": send("at the end", 4),
    }
    for when in sent:
        eventually(lambda when=when: faults.count(f"{mode} {when}") == 1)
    faults.end_standby()  # a new Python can be seen before it has taken the run
    sent["when it is rung for"] = send("when it is rung for")
    eventually(lambda: faults.processes_of_twin(sent["when it is rung for"]))
    refused_before = faults.proxy.refused
    with faults.outage(mode, for_s=OUTAGE_S):
        sent["at the start"] = send("at the start")
    assert faults.proxy.refused > refused_before + 10, "everybody found it shut, again and again"
    for when, run_id in sent.items():
        run = faults.end(run_id, END_WITHIN_S + 3 * LAMBDA_RETRY_S)
        assert (run["state"], run["exit_code"]) == ("SUCCEEDED", 0)
        assert faults.count(f"{mode} {when}", "executions") == 1
        assert run["epoch"] == 1 or when in ("when it is rung for", "at the start")
        what = "throttles" if mode == THROTTLED else "away"
        outcome(f"ledger {what} {when}, for {OUTAGE_S} s", f"SUCCEEDED, epoch {run['epoch']}; 1 effect, 1 mail")
