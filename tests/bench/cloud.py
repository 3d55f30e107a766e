"""`make bench-cloud`: twinops and the incumbent collections keep the same environment with W workflows, side by side.

Each contender starts with a new, empty account on the sandbox's endpoint and goes through the same phases; the endpoint
counts the calls, the kernel the CPU time. CPU time swells under load, so only figures of one run may be compared.
docs/bench.md says how to read the tables.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from sandbox.lifecycle import SandboxError
from sandbox.ports import free_port
from sandbox.settings import CLONE, DOCUMENTED_RATES, Settings, SettingsError, load
from tests.bench import measure, out_of_band, report, targets
from tests.bench.contenders import CONTENDERS
from tests.bench.endpoint import fresh
from tests.bench.report import CHECK, CREATE, NO_OP, PEER, PHASES, TWINOPS, Measurement, Measurements
from tests.bench.trial import Trial

HOME = CLONE / ".sandbox-bench-cloud"
RESULTS = CLONE / "build/bench"
COMPARED = (PEER, "peer-mitogen", "peer-shared", TWINOPS)
GROWTH_PHASES = (CREATE, NO_OP, CHECK)
ANSWERS = {True: "yes", False: "NO", None: "not measured"}


class Bench:
    """One go: what it has measured so far (each also in ``results.jsonl``, for ``--table``), and what failed."""

    def __init__(self, arguments: argparse.Namespace, settings: Settings) -> None:
        self.arguments = arguments
        self.settings = settings
        self.measured: list[Measurement] = []
        self.under_rates: list[Measurement] = []
        self.failures: list[str] = []

    def compare(self) -> None:
        """Every contender with every W, then twinops alone with those Ws of the growth table that it did not have."""
        for repetition in range(1, self.arguments.repetitions + 1):
            for workflows in self.arguments.workflows:
                for contender in self.arguments.contenders:
                    self._try(contender, workflows, repetition)
        compared = self.arguments.workflows if TWINOPS in self.arguments.contenders else ()
        for workflows in self.arguments.growth:
            if workflows not in compared:
                self._try(TWINOPS, workflows, 1)

    def create_under_rates(self) -> None:
        """twinops creates W workflows on an endpoint that throttles as AWS documents it."""
        throttling = replace(self.settings, aws_rates=DOCUMENTED_RATES)
        for workflows in self.arguments.rates:
            with fresh(throttling) as endpoint:
                trial = Trial(
                    CONTENDERS[TWINOPS], endpoint, workflows, repetition=1, logs=self.arguments.results / "rates"
                )
                self._keep(trial.run(CREATE), self.under_rates)

    def _try(self, contender: str, workflows: int, repetition: int) -> None:
        """The phases of one contender on one new account. A phase that fails is the last one, and told at the end."""
        with fresh(self.settings) as endpoint:
            trial = Trial(CONTENDERS[contender], endpoint, workflows, repetition, logs=self.arguments.results)
            for phase in (phase for phase in PHASES if phase in self.arguments.phases):
                if not self._keep(trial.run(phase), self.measured):
                    return

    def _keep(self, measurement: Measurement, results: list[Measurement]) -> bool:
        """Store and print; False for one that failed."""
        results.append(measurement)
        with (self.arguments.results / "results.jsonl").open("a") as file:
            file.write(json.dumps({**asdict(measurement), "under_rates": results is self.under_rates}) + "\n")
        m = measurement
        name = f"W={m.workflows:<4} {m.contender:<14} {m.phase:<22}"
        print(
            f"{name} wall {m.wall_s:7.1f} s  CPU {m.cpu_s:7.1f} s  reads {m.reads:5}  writes {m.writes:5}  "
            f"changed {m.changed:3}  load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
        if m.exit_code:
            self.failures.append(f"{' '.join(name.split())}: ansible-playbook exited with {m.exit_code}")
        return m.exit_code == 0


def show(measured: Iterable[Measurement], under_rates: Iterable[Measurement]) -> bool:
    """Print all tables; returns whether every target that was measured is reached."""
    measurements, under_rates = Measurements(measured), tuple(under_rates)
    found = targets.verdicts(measurements, under_rates)
    judged = [(verdict.target, verdict.measured, ANSWERS[verdict.reached]) for verdict in found]
    parts: dict[str, Sequence[Sequence[object]]] = {
        "Contenders (CPU: client seconds of user and system; ÷: times as much as the peer's)": report.comparison(
            measurements
        ),
        "Growth of twinops": report.growth(measurements, TWINOPS, GROWTH_PHASES),
        "Changes out of band": report.repairs(measurements),
        "Targets": [("target", "measured", "reached"), *judged],
    }
    for title, rows in parts.items():
        if len(rows) > 1:
            print(f"\n## {title}\n\n{report.table(rows)}")
    return all(verdict.reached is not False for verdict in found)


def load_results(paths: Iterable[Path]) -> tuple[list[Measurement], list[Measurement]]:
    """Measurements of earlier runs: those without, and those under AWS's rates."""
    sorted_out: dict[bool, list[Measurement]] = {False: [], True: []}
    for path in paths:
        for line in path.read_text().splitlines():
            fields = json.loads(line)
            sorted_out[fields.pop("under_rates")].append(Measurement(**fields))
    return sorted_out[False], sorted_out[True]


