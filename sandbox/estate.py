"""What runs in the sandbox, as a person's tools see it: the ledger, the bus, the devices. Reads; never repairs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

from twinops.aws.ledger import Ledger, Rollout
from twinops.names import Names
from twinops.runs import FINISHED, Run

from sandbox.account import session
from sandbox.devices import Device
from sandbox.settings import ACCOUNT, CLONE, Settings

NAMES = Names("sandbox", ACCOUNT)
SSH_TIMEOUT_S = 20


class EstateError(Exception):
    """The estate is not as the demo expects it; the message says what was expected."""


class Estate:
    """The sandbox of ``settings``, reached the way a person reaches it: boto3 with its profile, ssh with its config."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def environment(self) -> dict[str, str]:
        """The environment for programs: our tools first, the sandbox's AWS and nothing of the caller's."""
        mine = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        path = f"{CLONE / '.venv/bin'}{os.pathsep}{mine.get('PATH', os.defpath)}"
        return {**mine, **self.settings.aws_environment, **self.settings.environment, "PATH": path}

    @cached_property
    def _session(self) -> Any:
        return session(self.settings)

    def client(self, service: str) -> Any:
        return self._session.client(service)

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(NAMES.ledger, self.client("dynamodb"))

    def up(self) -> list[str]:
        """Start what does not run; returns what was started."""
        command = [sys.executable, "-m", "sandbox", "up", "--json"]
        done = subprocess.run(
            command, cwd=CLONE, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise EstateError("the sandbox did not start; the message above says why")
        return list(json.loads(done.stdout)["started"])

    # -- rollouts and runs ----------------------------------------------------------------------------------------

    def has_ledger(self) -> bool:
        """Whether the cloud has been deployed at all."""
        return NAMES.ledger in self.client("dynamodb").list_tables()["TableNames"]

    def rollouts(self) -> list[Rollout]:
        return self.ledger.rollouts() if self.has_ledger() else []

    def completed_rollout(self, *releases: str) -> Rollout | None:
        """The latest rollout of one of ``releases`` that reached the whole fleet."""
        return self._rollout("completed", releases)

    def blocked_rollout(self, *releases: str) -> Rollout | None:
        """The latest rollout of one of ``releases`` that a gate stopped."""
        return self._rollout("blocked", releases)

    def _rollout(self, state: str, releases: tuple[str, ...]) -> Rollout | None:
        matching = (r for r in self.rollouts() if r["state"] == state and r["release"] in releases)
        return next(matching, None)

    def runs(self) -> list[Run]:
        return self.ledger.runs() if self.has_ledger() else []

    def succeeded_run(self, workflow: str) -> Run | None:
        """The latest run of ``workflow`` that ended well."""
        return next((run for run in self.runs() if (run["workflow"], run["state"]) == (workflow, "SUCCEEDED")), None)

    def run_of(self, event_id: str) -> Run | None:
        """The run that ``event_id`` started."""
        return next((run for run in self.runs() if run["event_id"] == event_id), None)

    def wait_for_run(self, event_id: str, *, timeout_s: float) -> Run:
        """The run that ``event_id`` started, once it has ended."""
        deadline = time.monotonic() + timeout_s
        state = "not claimed"
        while time.monotonic() < deadline:
            run = self.run_of(event_id)
            if run and run["state"] in FINISHED:
                return run
            state = run["state"] if run else state
            time.sleep(0.5)
        raise EstateError(
            f"event {event_id}: expected its run to end within {timeout_s:.0f} s, it is {state}; "
            f"logs: {self.settings.home}/logs, {NAMES.function_log_group('dispatch')}"
        )

    # -- devices --------------------------------------------------------------------------------------------------

    def devices(self) -> list[str]:
        return sorted(path.name for path in (self.settings.home / "devices").iterdir() if path.is_dir())

    def on_device(self, device: str, *command: str) -> str:
        """The output of a command on a device over SSH, or EstateError."""
        argv = [
            "ssh",
            "-F",
            str(self.settings.home / "ssh_config"),
            "-o",
            f"ConnectTimeout={SSH_TIMEOUT_S}",
            device,
            *command,
        ]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise EstateError(f"{device}: `{' '.join(command)}` exited with {done.returncode}: {done.stderr.strip()}")
        return done.stdout.strip()

    def version(self, device: str) -> str | None:
        """The release that runs on a device; ``None`` while it has none, or does not answer yet."""
        try:
            return self.on_device(device, "twinops-edge", "version")
        except EstateError:
            return None

    def device_versions(self) -> dict[str, str]:
        """device -> release that runs there, asked over SSH."""
        with ThreadPoolExecutor(max_workers=8) as pool:
            devices = self.devices()
            return dict(zip(devices, pool.map(lambda name: self.on_device(name, "twinops-edge", "version"), devices)))

    def switch(self, device: str, power: str) -> None:
        """Turn a device ``on`` or ``off``, as a power cut does."""
        command = [sys.executable, "-m", "sandbox", "device", power, device]
        done = subprocess.run(
            command, cwd=CLONE, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise EstateError(f"{device}: could not be switched {power}: {done.stderr.strip()}")

    def is_on(self, device: str) -> bool:
        return Device(self.settings, int(device.rpartition("-")[2])).is_on

    # -- files ----------------------------------------------------------------------------------------------------

    def commit(self) -> str:
        """The commit of the clone, which twins can fetch."""
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=CLONE, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def call_count(self) -> dict[str, int]:
        """AWS calls that reached the endpoint so far: ``read``, ``write``, and ``upload``, the writes of devices."""
        count = {"read": 0, "write": 0, "upload": 0}
        path = self.settings.home / "calls.jsonl"
        if path.exists():
            with path.open() as lines:
                for call in map(json.loads, lines):
                    written = "upload" if NAMES.role("device") in (call["caller"] or "") else "write"
                    count[written if call["write"] else "read"] += 1
        return count

    def write_json(self, name: str, value: Any) -> None:
        path = self.settings.home / name
        temporary = path.with_name(f"{name}.new")
        temporary.write_text(json.dumps(value, indent=1) + "\n")
        temporary.replace(path)
