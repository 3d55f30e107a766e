"""`make bench-rollout`: a model of 50 MB, of which 1 % changed, onto N devices, beside the usual playbook.

Each contender in turn brings the same devices, each a real sshd with the real service on it, from v1 to v2, on one
machine and in one go: ratios mean something, the figures themselves swell under load. docs/bench.md explains.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from twinops import release, slots

from sandbox import devices, processes
from sandbox.settings import CLONE, HEALTH_PORT, REGION, SSH_PORT, Settings, load
from tests.bench import measure, report
from tests.edge.release_world import Publisher
from tests.edge.test_delta import whole_file_encodings

HOME = CLONE / ".sandbox-bench-rollout"
RESULTS = CLONE / "build/bench/rollout.json"
PLAYBOOKS = CLONE / "tests/bench/peer/rollout"
MODEL_BYTES = 50 << 20
CHANGED_SHARE = 0.01
TIMEOUT_S = 1800
MARKER = "TWINOPS_BENCH_ROLLOUT"
THEN_DISCONNECT = """
"$@"; code=$?
date +%s.%N > "$ENDED"
for socket in "$CONTROL"/*; do ssh -q -O exit -o ControlPath="$socket" device; done 2> /dev/null
exit $code
"""
"""Runs a playbook, notes when it ended, and has its connections end: each says then how much went through it."""
TRANSFERRED = re.compile(r"Transferred: sent (\d+), received (\d+) bytes")
PING, COPY, PEER, OURS, NO_OP = "ping", "copy", "peer", "twinops", "twinops, nothing to do"
CONTENDERS = (PING, COPY, PEER, OURS, NO_OP)
ANSWERS = {True: "yes", False: "NO", None: "not measured"}


class BenchError(Exception):
    """A contender did not do what it should, so its figures mean nothing."""


@dataclass(frozen=True)
class Measurement:
    """One run. CPU and memory are the controller's; bytes are what ssh sent and received, per device."""

    contender: str
    devices: int
    change: str
    wall_s: float
    cpu_s: float
    memory_mb: float
    sent_bytes: float
    received_bytes: float
    pushed_bytes: float | None = None
    smaller_encoding_bytes: float | None = None
    """The changed model by itself, in the smaller of the two encodings of the issue, applied to all of it at once."""


# -- the model ----------------------------------------------------------------------------------------------------


def model(weights: np.ndarray[Any, Any]) -> bytes:
    """A model that has ``weights`` to carry, and needs hardly any of them for an answer."""
    nodes = [
        helper.make_node("Gather", ["weights", "first"], ["zero"]),
        helper.make_node("Slice", ["records", "start", "end", "axis"], ["column"]),
        helper.make_node("Mul", ["column", "zero"], ["nothing"]),
        helper.make_node("Slice", ["records", "start", "two", "axis"], ["pair"]),
        helper.make_node("Softmax", ["pair"], ["probabilities"]),
        helper.make_node("Greater", ["column", "nothing"], ["is_large"]),
        helper.make_node("Cast", ["is_large"], ["column_label"], to=TensorProto.INT64),
        helper.make_node("Squeeze", ["column_label", "axis"], ["label"]),
    ]
    values = {
        "weights": weights,
        "first": np.array([0], dtype=np.int64),
        "start": np.array([0], dtype=np.int64),
        "end": np.array([1], dtype=np.int64),
        "two": np.array([2], dtype=np.int64),
        "axis": np.array([1], dtype=np.int64),
    }
    graph = helper.make_graph(
        nodes,
        "large",
        [helper.make_tensor_value_info("records", TensorProto.FLOAT, [None, 9])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2]),
        ],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


def weights(change: str | None) -> np.ndarray[Any, Any]:
    """Float32 as of a trained model; 1 % of its bytes changed in one place, or scattered as after retraining."""
    found = np.random.default_rng(1).normal(0, 0.02, MODEL_BYTES // 4).astype("<f4")
    found[0] = 0
    raw, generator, count = found.view("u1"), np.random.default_rng(2), int(MODEL_BYTES * CHANGED_SHARE)
    if change == "one place":
        raw[len(raw) // 3 : len(raw) // 3 + count] = generator.integers(0, 256, count, dtype="u1")
    elif change == "scattered":
        places = 4 + generator.choice(len(raw) - 4, count, replace=False)
        raw[places] ^= generator.integers(1, 256, count, dtype="u1")
    return found


def bundle(version: str, content: bytes) -> tuple[release.Manifest, dict[str, bytes]]:
    """A release of the real service with this model."""
    records = np.random.default_rng(3).normal(0, 1, (8, 9)).astype(np.float32)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    labels, probabilities = session.run(["label", "probabilities"], {"records": records})
    golden = {"records": records.tolist(), "labels": labels.tolist(), "probabilities": probabilities.tolist()}
    training = {"data_version": "bench", "rows": {"held_out": 1}, "metrics": {"alarm_rate": 0.5}}
    files = {
        "model.onnx": content,
        "golden.json": json.dumps(golden).encode(),
        "training.json": json.dumps(training).encode(),
    }
    named = {"name": "bench", "trainer": "none", "parameters": {}}
    config = {"stall_s": 60}  # 25 devices load the model at once, on two cores
    data = {"version": version, "description": "bench", "model": named, "config": config}
    spec = release.parse_release(data, release.release_path(version))
    process = CLONE / "edge/process"
    sources = {path.relative_to(process).as_posix(): path.read_bytes() for path in sorted(process.rglob("*.py"))}
    whole = release.bundle_files(spec, files, sources)
    return release.make_manifest(spec, whole, git_sha="0" * 40, inputs=version, data_version="bench"), whole


# -- the fleet ----------------------------------------------------------------------------------------------------


class Fleet:
    """N devices as the sandbox has them, enrolled, and the releases to bring there."""

    def __init__(self, settings: Settings, change: str) -> None:
        self.settings, self.change = settings, change
        self.devices = [devices.Device(settings, number) for number in range(1, settings.devices + 1)]
        self.publisher = Publisher(settings.home / f"releases-{change.replace(' ', '-')}")
        bundles = {version: bundle(version, model(weights(at))) for version, at in (("v1", None), ("v2", change))}
        self.files = {version: files for version, (_, files) in bundles.items()}
        self.releases = {version: self.publisher.publish_bundle(*made) for version, made in bundles.items()}
        self.manifests = {version: manifest.to_bytes() for version, (manifest, _) in bundles.items()}
        self.smaller_encoding_bytes = min(
            whole_file_encodings(*(self.files[version]["model.onnx"] for version in ("v1", "v2")))
        )
        self.archive = settings.home / "v2.tar"
        self._write_archive()

    def _write_archive(self) -> None:
        folder = self.settings.home / "v2"
        write(folder, {**self.files["v2"], release.MANIFEST: self.manifests["v2"]})
        with tarfile.open(self.archive, "w") as archive:
            archive.add(folder, ".")
        shutil.copy(folder / "model.onnx", self.settings.home / "model.onnx")

    def inventory(self) -> Path:
        path = self.settings.home / "hosts.json"
        hosts = {device.name: self._variables(device) for device in self.devices}
        path.write_text(json.dumps({"all": {"hosts": hosts}}))
        return path

    def _variables(self, device: devices.Device) -> dict[str, Any]:
        home = self.settings.home
        records = home / "records.csv"
        return {
            "ansible_host": device.address,
            "ansible_port": SSH_PORT,
            "ansible_user": devices.login_user(),
            "ansible_ssh_private_key_file": str(home / "id_ed25519"),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={home}/known_hosts -o GlobalKnownHostsFile=none",
            "ansible_control_path_dir": str(home / "cp"),
            "ansible_remote_tmp": str(device.root / "tmp/ansible"),
            "ansible_python_interpreter": os.path.realpath(sys.executable),
            "twinops_env": self.publisher.env,
            "edge_root": str(device.edge_root),
            "edge_address": device.address,
            "edge_health_port": HEALTH_PORT,
            "edge_service_manager": "supervisord",
            "edge_python": os.path.realpath(sys.executable),
            "edge_wheelhouse": str(CLONE / ".cache/wheels/device"),
            "edge_wheel_cache": str(CLONE / ".cache/uv"),
            "edge_tuf_root": str(self.publisher.folder / "metadata/root.json"),
            "edge_sensor": {"kind": "csv_replay", "path": str(records), "rate_hz": 5},
            "edge_upload_bucket": "nowhere",
            "edge_aws_environment": {"AWS_REGION": REGION, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
        }

    def reset(self) -> None:
        """Every device runs v1, committed, and has seen no metadata."""
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(self._reset, self.devices))
            list(pool.map(lambda device: wait_for(device, "v1"), self.devices))
            list(pool.map(settle, self.devices))

    def _reset(self, device: devices.Device) -> None:
        root = device.edge_root
        for name in ("slots", "releases", "incoming", "tuf"):
            shutil.rmtree(root / name, ignore_errors=True)
        for name in ("state.json", "copied.onnx"):
            (root / name).unlink(missing_ok=True)
        for name in ("incoming", "tuf/metadata"):
            (root / name).mkdir(parents=True)
        shutil.copy(self.publisher.folder / "metadata/root.json", root / "tuf/metadata/root.json")
        write(root / "slots/a", {**self.files["v1"], release.MANIFEST: self.manifests["v1"]})
        runs = {"slot": "a", "release": "v1", "release_digest": self.releases["v1"]["release_digest"]}
        state = {**slots.empty_state(), **runs, "phase": slots.COMMITTED}
        (root / "state.json").write_text(json.dumps(state))
        (root / "current").unlink(missing_ok=True)
        (root / "current").symlink_to("slots/a")
        control = [root / "venv/bin/supervisorctl", "-c", root / "supervisord.conf", "restart", "twinops-inference"]
        subprocess.run(control, check=True, stdout=subprocess.DEVNULL, timeout=120)


def write(folder: Path, files: dict[str, bytes]) -> None:
    for path, content in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)


def wait_for(device: devices.Device, version: str, timeout_s: float = 180) -> None:
    """Until the service on the device is ok with this release."""

    def is_ok() -> bool:
        answer = health(device)
        return (answer.get("status"), answer.get("release")) == ("ok", version)

    if not processes.wait_until(is_ok, timeout_s=timeout_s, interval_s=0.2):
        raise BenchError(f"{device.name}: expected {version} to be ok within {timeout_s:g} s, got {health(device)}")


def health(device: devices.Device) -> dict[str, Any]:
    """What the service says of itself; empty where it gives no answer."""
    url = f"http://{device.address}:{HEALTH_PORT}/health"
    with suppress(OSError, ValueError), urllib.request.urlopen(url, timeout=5) as response:
        return dict(json.load(response))
    return {}


def settle(device: devices.Device, timeout_s: float = 180) -> None:
    """Until the service on the device has tried to upload, for which it loads 25 MB: what follows is everyday life."""
    if not processes.wait_until(lambda: health(device).get("upload_error"), timeout_s=timeout_s, interval_s=0.5):
        raise BenchError(f"{device.name}: expected an upload to be tried within {timeout_s:g} s: {health(device)}")


@contextmanager
def fleet(settings: Settings, changes: Sequence[str]) -> Iterator[list[Fleet]]:
    """The devices, switched on and enrolled; ended and removed afterwards."""
    shutil.rmtree(settings.home, ignore_errors=True)
    settings.home.mkdir(parents=True)
    (settings.home / "records.csv").write_text(
        "record_id," + ",".join(f"f{number}" for number in range(1, 10)) + "\n"
        + "".join(f"r-{row}," + ",".join(str(row % 7 - 3 + number) for number in range(9)) + "\n" for row in range(999))
    )  # fmt: skip
    found = [Fleet(settings, change) for change in changes]
    try:
        devices.prepare_keys(settings, found[0].devices)
        devices.power_on(found[0].devices)
        run(found[0], "enrol.yml", settings.home / "enrol.log")
        yield found
    finally:
        for device in found[0].devices:
            devices.power_off(device)
        shutil.rmtree(settings.home, ignore_errors=True)


# -- measuring ----------------------------------------------------------------------------------------------------


def run(fleet: Fleet, playbook: str, log: Path, **variables: Any) -> tuple[measure.Usage, float, tuple[int, int]]:
    """(usage, most memory in MB, bytes that ssh sent and received) of one run of a playbook, cold."""
    marker, wire = uuid.uuid4().hex, fleet.settings.home / "wire.log"
    wire.unlink(missing_ok=True)
    extra = fleet.settings.home / "variables.json"
    extra.write_text(json.dumps(variables))
    ended, control = fleet.settings.home / "ended", fleet.settings.home / "cp"
    argv = [
        "sh",
        "-c",
        THEN_DISCONNECT,
        "sh",
        str(CLONE / ".venv/bin/ansible-playbook"),
        "-i",
        str(fleet.inventory()),
        "-e",
        f"@{extra}",
    ]
    environment = {
        "PATH": f"{CLONE}/.venv/bin:{os.environ['PATH']}",
        "HOME": str(fleet.settings.home),
        "ANSIBLE_CONFIG": str(CLONE / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_SSH_ARGS": f"{ssh_arguments()} -v -E {wire}",  # ssh says how much it sent when a connection ends
        "ENDED": str(ended),
        "CONTROL": str(control),
        MARKER: marker,
    }
    began = time.time()
    with sampled(marker) as memory:
        usage = measure.run(
            [*argv, str(PLAYBOOKS / playbook)], environment=environment, directory=CLONE, log=log, timeout_s=TIMEOUT_S
        )
    if usage.exit_code:
        raise BenchError(f"{playbook} exited with {usage.exit_code}; its output: {log}\n{log.read_text()[-2000:]}")
    counts = [tuple(map(int, found)) for found in TRANSFERRED.findall(wire.read_text(errors="replace"))]
    usage = replace(usage, wall_s=float(ended.read_text()) - began)
    return usage, memory[0], (sum(sent for sent, _ in counts), sum(received for _, received in counts))


def ssh_arguments() -> str:
    """Those of ansible.cfg."""
    lines = (CLONE / "ansible.cfg").read_text().splitlines()
    return next(line.partition("=")[2].strip() for line in lines if line.startswith("ssh_args"))


@contextmanager
def sampled(marker: str) -> Iterator[list[float]]:
    """The most memory (proportional set size, MB) of everything with this marker, looked at twice a second."""
    most, done = [0.0], threading.Event()

    def look() -> None:
        while not done.wait(0.5):
            found = processes.with_environment(f"{MARKER}={marker}")
            most[0] = max(most[0], sum(pss_mb(process.pid) for process in found))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield most
    finally:
        done.set()
        watcher.join()


def pss_mb(pid: int) -> float:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def trial(fleet: Fleet, contender: str, logs: Path, probe_s: float) -> Measurement:
    """One contender on a fleet that runs v1 (what has nothing to do: v2)."""
    bundle = {**fleet.publisher.deliverable(fleet.releases["v2"]["release_digest"])}
    ours: tuple[str, dict[str, Any]] = ("twinops.yml", {"bundle": bundle, "probe_s": probe_s})
    playbook, variables = {
        PING: ("ping.yml", {}),
        COPY: ("copy.yml", {"model": str(fleet.settings.home / "model.onnx")}),
        PEER: (
            "peer.yml",
            {"version": "v2", "archive": str(fleet.archive), "sha256": release.sha256(fleet.archive.read_bytes())},
        ),
        OURS: ours,
        NO_OP: ours,
    }[contender]
    log = logs / f"rollout-{contender.replace(', ', '-').replace(' ', '-')}.log"
    for folder in ("push", "deltas"):
        if contender == OURS:
            shutil.rmtree(fleet.publisher.folder / folder, ignore_errors=True)  # made in the measured time
    usage, memory_mb, (sent, received) = run(fleet, playbook, log, **variables)
    if contender in (PEER, OURS, NO_OP):
        for device in fleet.devices:
            wait_for(device, "v2", timeout_s=5)
    pushed, smaller = None, None
    if contender == OURS:
        smaller = float(fleet.smaller_encoding_bytes)
        pushed = float(sum(path.stat().st_size for path in (fleet.publisher.folder / "push").glob("*.part")))
    count = len(fleet.devices)
    figures = (usage.wall_s, usage.cpu_s, memory_mb, sent / count, received / count, pushed, smaller)
    return Measurement(contender, count, fleet.change, *figures)


# -- the tables ---------------------------------------------------------------------------------------------------


def table(measurements: Sequence[Measurement]) -> list[Sequence[object]]:
    rows: list[Sequence[object]] = [
        ("N", "change", "contender", "wall s", "CPU s", "memory MB", "sent MB/device", "of it release MB")
    ]
    for found in measurements:
        pushed = "" if found.pushed_bytes is None else f"{found.pushed_bytes / 1e6:.3f}"
        seconds = (f"{found.wall_s:.1f}", f"{found.cpu_s:.1f}", f"{found.memory_mb:.0f}")
        rows.append((found.devices, found.change, found.contender, *seconds, f"{found.sent_bytes / 1e6:.3f}", pushed))
    return rows


def verdicts(measurements: Sequence[Measurement]) -> list[report.Verdict]:
    """The targets of the issue: those of time for 50 devices, the others for every number."""
    found = []
    for change, count in dict.fromkeys((m.change, m.devices) for m in measurements):
        by = compared(measurements, change, count)
        where, ours = f"N={count}, {change}", by.get(OURS)
        if ours is None:
            continue
        found += _ratios(where, ours, by, is_judged=count >= 50)
        if ours.smaller_encoding_bytes:
            ratio = ours.sent_bytes / ours.smaller_encoding_bytes
            target = f"{where}: all that is sent at most 1.1x the smaller encoding"
            found.append(report.Verdict(target, f"{ratio:.2f}x", ratio <= 1.1))
        found.append(
            report.Verdict(f"{where}: at most 550 MB of memory", f"{ours.memory_mb:.0f} MB", ours.memory_mb <= 550)
        )
    return found


def _ratios(where: str, ours: Measurement, by: dict[str, Measurement], *, is_judged: bool) -> Iterator[report.Verdict]:
    targets: Sequence[tuple[str, str, float, Callable[[Measurement], float]]] = (
        (PEER, "wall", 7, lambda m: m.wall_s),
        (PEER, "CPU", 7, lambda m: m.cpu_s),
        (COPY, "wall", 1, lambda m: m.wall_s),
        (COPY, "CPU", 1, lambda m: m.cpu_s),
    )
    for contender, name, at_least, figure in targets:
        if contender in by:
            ratio = figure(by[contender]) / figure(ours)
            reached = ratio >= at_least if is_judged else None
            target = f"{where}: {name} at least {at_least:g}x below {contender}"
            yield report.Verdict(target + ("" if is_judged else " (at N=50)"), f"{ratio:.1f}x", reached)


def main() -> int:
    arguments = parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that the devices are ended, too
    settings = load(
        {"SANDBOX_HOME": str(HOME), "SANDBOX_NETWORK": arguments.network, "SANDBOX_DEVICES": str(arguments.devices)}
    )
    measure.adopt_orphans()
    logs = arguments.results.parent
    logs.mkdir(parents=True, exist_ok=True)
    load_before, measurements = os.getloadavg()[0], []
    try:
        with fleet(settings, arguments.changes.split(",")) as fleets:
            for number, one in enumerate(fleets):
                for contender in arguments.contenders.split(";"):
                    if number and contender in (PING, COPY, PEER):
                        continue  # they send the same, wherever the change is
                    if contender != NO_OP:
                        one.reset()
                    measurements.append(trial(one, contender, logs, arguments.probe_s))
                    print(report.table(table(measurements)), "\n", flush=True)
    except (BenchError, measure.MeasureError) as error:
        print(f"bench-rollout: {error}", file=sys.stderr)
        return 1
    arguments.results.write_text(json.dumps([asdict(measurement) for measurement in measurements], indent=1))
    found = verdicts(measurements)
    judged = [(verdict.target, verdict.measured, ANSWERS[verdict.reached]) for verdict in found]
    print(report.table([("target", "measured", "reached"), *judged]))
    print(f"\nLoad of the machine: {load_before:.1f} before, {os.getloadavg()[0]:.1f} after. All: {arguments.results}")
    return 0 if all(verdict.reached is not False for verdict in found) else 1


def compared(measurements: Sequence[Measurement], change: str, count: int) -> dict[str, Measurement]:
    """Ours with this change beside the others, for whom it makes no difference."""
    same = [m for m in measurements if m.devices == count and (m.change == change or m.contender not in (OURS, NO_OP))]
    return {m.contender: m for m in same}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-rollout", description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=10, help="how many, 1-100")
    parser.add_argument("--changes", default="one place,scattered", help="where the changed 1 %% is")
    parser.add_argument("--contenders", default=";".join(CONTENDERS), help="separated by semicolons")
    parser.add_argument(
        "--probe-s", type=float, default=0, help="how long twinops watches the service; the peer does not"
    )
    parser.add_argument("--network", default="127.26.0.0", help="of the devices' addresses")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file with every figure")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
