"""Devices as people see them."""

from __future__ import annotations

from typing import Any

import pytest
from twinops import device_table
from twinops.deployments import Period

V2 = Period(
    release="v2", release_digest="d" * 64, model_digest="m" * 64, git_sha="c" * 40, data_version="a" * 64,
    since="2026-11-23T04:10:00.000000Z", rollout_id="r2", recorded_at="2026-11-23T04:11:00.000000Z",
)  # fmt: skip
HEALTH = {
    "status": "ok", "reason": None, "records": 3203, "spool_depth": 7, "spool_dropped": 0, "upload_error": None,
    "last_upload_at": "2026-11-23T04:59:56.300000Z",
}  # fmt: skip


def asked(*, ahead_s: float = 0.4, health: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    said = {
        "release": "v2", "slot": "b", "model_sha256": "m" * 64, "git_sha": "c" * 40, "data_version": "a" * 64,
        "phase": "committed", "reason": None, "target": None, "health": {**HEALTH, **(health or {})},
        "disk": {"total_bytes": 9e10, "free_bytes": 7.3e10}, "clock": "2026-11-23T05:00:00.000000Z", "problems": [],
    }  # fmt: skip
    return {"device_status": {**said, **status}, "clock_ahead_s": ahead_s}


def test_what_is_wrong_stands_below_the_device() -> None:
    dropped = {"status": "failed", "reason": "model: NaN", "spool_dropped": 12, "upload_error": "S3: 503"}
    results = {
        "d1": asked(),
        "d2": asked(ahead_s=-900.0, health=dropped, phase="staged", target={"release": "v3"}, reason="v3: disk full"),
        "d3": {"unreachable": True},
        "d4": asked(release=None, slot=None, model_sha256=None, git_sha=None, data_version=None, health=None),
        "d5": asked(release=None, slot=None, phase="not enrolled", health=None, problems=["device.json: missing"]),
        "d6": asked(problems=["state.json: Permission denied"]),
    }
    results["d4"]["device_status"]["health"] = results["d5"]["device_status"]["health"] = None
    waves = {"d1": "canary", "d2": "early"}
    lines = device_table.table(results, waves, {"d3": V2})
    assert [" ".join(line.split()) for line in lines] == [
        "device wave release slot health model commit data records spool uploaded clock disk free",
        "d1 canary v2 b ok mmmmmmmm cccccccc aaaaaaaa 3203 7 3.7 s ago right 73.0 GB",
        "d2 early v2 b failed mmmmmmmm cccccccc aaaaaaaa 3203 7 3.7 s ago 15 min behind 73.0 GB",
        "doing: v3: staged",
        "why: v3: disk full",
        "health: model: NaN",
        "upload: S3: 503",
        "spool: 12 decisions dropped",
        "d3 - - - unreachable - - - - - - - -",
        "known: v2 since 2026-11-23 04:10:00 UTC, says the ledger",
        "d4 - - - no release - - - - - - right 73.0 GB",
        "d5 - - - not enrolled mmmmmmmm cccccccc aaaaaaaa - - - right 73.0 GB",
        "d6 - v2 b ok mmmmmmmm cccccccc aaaaaaaa 3203 7 3.7 s ago right 73.0 GB",
        "problem: state.json: Permission denied",
        "6 devices: 2 ok, 1 failed, 1 unreachable, 1 no release, 1 not enrolled. Releases: 3 v2, 3 none.",
    ]


def test_no_devices() -> None:
    assert device_table.table({}, {}, {}) == ["no devices"]


@pytest.mark.parametrize(("status", "ok"), [({}, True), ({"phase": "probing", "target": {"release": "v3"}}, False)])
def test_a_device_in_a_transaction_is_not_ok_yet(status: dict[str, Any], ok: bool) -> None:
    assert device_table.is_ok(asked(**status)) == ok


def test_history_is_newest_first_and_says_why_it_went_back() -> None:
    v3 = Period(**{**vars(V2), "release": "v3", "until": "2026-11-23T04:30:00.000000Z", "rollout_id": ""})
    back = Period(**{**vars(V2), "since": "2026-11-23T04:30:00.000000Z", "why": "too many alarms", "git_sha": ""})
    assert device_table.history("d1", [v3, back]) == [
        "from (UTC)           until (UTC)          release  model     commit    data      rollout",
        "2026-11-23 04:30:00  now                  v2       mmmmmmmm  -         aaaaaaaa  r2",
        "    back:    too many alarms",
        "2026-11-23 04:10:00  2026-11-23 04:30:00  v3       mmmmmmmm  cccccccc  aaaaaaaa  by itself",
    ]
    assert device_table.history("d1", []) == ["d1: no release ever ran on it"]


def test_answer() -> None:
    moment = "2026-11-23T04:20:00.000000Z"
    assert device_table.answer("d1", moment, None, moment) == [
        "d1 at 2026-11-23 04:20:00 UTC, as known at 2026-11-23 04:20:00 UTC: no release"
    ]
    lines = device_table.answer("d1", moment, V2)
    assert lines[:2] == [
        "d1 at 2026-11-23 04:20:00 UTC: v2",
        "    from:    2026-11-23 04:10:00 until now",
    ]
    assert lines[-2:] == ["    rollout: r2", "    learnt:  2026-11-23 04:11:00"]
