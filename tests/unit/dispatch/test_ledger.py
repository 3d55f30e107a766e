"""The ledger on a real DynamoDB API: who may make which step, and that a repeated step is recognised."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from twinops import runs
from twinops.aws.ledger import Deployment, Ledger, LedgerError, Rollout
from twinops.runs import Claim, Run

LOG = {"log_stream": "r/1"}


def claim_of(run_id: str = "r1", *, idempotent: bool = True, concurrency: str = "allow") -> Claim:
    return Claim(
        run_id=run_id, workflow="w", git_sha="a" * 40, event_id=f"event-{run_id}", parameters="{}", timeout_s=60,
        idempotent=idempotent, concurrency=concurrency, log_group="g",
    )  # fmt: skip


def state_of(ledger: Ledger, run_id: str = "r1") -> tuple[str, int]:
    run = ledger.run(run_id)
    assert run is not None
    return run["state"], run["epoch"]


def test_a_run_from_claim_to_end(ledger: Ledger) -> None:
    assert ledger.run("r1") is None
    assert ledger.claim(claim_of(), dispatcher="d1") == 1
    started = ledger.start("r1", 1, runner="a", **LOG)
    assert started is not None
    assert (started["state"], started["log_stream"]) == ("RUNNING", "r/1")
    assert ledger.heartbeat("r1", 1, runner="a")
    outcome = {"exit_code": 3, "duration_s": 1.25, "reason": "it broke", "report_key": None}
    assert ledger.finish("r1", 1, runner="a", state="FAILED", outcome=outcome)
    run = ledger.run("r1")
    assert run is not None
    assert {name: run[name] for name in ("state", "exit_code", "duration_s", "reason")} == {  # type: ignore[literal-required]
        "state": "FAILED", "exit_code": 3, "duration_s": 1.25, "reason": "it broke"
    }  # fmt: skip
    assert "report_key" not in run
    assert run["claimed_at"] < run["started_at"] <= run["heartbeat_at"] < run["ended_at"]
    assert not {"pk", "sk", "kind", "at"} & set(run)


def test_a_hundred_duplicates_make_one_claim(ledger: Ledger) -> None:
    with ThreadPoolExecutor(20) as pool:
        epochs = list(pool.map(lambda n: ledger.claim(claim_of(), dispatcher=f"d{n}"), range(100)))
    assert sorted(filter(None, epochs)) == [1]


def test_the_same_request_may_claim_again(ledger: Ledger) -> None:
    assert ledger.claim(claim_of(), dispatcher="d1") == 1
    assert ledger.claim(claim_of(), dispatcher="d1") == 1, "Lambda retries with the same request id"
    assert ledger.claim(claim_of(), dispatcher="d2") is None


def test_a_released_claim_is_taken_over_at_its_epoch(ledger: Ledger) -> None:
    ledger.claim(claim_of(), dispatcher="d1")
    assert not ledger.release("r1", dispatcher="d2"), "only who holds it may release it"
    assert ledger.release("r1", dispatcher="d1")
    assert ledger.claim(claim_of(), dispatcher="d2") == 1
    assert ledger.claim(claim_of(), dispatcher="d3") is None


def test_a_started_run_cannot_be_claimed(ledger: Ledger) -> None:
    ledger.claim(claim_of(), dispatcher="d1")
    ledger.start("r1", 1, runner="a", **LOG)
    assert ledger.claim(claim_of(), dispatcher="d1") is None
    assert not ledger.release("r1", dispatcher="d1")


def test_only_one_runner_starts(ledger: Ledger) -> None:
    ledger.claim(claim_of(), dispatcher="d1")
    with ThreadPoolExecutor(10) as pool:
        started = list(pool.map(lambda n: ledger.start("r1", 1, runner=f"runner{n}", **LOG), range(10)))
    (run,) = filter(None, started)
    assert ledger.start("r1", 1, runner=run["runner"], **LOG), "a lost answer: its own work is recognised"


def test_a_stale_epoch_is_refused(ledger: Ledger) -> None:
    ledger.claim(claim_of(), dispatcher="d1")
    assert ledger.reclaim(_run(ledger), dispatcher="backup") == 2
    assert ledger.start("r1", 1, runner="old", **LOG) is None
    assert ledger.start("r1", 2, runner="new", **LOG)
    assert not ledger.heartbeat("r1", 1, runner="old")
    assert not ledger.finish("r1", 1, runner="old", state="SUCCEEDED", outcome={})
    assert state_of(ledger) == ("RUNNING", 2)


def test_reclaim_is_for_what_never_started(ledger: Ledger) -> None:
    ledger.claim(claim_of(), dispatcher="d1")
    seen = _run(ledger)
    assert ledger.reclaim(seen, dispatcher="b1") == 2
    assert ledger.reclaim(seen, dispatcher="b1") == 2, "a lost answer: its own work is recognised"
    assert ledger.reclaim(seen, dispatcher="b2") is None, "somebody else was faster"
    ledger.start("r1", 2, runner="a", **LOG)
    assert ledger.reclaim(_run(ledger), dispatcher="b3") is None


@pytest.mark.parametrize(("idempotent", "epoch"), [(True, 2), (False, None)])
def test_a_lost_run_is_repeated_only_if_idempotent(ledger: Ledger, idempotent: bool, epoch: int | None) -> None:
    ledger.claim(claim_of(idempotent=idempotent), dispatcher="d1")
    ledger.start("r1", 1, runner="a", **LOG)
    assert ledger.finish("r1", 1, runner="a", state="LOST", outcome={})
    assert ledger.reclaim(_run(ledger), dispatcher="watchdog") == epoch


def test_an_end_is_final_and_may_be_repeated(ledger: Ledger) -> None:
    ledger.claim(claim_of(), dispatcher="d1")
    ledger.start("r1", 1, runner="a", **LOG)
    assert ledger.finish("r1", 1, runner="a", state="SUCCEEDED", outcome={"exit_code": 0})
    assert ledger.finish("r1", 1, runner="a", state="SUCCEEDED", outcome={"exit_code": 0})
    assert not ledger.finish("r1", 1, runner="a", state="FAILED", outcome={"exit_code": 1})
    assert not ledger.heartbeat("r1", 1, runner="a")
    assert state_of(ledger) == ("SUCCEEDED", 1)
    with pytest.raises(ValueError, match="expected an end state"):
        ledger.finish("r1", 1, runner="a", state="CLAIMED", outcome={})


def test_an_end_is_unmailed_until_it_is_mailed(ledger: Ledger) -> None:
    ledger.claim(claim_of(), dispatcher="d1")
    ledger.start("r1", 1, runner="a", **LOG)
    ledger.finish("r1", 1, runner="a", state="SUCCEEDED", outcome={"exit_code": 0})
    assert _run(ledger)["unmailed"] is True
    assert [run["run_id"] for run in ledger.unsettled(since="2000")] == ["r1"]
    ledger.mailed("r1")
    assert "unmailed" not in _run(ledger)
    assert ledger.unsettled(since="2000") == []


def test_what_nobody_could_start_has_failed(ledger: Ledger) -> None:
    ledger.claim(claim_of(), dispatcher="d1")
    seen = _run(ledger)
    assert ledger.reclaim(seen, dispatcher="b1") == 2
    assert ledger.give_up(seen, reason="it is away") is None, "another attempt was begun meanwhile"
    assert ledger.give_up(_run(ledger), reason="it is away")
    run = _run(ledger)
    assert (run["state"], run["reason"], run["unmailed"]) == ("FAILED", "it could not be started: it is away", True)
    assert ledger.start("r1", 2, runner="late", **LOG) is None


def test_newest_runs_first(ledger: Ledger) -> None:
    for number in range(5):
        ledger.claim(claim_of(f"r{number}"), dispatcher="d")
    assert [run["run_id"] for run in ledger.runs(limit=3)] == ["r4", "r3", "r2"]


def test_newest_runs_of_a_kind_however_many_others_are_newer(ledger: Ledger) -> None:
    for number in range(6):
        claim = {**claim_of(f"r{number}"), "workflow": "other" if number > 2 else "w"}
        ledger.claim(claim, dispatcher="d")  # type: ignore[arg-type]
    ledger.give_up(_run(ledger, "r0"), reason="it is away")
    assert [run["run_id"] for run in ledger.runs(limit=2, workflow="w")] == ["r2", "r1"]
    assert [run["run_id"] for run in ledger.runs(limit=2, state="FAILED")] == ["r0"]
    assert ledger.runs(workflow="other", state="FAILED") == []


def test_deployments_of_a_device(ledger: Ledger) -> None:
    first = Deployment(
        device="device-001", release="v1", release_digest="d1", model_digest="m1", git_sha="a", state="committed",
        reason="", rollout_id="1", valid_from="2026-01-01T00:00:01.000000Z",
    )  # fmt: skip
    second = Deployment(**{**first, "release": "v2", "rollout_id": "2"})
    ledger.record_deployment(second, at="2026-01-02T00:00:00.000000Z")
    ledger.record_deployment(first, at="2026-01-01T00:00:00.000000Z")
    recorded = ledger.deployments("device-001")
    learnt_at = [deployment.pop("recorded_at") for deployment in recorded]
    assert recorded == [first, second]
    assert all("2026-01-02" < at <= runs.now() for at in learnt_at)
    assert ledger.deployments("device-002") == []

    ledger.record_deployment(Deployment(**{**first, "reason": "told again"}), at="2026-01-01T00:00:00.000000Z")
    again = ledger.deployments("device-001")[0]
    assert (again["reason"], again["recorded_at"]) == ("told again", learnt_at[0]), "it is not learnt anew"


def test_a_rollout_ends_once(ledger: Ledger) -> None:
    running = Rollout(
        rollout_id="1", release="v2", release_digest="d", git_sha="a", state="running", wave="edge_canary",
        started_at="2026-01-01T00:00:00.000000Z", devices="{}",
    )  # fmt: skip
    blocked = Rollout(**{**running, "state": "blocked", "reason": "alarm rate"})
    for rollout in (running, running, blocked, blocked):
        ledger.record_rollout(rollout)
    with pytest.raises(LedgerError, match="rollout 1: expected one that is running, it is blocked"):
        ledger.record_rollout(running)
    ledger.record_rollout(Rollout(**{**running, "rollout_id": "2", "started_at": "2026-01-02T00:00:00.000000Z"}))
    assert [(one["rollout_id"], one["state"]) for one in ledger.rollouts()] == [("2", "running"), ("1", "blocked")]


def test_a_missing_table_is_named(ledger: Ledger) -> None:
    missing = Ledger("twinops-nowhere-ledger", ledger._table._client)
    with pytest.raises(LedgerError, match="ledger twinops-nowhere-ledger: get_item: ResourceNotFoundException"):
        missing.run("r1")


def _run(ledger: Ledger, run_id: str = "r1") -> Run:
    run = ledger.run(run_id)
    assert run is not None
    return run