def run(arguments: argparse.Namespace) -> int:
    shutil.rmtree(arguments.results, ignore_errors=True)
    arguments.results.mkdir(parents=True)
    measure.adopt_orphans()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that the endpoint is ended, too
    # A home and a port of its own: the caller's sandbox is neither used nor stopped.
    settings = load({"SANDBOX_HOME": str(HOME), "SANDBOX_PORT": str(free_port())})
    bench = Bench(arguments, replace(settings, aws_latency_ms=arguments.latency_ms))
    bench.compare()
    bench.create_under_rates()
    reached = show(bench.measured, bench.under_rates)
    print(f"\nEach run's output and results.jsonl: {arguments.results}")
    for failure in bench.failures:
        print(f"bench-cloud: {failure}", file=sys.stderr)
    return 0 if reached and not bench.failures else 1


def main() -> int:
    arguments = parse(sys.argv[1:])
    if arguments.table:
        return 0 if show(*load_results(arguments.table)) else 1
    try:
        return run(arguments)
    except (SandboxError, SettingsError, measure.MeasureError, out_of_band.AlterationError) as error:
        print(f"bench-cloud: {error}", file=sys.stderr)
        return 1


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-cloud", description=__doc__.splitlines()[0])
    parser.add_argument("--workflows", type=_numbers, default=[1, 10], help="Ws of the comparison, such as 1,10,50,100")
    parser.add_argument("--contenders", type=_contenders, default=list(COMPARED), help=f"of {', '.join(CONTENDERS)}")
    parser.add_argument("--phases", type=_phases, default=list(PHASES), help=f"of {'; '.join(PHASES)}")
    parser.add_argument("--repetitions", type=int, default=1, help="of the comparison; the tables show medians")
    parser.add_argument("--growth", type=_numbers, default=[1, 10, 50, 100, 200, 500], help="Ws of twinops alone")
    parser.add_argument("--rates", type=_numbers, default=[100], help="Ws that twinops creates under AWS's rates")
    parser.add_argument("--latency-ms", type=int, default=0, help="how much longer every call takes")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the outputs; it is emptied")
    parser.add_argument("--table", type=Path, nargs="+", help="only print the tables of these results.jsonl")
    return parser.parse_args(argv)


def _numbers(text: str) -> list[int]:
    numbers = [int(part) for part in text.split(",") if part]
    if any(number < 1 for number in numbers):
        raise argparse.ArgumentTypeError(f"expected numbers from 1, such as 1,10,50, got {text!r}")
    return numbers


def _contenders(text: str) -> list[str]:
    return _some_of(text.split(","), CONTENDERS)


def _phases(text: str) -> list[str]:
    return _some_of([part.strip() for part in text.split(";")], PHASES)


def _some_of(chosen: list[str], offered: Collection[str]) -> list[str]:
    unknown = [part for part in chosen if part not in offered]
    if unknown:
        raise argparse.ArgumentTypeError(f"expected some of {', '.join(offered)}; got {', '.join(unknown)}")
    return chosen


if __name__ == "__main__":
    sys.exit(main())
