"""The service as a process: what it says about itself, whatever happens to it."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from errors import EdgeError
from health import Status
from loop import Loop, Parts

from tests.edge.conftest import Device, wait_until
from tests.edge.models import answering, hanging_on_real_records

HEALTH_KEYS = {
    *("status", "reason", "release", "release_digest", "model_sha256", "pid", "started_at", "records", "alarms"),
    *("errors", "latency_ms", "spool_depth", "spool_dropped", "last_upload_at", "upload_error", "clock_offset_s"),
}


def test_a_sound_release_is_ok_and_decides(device: Device) -> None:
    device.start()
    device.wait_for("ok")
    health = wait_until(lambda: (h := device.health())["records"] > 100 and h)
    assert set(health) == HEALTH_KEYS
    assert (health["release"], health["model_sha256"]) == ("v2", device.model_sha256)
    assert health["pid"] == device.process.pid
    assert health["spool_depth"] == health["records"]
    assert 0 < health["latency_ms"]["p50"] <= health["latency_ms"]["p99"] < 1000
    assert (health["errors"], health["reason"]) == (0, "")
    assert device.get()[0] == 200


def test_metrics_are_prometheus_text(device: Device) -> None:
    device.start()
    wait_until(lambda: device.health().get("records", 0) > 10)
    code, text = device.get("/metrics")
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert code == 200
    assert samples["twinops_up"] == "1"
    assert int(samples["twinops_records_total"]) > 10
    assert float(samples['twinops_latency_seconds{quantile="0.99"}']) > 0
    assert device.get("/other")[0] == 404


def test_spooled_decisions_are_as_documented(device: Device) -> None:
    device.start()
    wait_until(lambda: device.health().get("records", 0) > 10)
    device.kill()
    with sqlite3.connect(device.root / "spool/decisions.db") as database:
        ((lines,),) = database.execute("SELECT lines FROM chunk ORDER BY first_seq LIMIT 1").fetchall()
    database.close()
    first = json.loads(lines.splitlines()[0])
    keys = ["device", "seq", "record_id", "recorded_at", "release", "model_sha256", "label", "score"]
    assert list(first) == keys
    assert (first["device"], first["seq"], first["record_id"], first["release"]) == ("device-test", 1, "r-0", "v2")
    assert first["label"] in (0, 1)
    assert 0 <= first["score"] <= 1
    assert first["recorded_at"].endswith("Z")


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (answering([0], [[0.5, float("nan")]]), "a probability that is not between 0 and 1"),
        (answering([0], [[1.0]]), "wrong shape"),
        (b"no model", "onnxruntime cannot load it"),
    ],
)
def test_a_bad_model_is_said_and_decides_nothing(model: bytes, reason: str, device: Device) -> None:
    device.release(model)
    device.start()
    health = device.wait_for("failed")
    assert reason in health["reason"]
    assert device.get()[0] == 503
    assert reason in device.log
    assert (health["records"], health["spool_depth"]) == (0, 0)


@pytest.mark.fault("release that decides nothing", "the one after it starts with the same record")
def test_after_a_bad_release_no_record_is_missing(device: Device, trained: Callable[[str], Path]) -> None:
    good = (trained("v2") / "model.onnx").read_bytes()
    device.start()
    wait_until(lambda: device.health().get("records", 0) > 20)
    device.kill()
    # One answer, whatever is asked: sound for the single record of the trial, wrong for the batches of the sensor.
    device.release(answering([0], [[1.0, 0.0]]), release="bad")
    device.start()
    assert "wrong shape" in device.wait_for("failed")["reason"]
    device.kill()
    device.release(good)
    device.start()
    wait_until(lambda: device.health().get("records", 0) > 20)
    device.kill()
    decided = spooled(device)
    assert [line["seq"] for line in decided] == list(range(1, len(decided) + 1))
    assert [line["record_id"] for line in decided] == [f"r-{row % 1000}" for row in range(len(decided))]
    # A batch of one record may have been decided by the constant model; nothing else.
    assert {line["release"] for line in decided} <= {"v2", "bad"}


def spooled(device: Device) -> list[dict[str, Any]]:
    database = sqlite3.connect(device.root / "spool/decisions.db")
    rows = database.execute("SELECT lines FROM chunk ORDER BY first_seq").fetchall()
    database.close()
    return [json.loads(line) for (lines,) in rows for line in lines.splitlines()]


def test_a_model_that_takes_long_to_load_is_no_hanging_one_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    status, loading, stop = Status("v2", "digest", "sha256"), threading.Event(), threading.Event()
    status.stall_s = 0.05

    def open_parts() -> Parts:
        loading.wait(10)
        stop.set()
        raise EdgeError("no model")

    thread = Loop(open_parts, status, stop)
    thread.start()
    time.sleep(0.2)
    assert status.as_dict()["status"] == "starting"
    monkeypatch.setattr("health.LOADING_S", 0.1)
    assert status.as_dict()["reason"].startswith("no progress for 0 s")
    loading.set()
    thread.join(10)
    assert status.errors == 1


@pytest.mark.fault("model that hangs while it serves", "health says failed within stall_s")
def test_a_hanging_model_is_said_while_it_hangs(device: Device) -> None:
    device.release(hanging_on_real_records(), {"stall_s": 1, "commit_interval_ms": 20})
    device.start()
    health = device.wait_for("failed")
    assert "no progress for" in health["reason"]
    started_s = time.monotonic()
    device.process.send_signal(signal.SIGTERM)
    assert device.process.wait(15) == 0
    assert time.monotonic() - started_s < 10


def test_a_missing_sensor_is_said_and_recovers(device: Device) -> None:
    records = Path(device.settings["sensor"]["path"])
    records.rename(records.with_suffix(".away"))
    device.start()
    assert "No such file" in device.wait_for("failed")["reason"]
    records.with_suffix(".away").rename(records)
    device.wait_for("ok")
    wait_until(lambda: device.health()["records"] > 0)


def test_unreadable_records_count_as_errors(device: Device) -> None:
    device.write_records(5)
    with Path(device.settings["sensor"]["path"]).open("a") as file:
        file.write("broken,1,2\n" * 5)
    device.start()
    health = wait_until(lambda: (h := device.health()).get("errors", 0) >= 20 and h)
    assert health["status"] == "ok"
    assert abs(health["records"] - health["errors"]) <= 10


@pytest.mark.fault("disk that fails for a while", "said by health; no record is lost")
def test_a_disk_that_fails_for_a_while_is_said_and_costs_no_record(device: Device) -> None:
    device.start()
    wait_until(lambda: device.health().get("records", 0) > 20)
    database = sqlite3.connect(device.root / "spool/decisions.db", timeout=10, isolation_level=None)
    database.execute("CREATE TRIGGER t BEFORE INSERT ON chunk BEGIN SELECT RAISE(ABORT, 'no space'); END")
    health = device.wait_for("failed")
    assert "decisions.db: no space; expected a writable SQLite file" in health["reason"]
    database.execute("DROP TRIGGER t")
    database.close()
    device.wait_for("ok")
    wait_until(lambda: device.health()["records"] > health["records"] + 100)
    device.kill()
    decided = spooled(device)
    assert [line["record_id"] for line in decided] == [f"r-{row % 1000}" for row in range(len(decided))]


def test_a_full_spool_drops_the_oldest_and_says_so(device: Device) -> None:
    device.release((device.slot / "model.onnx").read_bytes(), {"spool_limit_records": 100, "commit_interval_ms": 10})
    device.configure(upload={"interval_s": 3600})
    device.start()
    health = wait_until(lambda: (h := device.health()).get("spool_dropped", 0) > 50 and h)
    assert health["spool_depth"] <= 100
    assert health["status"] == "ok"


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"comit_interval_ms": 1}, "comit_interval_ms: unknown key; expected one of commit_interval_ms, "),
        ({"max_batch_records": 0}, "max_batch_records: expected at least 1, got 0"),
        ({"stall_s": "soon"}, "stall_s: expected int, got 'soon'"),
    ],
)
def test_a_wrong_config_is_said(config: dict[str, Any], reason: str, device: Device) -> None:
    device.release((device.slot / "model.onnx").read_bytes(), config)
    device.start()
    assert reason in device.wait_for("failed")["reason"]


def test_sigterm_ends_it_in_order(device: Device) -> None:
    device.start()
    wait_until(lambda: device.health().get("records", 0) > 10)
    device.process.send_signal(signal.SIGTERM)
    assert device.process.wait(10) == 0
    assert device.log == ""


def test_a_port_in_use_is_one_line(device: Device) -> None:
    with socket.create_server(("127.0.0.1", device.port)):
        device.start()
        assert device.process.wait(20) == 1
    assert device.log.count("\n") == 1
    assert f"cannot listen on 127.0.0.1:{device.port}" in device.log


def test_a_second_service_on_the_same_folder_is_refused(device: Device, tmp_path: Path) -> None:
    device.start()
    device.wait_for("ok")
    first = device.process
    device.start()
    assert device.process.wait(20) == 1
    assert "another inference service runs on this folder" in device.log
    device.process = first


def test_settings_that_are_broken_are_one_line(device: Device) -> None:
    (device.root / "device.json").write_text('{"device": "d", "upload": {}}')
    device.start()
    assert device.process.wait(20) == 1
    assert device.log == f"{device.root}/device.json: env: expected str, got None\n"


def test_slow_clients_do_not_stop_others(device: Device) -> None:
    device.start()
    device.wait_for("ok")
    slow = [socket.create_connection(("127.0.0.1", device.port)) for _ in range(20)]
    answers = [threading.Thread(target=device.get) for _ in range(5)]
    started_s = time.monotonic()
    for answer in answers:
        answer.start()
    for answer in answers:
        answer.join(10)
    assert time.monotonic() - started_s < 3
    for connection in slow:
        connection.close()
