"""Runs of one workflow that may not be beside each other: who starts, who waits, who is next."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from twinops.aws.ledger import Ledger, LedgerError
from twinops.runs import Claim


def admit(ledger: Ledger, run_id: str, concurrency: str = "queue", dispatcher: str = "d") -> str:
    """Claim a run and ask whether it may start."""
    claim = Claim(
        run_id=run_id, workflow="w", git_sha="a" * 40, event_id=run_id, parameters="{}", timeout_s=60,
        idempotent=True, concurrency=concurrency, log_group="g",
    )  # fmt: skip
    assert ledger.claim(claim, dispatcher=dispatcher)
    return ledger.admit(claim, dispatcher=dispatcher)


def state(ledger: Ledger, run_id: str) -> str:
    run = ledger.run(run_id)
    assert run is not None
    return run["state"]


def following(ledger: Ledger, run_id: str) -> str | None:
    """Whose turn it is after a run that has ended."""
    run = ledger.pass_turn("w", run_id, dispatcher="next")
    return run["run_id"] if run else None


def test_they_start_in_the_order_in_which_they_came(ledger: Ledger) -> None:
    assert [admit(ledger, name) for name in ("r1", "r2", "r3")] == ["ADMITTED", "QUEUED", "QUEUED"]
    assert [state(ledger, name) for name in ("r1", "r2", "r3")] == ["CLAIMED", "QUEUED", "QUEUED"]
    assert following(ledger, "r1") == "r2"
    assert state(ledger, "r2") == "CLAIMED"
    assert admit(ledger, "r4") == "QUEUED", "also when nobody is at work just now"
    assert [following(ledger, name) for name in ("r2", "r3", "r4")] == ["r3", "r4", None]
    assert admit(ledger, "r5") == "ADMITTED"


def test_one_that_forbids_company_is_skipped(ledger: Ledger) -> None:
    assert [admit(ledger, name, "forbid") for name in ("r1", "r2")] == ["ADMITTED", "SKIPPED"]
    run = ledger.run("r2")
    assert run is not None
    assert (run["state"], run["reason"]) == ("SKIPPED", "run r1 was at work (concurrency: forbid)")
    assert following(ledger, "r1") is None
    assert admit(ledger, "r3", "forbid") == "ADMITTED"


def test_one_that_allows_company_needs_no_turn(ledger: Ledger) -> None:
    assert [admit(ledger, name, "allow") for name in ("r1", "r2")] == ["ADMITTED", "ADMITTED"]
    assert ledger.turns.turn("w") == {}


def test_asking_again_changes_nothing(ledger: Ledger) -> None:
    admit(ledger, "r1")
    admit(ledger, "r2")
    assert ledger.turns.take("w", "r1")
    assert ledger.turns.queue_up("w", "r2")
    assert ledger.turns.turn("w")["queue"] == ["r2"]
    assert following(ledger, "r1") == "r2"
    assert following(ledger, "r1") is None, "its turn is over already"
    assert ledger.turns.turn("w")["holder"] == "r2"


def test_two_hundred_at_once_are_one_at_work_and_a_queue(ledger: Ledger) -> None:
    names = [f"r{number}" for number in range(200)]
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda name: admit(ledger, name), names))
    assert sorted(answers) == ["ADMITTED"] + ["QUEUED"] * 199
    first = names[answers.index("ADMITTED")]
    order, waiting = [first], ledger.turns.turn("w")["queue"]
    while (name := following(ledger, order[-1])) is not None:
        order.append(name)
    assert order == [first, *waiting]
    assert sorted(order) == sorted(names)


def test_a_run_that_ends_while_another_queues_up_never_leaves_it_waiting_for_nobody(ledger: Ledger) -> None:
    """At every end, the new one is either admitted or called up by who ended."""
    with ThreadPoolExecutor(2) as pool:
        for number in range(20):
            admit(ledger, f"old{number}")
            ended = pool.submit(following, ledger, f"old{number}")
            came = pool.submit(admit, ledger, f"new{number}")
            called, admitted = ended.result(), came.result()
            assert (called == f"new{number}") != (admitted == "ADMITTED"), (called, admitted)
            assert state(ledger, f"new{number}") == "CLAIMED"
            assert following(ledger, f"new{number}") is None


def test_a_cancelled_run_is_passed_over(ledger: Ledger) -> None:
    for name in ("r1", "r2", "r3", "r4"):
        admit(ledger, name)
    assert ledger.cancel("r2", by="Ada")["state"] == "CANCELLED"
    assert ledger.turns.turn("w")["queue"] == ["r3", "r4"]
    ledger._change_run("r3", {"state": "CANCELLED"}, condition="attribute_exists(pk)", values={})
    assert following(ledger, "r1") == "r4", "also one whose canceller died before it left the queue"


def test_who_cancels_is_noted_and_what_has_ended_cannot_be_cancelled(ledger: Ledger) -> None:
    admit(ledger, "r1")
    ledger.start("r1", 1, runner="a", log_stream="r1/1")
    asked = ledger.cancel("r1", by="Ada")
    assert (asked["state"], asked["cancelled_by"]) == ("RUNNING", "Ada")
    told = ledger.heartbeat("r1", 1, runner="a")
    assert told is not None
    assert told["cancelled_by"] == "Ada"
    ledger.finish("r1", 1, runner="a", state="CANCELLED", outcome={"reason": "cancelled by Ada"})
    with pytest.raises(LedgerError, match="run r1: expected one that waits or is at work, it has ended as CANCELLED"):
        ledger.cancel("r1", by="Ada")
    with pytest.raises(LedgerError, match="run r9: expected one that waits or is at work, there is none"):
        ledger.cancel("r9", by="Ada")


def test_the_backup_may_start_a_run_whose_turn_came_and_nobody_started(ledger: Ledger) -> None:
    admit(ledger, "r1")
    admit(ledger, "r2")
    assert ledger.turns.pass_on("w", "r1") == "r2"  # and whoever did that died before it called r2 up
    waiting = ledger.run("r2")
    assert waiting is not None
    assert waiting["state"] == "QUEUED"
    assert ledger.reclaim(waiting, dispatcher="b") == 2
    assert ledger.call_up("r2", dispatcher="late") is None


def test_held_turns_are_found(ledger: Ledger) -> None:
    assert list(ledger.turns.held()) == []
    admit(ledger, "r1")
    assert [turn["holder"] for turn in ledger.turns.held()] == ["r1"]
    following(ledger, "r1")
    assert list(ledger.turns.held()) == []
