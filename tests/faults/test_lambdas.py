"""Functions that are killed, cut off, refused or not answered: retry, backup and watchdog make one run of it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from twinops.runs import FINISHED

from tests.faults.support import Faults, fault
from tests.sandbox.dispatching import NAMES
from tests.sandbox.support import eventually

Outcome = Callable[[str, str], None]

KILLED_AT = [
    ("claim", "before"),
    ("claim", "after"),
    ("admit", "after"),
    ("_presigned_url", "after"),
    ("Get", "after"),
    ("Post", "after"),
    ("Open", "after"),
    ("Receive", "after"),
    ("Send", "before"),
    ("Send", "after"),
    ("Close", "after"),
    ("run", "after"),
    ("Delete", "after"),
]
BOTH = (1, 2)
TOGETHER = 4


def every(step: str, when: str, do: str, *functions: str) -> list[dict[str, Any]]:
    """A fault in both attempts of each of the functions."""
    return [fault(step, when, do, function=function, attempts=BOTH) for function in functions]


CASES: dict[str, list[dict[str, Any]]] = {
    **{f"dispatch killed {when} {step}": [fault(step, when, "kill")] for step, when in KILLED_AT},
    "dispatch killed twice": every("Send", "before", "kill", "dispatch"),
    "dispatch killed twice, backup once": [
        *every("claim", "after", "kill", "dispatch"),
        fault("Receive", "after", "kill", function="backup"),
    ],
    "websocket dropped before the line": [fault("Send", "before", "drop")],
    "websocket dropped after the line": [fault("Send", "after", "drop")],
    "websocket dropped before each line": every("Send", "before", "drop", "dispatch"),
    "acknowledgement lost once": [fault("run", "after", "away")],
    "acknowledgement lost twice": every("run", "after", "away", "dispatch"),
    "answer to the claim lost": [fault("claim", "after", "away")],
}
FIRST_EPOCH = 1
UNNOTICED = {"websocket dropped after the line"}
TAKEN_OVER = {"dispatch killed twice", "dispatch killed twice, backup once", "websocket dropped before each line"}


@pytest.fixture(scope="module")
def sent(faults: Faults) -> dict[str, str]:
    """All cases, some at once; case -> run. None is idempotent: at most once is what is asked for.

    Were all of them at work together, this machine would be so slow that Lambda's time limit ends the second attempts.
    """

    def send(case: str) -> str:
        run_id = faults.send(faults.payload(case, faults=CASES[case]))
        faults.reach(run_id, *FINISHED)
        return run_id

    with ThreadPoolExecutor(TOGETHER) as pool:
        return dict(zip(CASES, pool.map(send, CASES), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_one_run_comes_of_it(faults: Faults, sent: dict[str, str], outcome: Outcome, case: str) -> None:
    run = faults.end(sent[case])
    assert (run["state"], run["exit_code"]) == ("SUCCEEDED", 0)
    assert run["epoch"] == (2 if case in TAKEN_OVER else FIRST_EPOCH)
    assert faults.count(case) == 1
    expected = 1 if case in UNNOTICED else 2
    eventually(lambda: faults.attempts(sent[case], "dispatch") == expected)  # the fault did happen; Lambda tried again
    by = "backup, epoch 2" if case in TAKEN_OVER else f"attempt {expected}, epoch 1"
    outcome(case, f"SUCCEEDED ({by}); 1 effect, 1 mail")


def test_killed_wherever_it_can_be(faults: Faults, outcome: Outcome) -> None:
    """Nobody is left but the watchdog, and it has the truth told."""
    wrong = every("Send", "before", "kill", "dispatch", "backup")
    run_id = faults.send(faults.payload("killed everywhere", faults=wrong))
    run = faults.end(run_id)
    assert (run["state"], "exit_code" in run, faults.count("killed everywhere")) == ("FAILED", False, 0)
    assert run["reason"].startswith("it could not be started: ")
    assert faults.attempts(run_id, "backup") == 2
    outcome("dispatch and backup killed, each twice", "FAILED, could not be started; 0 effects, 1 mail")


def test_one_event_delivered_a_hundred_times(faults: Faults, outcome: Outcome) -> None:
    payload = faults.payload("hundredfold")
    with ThreadPoolExecutor(25) as pool:
        run_ids = set(pool.map(lambda _: faults.send(payload), range(100)))
    assert len(run_ids) == 1
    run = faults.end(run_ids.pop())
    assert (run["state"], run["epoch"], faults.count("hundredfold", "executions")) == ("SUCCEEDED", 1, 1)
    eventually(lambda: faults.said("dispatch", run["run_id"], "duplicate") == 99, 60)
    assert faults.said("dispatch", run["run_id"], "started") == 1
    assert faults.count("hundredfold", "executions") == 1
    outcome("one event delivered 100 times at once", "SUCCEEDED, epoch 1, 99 duplicates; 1 effect, 1 mail")


def url(faults: Faults, *, expires_in_s: int, key: bytes | None = None) -> str:
    """A link as the sandbox's SageMaker signs it."""
    claim = f"{NAMES.twin('deployment')}.{int(time.time()) + expires_in_s}"
    key = key or (faults.own.settings.home / "keys/notebook-urls").read_bytes()
    token = f"{claim}.{hmac.new(key, claim.encode(), hashlib.sha256).hexdigest()}"
    return f"{faults.jupyter_url()}/tree?authToken={base64.urlsafe_b64encode(token.encode()).decode()}"


def test_links_that_are_not_taken(faults: Faults, outcome: Outcome) -> None:
    links = {"expired link": url(faults, expires_in_s=-1), "forged link": url(faults, expires_in_s=300, key=b"mine")}
    sent = {case: faults.send(faults.payload(case, faults=[fault("url", "", link)])) for case, link in links.items()}
    for case, run_id in sent.items():
        run = faults.end(run_id)
        assert (run["state"], run["epoch"], faults.count(case)) == ("SUCCEEDED", 1, 1)
        assert faults.attempts(run_id, "dispatch") == 2
        outcome(f"{case} once", "SUCCEEDED (retry with a new link, epoch 1); 1 effect, 1 mail")


def test_links_that_are_never_taken(faults: Faults, outcome: Outcome) -> None:
    forged = url(faults, expires_in_s=300, key=b"mine")
    run_id = faults.send(faults.payload("forged always", faults=every("url", "", forged, "dispatch", "backup")))
    run = faults.end(run_id)
    assert (run["state"], faults.count("forged always")) == ("FAILED", 0)
    assert "new terminal: expected HTTP 200, got 403; a bare Jupyter shows its login page" in run["reason"]
    assert "authToken" not in run["reason"]
    outcome("forged link always", "FAILED, login refused with 403; 0 effects, 1 mail")
