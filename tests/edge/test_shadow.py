"""Shadow mode: the challenger is recorded and compared, and whatever it does, the champion is not disturbed."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twinops import release

from tests.edge.conftest import Device, wait_until
from tests.edge.models import answering, hanging_on_real_records

CONFIG = {"commit_interval_ms": 20, "stall_s": 1, "shadow_wait_ms": 50}


def shadowed(device: Device, challenger: bytes, **config: int) -> None:
    """Give the device's release a challenger."""
    path = device.slot / "manifest.json"
    item = {"name": "m", "version": "v9", "sha256": release.sha256(challenger)}
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "challenger": item}))
    (device.slot / "challenger.onnx").write_bytes(challenger)
    (device.slot / "config.json").write_text(json.dumps({**CONFIG, **config}))


def shadow(device: Device) -> dict[str, Any]:
    return dict(device.health().get("shadow", {}))


def decisions(device: Device) -> list[dict[str, Any]]:
    database = sqlite3.connect(device.root / "spool/decisions.db")
    rows = database.execute("SELECT lines FROM chunk ORDER BY first_seq").fetchall()
    database.close()
    return [json.loads(line) for (lines,) in rows for line in lines.splitlines()]


def children(device: Device) -> list[int]:
    assert device.process
    path = Path(f"/proc/{device.process.pid}/task")
    return [int(child) for task in path.iterdir() for child in (task / "children").read_text().split()]


def test_a_challenger_is_compared_and_recorded_and_not_acted_on(device: Device, trained: Callable[[str], Path]) -> None:
    shadowed(device, (trained("v1") / "model.onnx").read_bytes(), shadow_wait_ms=2000)
    device.start()
    health = wait_until(lambda: (h := device.health()).get("shadow", {}).get("records", 0) > 500 and h, 60)
    device.kill()
    found = health["shadow"]
    assert (found["status"], found["version"], found["failures"]) == ("ok", "v9", 0)
    assert found["agreed"] <= found["records"] <= health["records"]
    lines = decisions(device)
    both = [line for line in lines if "shadow_label" in line]
    assert len(both) > 400
    agreed = sum(line["label"] == line["shadow_label"] for line in both)
    assert agreed / len(both) == pytest.approx(found["agreed"] / found["records"], abs=0.1)
    assert {line["model_sha256"] for line in lines} == {device.model_sha256}, "the champion's decisions"
    assert list(both[0])[-1] == "shadow_label"


def test_the_alarms_of_a_challenger_are_not_those_of_the_service(
    device: Device, trained: Callable[[str], Path]
) -> None:
    champion = (trained("v3") / "model.onnx").read_bytes()
    device.release(champion)
    shadowed(device, (trained("v2") / "model.onnx").read_bytes())
    device.start()
    health = wait_until(lambda: (h := device.health()).get("shadow", {}).get("records", 0) > 300 and h, 60)
    assert health["shadow"]["alarms"] > 0
    assert health["shadow"]["champion_alarms"] <= health["alarms"] < health["shadow"]["alarms"]
    _, text = device.get("/metrics")
    assert "twinops_shadow_agreed_total" in text


def test_without_a_challenger_nothing_is_said_about_one(device: Device) -> None:
    device.start()
    assert "shadow" not in device.wait_for("ok")
    assert children(device) == []


@pytest.mark.fault("challenger that crashes, hangs or is no model", "said in health; the champion decides every record")
@pytest.mark.parametrize(
    ("challenger", "reason"),
    [
        (b"no model", "onnxruntime cannot load it"),
        (answering([0], [[1.0]]), "wrong shape"),
        (hanging_on_real_records(), "it did not answer within 1 s"),
    ],
    ids=["no model", "wrong shape", "hangs"],
)
def test_a_bad_challenger_never_disturbs_the_champion(device: Device, challenger: bytes, reason: str) -> None:
    shadowed(device, challenger)
    device.start()
    wait_until(lambda: reason in shadow(device).get("reason", ""), 60, reason)
    health = device.wait_for("ok")
    assert (health["shadow"]["status"], health["errors"]) == ("failed", 0)
    before = health["records"]
    wait_until(lambda: device.health()["records"] > before + 200)
    device.kill()
    assert [line["seq"] for line in decisions(device)] == list(range(1, len(decisions(device)) + 1))


@pytest.mark.fault("SIGKILL or SIGSTOP of the challenger", "said in health; the champion decides every record")
@pytest.mark.parametrize(
    ("number", "reason"), [(signal.SIGKILL, "it ended"), (signal.SIGSTOP, "did not answer")], ids=["kill", "stop"]
)
def test_a_challenger_that_dies_at_work(
    device: Device, trained: Callable[[str], Path], number: signal.Signals, reason: str
) -> None:
    shadowed(device, (trained("v2") / "model.onnx").read_bytes())
    device.start()
    wait_until(lambda: shadow(device).get("records", 0) > 50, 60)
    (child,) = children(device)
    os.kill(child, number)
    wait_until(lambda: reason in shadow(device).get("reason", ""), 20)
    assert device.wait_for("ok")["errors"] == 0
    assert children(device) == []


@pytest.mark.fault("SIGKILL of the service in shadow mode", "its challenger ends with it, also while it hangs")
def test_a_challenger_ends_with_its_champion(device: Device) -> None:
    shadowed(device, hanging_on_real_records(), stall_s=60)
    device.start()
    started = wait_until(lambda: (found := shadow(device)).get("status") == "ok" and found, 60)
    wait_until(lambda: shadow(device)["skipped"] > started["skipped"] + 100, 60)  # it is at work on its first batch
    (child,) = children(device)
    device.kill()
    wait_until(lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text(), 10)


def test_a_hanging_challenger_costs_the_champion_one_wait(device: Device) -> None:
    """In the loop itself: the first batch waits ``wait_s`` for it, the ones after it do not."""
    import numpy as np
    import settings
    from shadow import Shadow

    challenger = hanging_on_real_records()
    path = device.root / "challenger.onnx"
    path.write_bytes(challenger)
    watched = Shadow(settings.Challenger("v9", release.sha256(challenger)), path, 0.2, 60, 512)
    records, labels = np.ones((10, 9), dtype=np.float32), np.zeros(10, dtype=np.int64)
    try:
        give_up = time.monotonic() + 60
        while not watched.as_dict()["records"]:  # a record of zeros is answered at once
            assert time.monotonic() < give_up, watched.as_dict()
            watched.offer(records[:1] * 0)
            watched.labels(labels[:1])
            time.sleep(0.02)
        durations_s = []
        for _ in range(20):
            started_s = time.perf_counter()
            watched.offer(records)
            assert watched.labels(labels) is None
            durations_s.append(time.perf_counter() - started_s)
    finally:
        watched.close()
    assert durations_s[0] > 0.15
    assert sorted(durations_s)[-2] < 0.1, durations_s
