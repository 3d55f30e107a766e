"""A thousand devices through plan, waves, gates and table: pure code, so it is the growth of that code, not of SSH.

The fleet is simulated: what each device says of itself follows from its number. Times are CPU-seconds of this process.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from twinops import device_table, gate, rollout

DEVICES = 1000
OLD, NEW = "1" * 64, "2" * 64
NAMES = [f"device-{number:04d}" for number in range(1, DEVICES + 1)]
WAVES = {"canary": NAMES[:50], "early": NAMES[50:350], "fleet": NAMES[350:]}
CHAMPION = {"release": "v1", "manifest_sha256": OLD, "hold_out": {"records": 9800, "alarms": 686}}
RECORDS_A_DAY = 50 * 86400
ALARM_SHARE = 0.07
BUDGET = {"budget_percent": {"failed": 2, "unreachable": 5, "timed_out": 1, "never_reported": 1}}

Statuses = dict[str, dict[str, Any] | None]


def runs(digest: str, *, records: int, alarm_share: float = ALARM_SHARE, health: str = "ok") -> dict[str, Any]:
    """A device on which the release with ``digest`` runs since ``records`` records."""
    return {
        "release": "v2" if digest == NEW else "v1",
        "release_digest": digest,
        "phase": "committed",
        "target": None,
        "waiting": None,
        "problems": [],
        "slot": "a",
        "history": [{"at": "2026-11-23T00:00:00Z", "release_digest": digest, "outcome": "committed", "reason": None,
                     "rollout_id": "r1"}],
        "health": {
            "status": health,
            "reason": "the model crashed",
            "release_digest": digest,
            "records": records,
            "alarms": round(records * alarm_share),
            "errors": 0,
            "latency_ms": {"p50": 1.0, "p99": 2.0},
        },
    }  # fmt: skip


def broken(number: int) -> dict[str, Any] | None:
    """What a device says on which the new release did not come to run: each kind of trouble for another device."""
    rolled_back = runs(OLD, records=900)
    rolled_back["history"].append({"at": "2026-11-23T01:00:00Z", "release_digest": NEW, "outcome": "rolled_back",
                                   "reason": "the service failed", "rollout_id": "r1"})  # fmt: skip
    open_transaction = {**runs(OLD, records=900), "phase": "probing", "target": {"release_digest": NEW}}
    never = {**runs(OLD, records=0), "release": None, "release_digest": None, "history": [], "health": None}
    kinds: tuple[dict[str, Any] | None, ...] = (rolled_back, {"unreachable": True}, open_transaction, never, None)
    return kinds[number % len(kinds)]


def plan(statuses: Mapping[str, Any], **changes: Any) -> rollout.Plan:
    arguments: dict[str, Any] = {
        "release": "v2",
        "release_digest": NEW,
        "current": CHAMPION,
        "hold_out": {"records": 9800, "alarms": 690},
        "waves": WAVES,
        "statuses": statuses,
        "rollouts": [],
        "now": "2026-11-23T00:00:00.000000Z",
        "retry_blocked": False,
        "min_records": 500,
    }
    return rollout.make_plan(**{**arguments, **changes})


def judge(found: rollout.Plan, wave: str, statuses: Mapping[str, Any]) -> gate.Verdict:
    return gate.judge(
        wave=found.waves[wave],
        rollout=rollout.waves_up_to(found.waves, wave),
        statuses=statuses,
        release_digest=NEW,
        fleet_size=len(found.devices),
        baseline=found.baseline,
        policy=gate.parse_policy(BUDGET),
    )


def roll_out(before: Statuses, becomes: Callable[[int], dict[str, Any] | None]) -> tuple[list[gate.Verdict], Statuses]:
    """Wave after wave as ``edge.yml`` does it, until a gate does not pass; ``becomes``: device number -> its status."""
    found, statuses, verdicts = plan(before), dict(before), []
    for wave in rollout.WAVES:
        for device in found.waves[wave]:
            if device in found.due:
                statuses[device] = becomes(int(device.rpartition("-")[2]))
        verdicts.append(judge(found, wave, statuses))
        if verdicts[-1].verdict != gate.PASS:
            break
    return verdicts, statuses


@contextmanager
def within_cpu_s(limit_s: float) -> Iterator[None]:
    began = time.process_time()
    yield
    used_s = time.process_time() - began
    assert used_s < limit_s, f"{used_s:.1f} CPU-s for {DEVICES} devices, {limit_s:g} allowed"


def healthy(records: int = RECORDS_A_DAY) -> Statuses:
    return {device: runs(OLD, records=records) for device in NAMES}


def test_a_rollout_to_a_thousand_devices_that_ran_for_a_day_takes_seconds() -> None:
    """The last gate compares 4.3 thousand million records with as many."""
    with within_cpu_s(10):
        verdicts, statuses = roll_out(healthy(), lambda number: runs(NEW, records=RECORDS_A_DAY))
        results = {device: {"device_status": status} for device, status in statuses.items()}
        lines = device_table.table(results, {device: wave for wave in WAVES for device in WAVES[wave]}, {})
    assert [verdict.verdict for verdict in verdicts] == [gate.PASS] * 3
    assert [len(verdict.devices) for verdict in verdicts] == [50, 350, DEVICES]
    assert verdicts[-1].metrics["records"] == DEVICES * RECORDS_A_DAY
    assert sum(line.startswith("device-") for line in lines) == DEVICES


@pytest.mark.parametrize(
    ("every", "last_wave", "verdict", "reason"),
    [
        (100, "fleet", gate.PASS, ""),
        (25, "fleet", gate.FAIL, "16 of 1000 devices never reported, 10 allowed (device-0075: no release ever ran"),
        (10, "early", gate.FAIL, "14 of 1000 devices never reported, 10 allowed"),
        (1, "canary", gate.FAIL, "20 of 1000 devices never reported, 10 allowed"),
    ],
    ids=["every 100th", "every 25th", "every 10th", "every one"],
)
def test_each_kind_of_trouble_counts_against_its_own_budget(
    every: int, last_wave: str, verdict: str, reason: str
) -> None:
    """Every so many devices are in one of five kinds of trouble, of which two are of not reporting."""

    def becomes(number: int) -> dict[str, Any] | None:
        return broken(number // every) if number % every == 0 else runs(NEW, records=400)

    with within_cpu_s(10):
        verdicts, _ = roll_out(healthy(), becomes)
    last = verdicts[-1]
    assert (rollout.WAVES[len(verdicts) - 1], last.verdict) == (last_wave, verdict)
    assert reason in "; ".join(last.reasons)
    trouble = len(last.devices) // every
    counted = Counter(last.devices.values())
    assert counted == Counter(
        {
            "ok": len(last.devices) - trouble,
            "failed": trouble // 5,
            "unreachable": (trouble + 4) // 5,
            "timed_out": (trouble + 3) // 5,
            "never_reported": (trouble + 2) // 5 + (trouble + 1) // 5,
        }
    )


def test_a_model_that_sees_nothing_is_stopped_at_the_canary_and_taken_back_there_only() -> None:
    verdicts, statuses = roll_out(healthy(), lambda number: runs(NEW, records=11, alarm_share=0))
    assert (len(verdicts), verdicts[0].verdict) == (1, gate.FAIL)
    assert "alarm rate 0.00% (0 of 550 records" in verdicts[0].reasons[0]
    assert rollout.to_roll_back(NAMES, statuses, NEW) == NAMES[:50]


def test_devices_that_were_off_are_due_alone_however_many_they_are() -> None:
    rng = random.Random(5)  # noqa: S311
    off = set(rng.sample(NAMES, 200))
    statuses: Statuses = {device: runs(OLD if device in off else NEW, records=100) for device in NAMES}
    found = plan(statuses, current={**CHAMPION, "manifest_sha256": NEW})
    assert (set(found.devices), found.is_trial, found.baseline) == (off, False, None)
    silent = plan(
        {**statuses, **{device: {"unreachable": True} for device in off}}, current={**CHAMPION, "manifest_sha256": NEW}
    )
    assert silent.rollout_id is None


def test_the_same_statuses_in_another_order_give_the_same_plan_and_verdicts() -> None:
    def becomes(number: int) -> dict[str, Any] | None:
        return broken(number // 30) if number % 30 == 0 else runs(NEW, records=400 + number % 7)

    shuffled = list(healthy().items())
    random.Random(7).shuffle(shuffled)  # noqa: S311
    assert roll_out(dict(shuffled), becomes)[0] == roll_out(healthy(), becomes)[0]
    assert plan(dict(shuffled)) == plan(healthy())
