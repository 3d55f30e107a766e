"""One contender on one new account: runs a phase and measures it by the kernel, the call log, output and account."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tests.bench import census, measure, out_of_band, rates, workload
from tests.bench.contenders import Contender
from tests.bench.endpoint import Endpoint
from tests.bench.report import CHANGED_CHECK, CREATE, REPAIR, Measurement

TIMEOUT_S = 3600.0

RECAP = re.compile(r"^\S+\s+: ok=\d+ +changed=(?P<changed>\d+) .*\bignored=(?P<ignored>\d+)", re.MULTILINE)
DIFF_LINE = re.compile(r"^[+-](?![+-])", re.MULTILINE)


class Trial:
    """Phases have to be run in their order: each finds the account as the one before left it."""

    def __init__(
        self, contender: Contender, endpoint: Endpoint, workflows: int, repetition: int, *, logs: Path
    ) -> None:
        self._contender = contender
        self._endpoint = endpoint
        self._repetition = repetition
        self._logs = logs
        self._workload = workload.make(endpoint.settings.home / "workload", workflows)
        self._before = census.take(endpoint.session)  # also loads what the emulator loads at the first call
        self._declared: Mapping[str, object] = {}
        logs.mkdir(parents=True, exist_ok=True)

    def run(self, phase: str) -> Measurement:
        """Run one phase and measure it; also one that fails."""
        if phase == CHANGED_CHECK:
            self._declared = out_of_band.make_all(self._endpoint.session, self._contender.names)
        name = f"{self._contender.name}-{self._workload.workflows}-{self._repetition}-{phase}"
        log = self._logs / f"{name.replace(', ', '-').replace(' ', '-')}.log"
        measured = self._measure(phase, log)
        if measured.exit_code == 0 and phase == CREATE:
            return self._with_minimum(measured)
        if measured.exit_code == 0 and phase == CHANGED_CHECK:
            return self._with_seen(measured, log)
        if measured.exit_code == 0 and phase == REPAIR and self._declared:
            return self._with_restored(measured)
        return measured

    def _measure(self, phase: str, log: Path) -> Measurement:
        command = self._contender.command(phase, self._workload, self._endpoint.settings)
        mark = self._endpoint.mark()
        usage = measure.run(
            command.argv,
            environment=command.environment,
            directory=command.directory,
            log=log,
            timeout_s=TIMEOUT_S,
        )
        calls, output = self._endpoint.calls_since(mark), log.read_text(errors="replace")
        listed = sorted(calls.by_operation.items(), key=lambda item: (-item[1], item[0]))
        log.with_suffix(".calls").write_text("".join(f"{number:6} {operation}\n" for operation, number in listed))
        recaps = list(RECAP.finditer(output))
        return Measurement(
            contender=self._contender.name,
            workflows=self._workload.workflows,
            phase=phase,
            repetition=self._repetition,
            exit_code=usage.exit_code,
            wall_s=round(usage.wall_s, 3),
            cpu_s=round(usage.cpu_s, 3),
            reads=calls.reads,
            writes=calls.writes,
            refused=calls.refused,
            throttled=calls.throttled,
            changed=sum(int(recap["changed"]) for recap in recaps),
            ignored=sum(int(recap["ignored"]) for recap in recaps),
            diff_lines=len(DIFF_LINE.findall(output)),
        )

    def _with_minimum(self, measured: Measurement) -> Measurement:
        """With the fewest calls for what exists now and did not before, and the time that rates allow for them."""
        calls = census.minimum_calls(census.take(self._endpoint.session) - self._before)
        aws_rates = self._endpoint.settings.aws_rates
        floor_s = rates.floor_s(calls, aws_rates) if aws_rates else None
        return replace(measured, minimum_writes=calls.total(), floor_s=floor_s)

    def _with_seen(self, measured: Measurement, log: Path) -> Measurement:
        announced = self._contender.announced(log.read_text(errors="replace"))
        seen = out_of_band.seen(self._declared, announced)
        return replace(measured, altered=len(self._declared), seen=len(seen))

    def _with_restored(self, measured: Measurement) -> Measurement:
        now = out_of_band.read_all(self._endpoint.session, self._contender.names)
        restored = [title for title, value in self._declared.items() if now[title] == value]
        return replace(measured, altered=len(self._declared), restored=len(restored))
