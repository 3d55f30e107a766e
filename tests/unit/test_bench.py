"""The benchmark's own arithmetic: medians, ratios, floors, verdicts, and what it reads from outputs and call logs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandbox import processes
from sandbox.settings import CLONE
from tests.bench import census, endpoint, out_of_band, rates, report, targets, workload
from tests.bench.cloud import load_results, parse
from tests.bench.contenders import CONTENDERS
from tests.bench.report import CHANGED_CHECK, CHECK, CREATE, NO_OP, PEER, REPAIR, TWINOPS, Measurement, Measurements


def measurement(contender: str = TWINOPS, workflows: int = 10, phase: str = NO_OP, **figures: Any) -> Measurement:
    nothing: dict[str, Any] = dict.fromkeys(("reads", "writes", "refused", "throttled", "changed", "ignored"), 0)
    figures = {**nothing, "exit_code": 0, "wall_s": 1.0, "cpu_s": 1.0, "diff_lines": 0, "repetition": 1, **figures}
    return Measurement(contender=contender, workflows=workflows, phase=phase, **figures)


def reached(*found: Measurement, under_rates: tuple[Measurement, ...] = ()) -> dict[str, bool | None]:
    return {verdict.target: verdict.reached for verdict in targets.verdicts(Measurements(found), under_rates)}


# ---- figures and tables


def test_a_figure_is_the_median_of_the_runs_that_succeeded() -> None:
    runs = [measurement(cpu_s=seconds) for seconds in (3.0, 1.0, 2.0)]
    failed = measurement(cpu_s=100.0, exit_code=2)
    assert Measurements([*runs, failed]).figure(TWINOPS, 10, NO_OP, report.cpu) == 2.0


def test_a_ratio_says_how_many_times_as_much_the_peer_needs() -> None:
    both = Measurements([measurement(PEER, cpu_s=45.0), measurement(cpu_s=3.0)])
    assert both.ratio(TWINOPS, 10, NO_OP, report.cpu) == 15.0
    assert both.ratio(PEER, 10, NO_OP, report.cpu) == 1.0
    assert both.ratio(TWINOPS, 50, NO_OP, report.cpu) is None, "not measured"


def test_the_comparison_has_a_row_for_each_contender_in_the_order_of_the_phases() -> None:
    found = Measurements(
        [
            measurement(PEER, phase=NO_OP, cpu_s=40.0, reads=200),
            measurement(PEER, phase=CREATE, cpu_s=50.0),
            measurement(phase=NO_OP, cpu_s=2.0, reads=40),
        ]
    )
    rows = report.comparison(found)[1:]
    assert [row[:3] for row in rows] == [(10, CREATE, PEER), (10, NO_OP, PEER), (10, NO_OP, TWINOPS)]
    assert rows[-1][-2:] == ("20.0x", "5.0x")


def test_growth_shows_only_one_contender_and_a_dash_for_what_was_not_measured() -> None:
    found = Measurements(
        [measurement(PEER, 5), measurement(workflows=50, reads=90), measurement(workflows=1, reads=41)]
    )
    rows = report.growth(found, TWINOPS, (CREATE, NO_OP))
    assert rows[1:] == [[1, "-", "-", "-", "1.0", "1.0", "41"], [50, "-", "-", "-", "1.0", "1.0", "90"]]


def test_the_table_is_markdown_with_numbers_to_the_right() -> None:
    shown = report.table([("W", "phase", "ratio"), (1, "no-op", "2.0x"), (2, "create", "-")])
    assert shown.splitlines() == [
        "|   W | phase  | ratio |",
        "| --: | ------ | ----: |",
        "|   1 | no-op  |  2.0x |",
        "|   2 | create |     - |",
    ]


def test_results_that_were_stored_give_the_same_tables(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    lines = [{**measurement(cpu_s=2.5).__dict__, "under_rates": False}, {**measurement().__dict__, "under_rates": True}]
    results.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert load_results([results]) == ([measurement(cpu_s=2.5)], [measurement()])


# ---- targets


@pytest.mark.parametrize(("cpu_s", "is_reached"), [(3.0, True), (3.1, False)])
def test_a_ratio_of_client_cpu_is_reached_from_its_limit_on(cpu_s: float, is_reached: bool) -> None:
    found = reached(measurement(PEER, cpu_s=45.0), measurement(cpu_s=cpu_s))
    assert found["no-op, W=10: client CPU at least 15x below peer"] is is_reached
    assert found["no-op, W=100: client CPU at least 100x below peer"] is None


@pytest.mark.parametrize(("reads", "is_reached"), [(50, True), (51, False)])
def test_a_no_op_makes_at_most_w_plus_40_calls(reads: int, is_reached: bool) -> None:
    assert reached(measurement(reads=reads))["no-op, W=10: at most W + 40 = 50 calls"] is is_reached


@pytest.mark.parametrize(("writes", "is_reached"), [(115, True), (116, False)])
def test_a_creation_is_compared_with_what_it_takes(writes: int, is_reached: bool) -> None:
    found = reached(measurement(phase=CREATE, writes=writes, minimum_writes=100))
    assert found["create, W=10: at most 1.15x the 100 writes that it takes"] is is_reached


def test_one_check_that_writes_is_one_too_many() -> None:
    good, bad = measurement(phase=CHECK), measurement(phase=CHECK, writes=1)
    assert reached(good)["no check writes"] is True
    assert reached(good, good, bad)["no check writes"] is False


def test_one_no_op_that_changes_something_is_one_too_many() -> None:
    assert reached(measurement(), measurement(changed=1))["a no-op changes nothing"] is False


def test_every_change_out_of_band_has_to_be_seen_and_repaired() -> None:
    check, repair = (
        measurement(phase=CHANGED_CHECK, altered=12, seen=12),
        measurement(phase=REPAIR, altered=12, restored=12),
    )
    found = reached(check, replace(repair, restored=12), replace(repair, restored=11))
    assert found["every out-of-band change is seen by --check --diff"] is True
    assert found["every out-of-band change is repaired"] is False


def test_a_creation_under_rates_is_neither_throttled_nor_slow() -> None:
    run = measurement(workflows=100, phase=CREATE, wall_s=23.0, floor_s=20.0)
    time_target = "create under AWS's rates, W=100: at most 1.15x the 20.0 s that the rates set"
    assert reached(under_rates=(run,))[time_target] is True
    assert reached(under_rates=(replace(run, wall_s=23.1),))[time_target] is False
    throttled = reached(under_rates=(replace(run, throttled=1),))
    assert throttled["create under AWS's rates, W=100: no throttled call"] is False


# ---- floors


def test_the_slowest_rate_sets_the_floor_after_a_burst_of_one_second() -> None:
    limits = {"logs:PutRetentionPolicy": 5.0, "monitoring:PutMetricAlarm": 3.0, "events:*": 50.0}
    calls = {
        "logs:PutRetentionPolicy": 100,
        "monitoring:PutMetricAlarm": 99,
        "events:PutRule": 100,
        "iam:CreateRole": 5,
    }
    assert rates.floor_s(calls, limits) == 99 / 3 - 1


def test_operations_without_a_rate_of_their_own_share_that_of_their_service() -> None:
    limits = {"lambda:*": 10.0, "lambda:Invoke": 1000.0}
    calls = {"lambda:CreateFunction": 20, "lambda:AddPermission": 20, "lambda:Invoke": 1000}
    assert rates.floor_s(calls, limits) == 3.0
    assert rates.floor_s({"lambda:CreateFunction": 1}, limits) == 0.0, "within the burst"


def test_the_minimum_counts_each_call_that_a_thing_takes() -> None:
    calls = census.minimum_calls({"rule": 2, "rule targets": 2, "instance profile": 1})
    assert calls == Counter(
        {"events:PutRule": 2, "events:PutTargets": 2, "iam:CreateInstanceProfile": 1, "iam:AddRoleToInstanceProfile": 1}
    )


# ---- what is read from logs and outputs


def test_calls_are_counted_from_a_mark_on(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    read = {"service": "iam", "action": "GetRole", "write": False, "status": 200, "throttled": False}
    write = {**read, "action": "CreateRole", "write": True}
    log.write_text(json.dumps(read) + "\n")
    mark = log.stat().st_size
    by_a_person = {**write, "service": "sns", "action": "ConfirmSubscription"}
    later = [read, {**read, "status": 404}, write, by_a_person, {**write, "status": 400, "throttled": True}]
    with log.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in later)
    by_operation = {
        "iam:GetRole 200": 1,
        "iam:GetRole 404": 1,
        "iam:CreateRole 200": 1,
        "iam:CreateRole 400 throttled": 1,
    }
    assert endpoint.count(log, mark) == endpoint.Calls(2, 2, refused=2, throttled=1, by_operation=by_operation)


PEER_OUTPUT = """\
TASK [Ensure the buckets] ******************************************************
ok: [localhost] => (item=models)
changed: [localhost] => (item=data)

TASK [Ensure the ledger] *******************************************************
changed: [localhost]
"""

TWINOPS_OUTPUT = """\
TASK [Make the environment what its roles declared] ****************************
changed: [sandbox-control] =>
    calls: 35
    changed: true
    changes:
    -   action: update
        fields:
        - versioning
        - tags
        kind: bucket
        name: twinops-sandbox-data-123456789012

PLAY RECAP *********************************************************************
""".replace("=>\n", "=> \n")


def test_what_the_peer_announces_is_a_task_and_its_item() -> None:
    announced = CONTENDERS[PEER].announced(PEER_OUTPUT)
    assert announced == {"Ensure the buckets: data", "Ensure the ledger: "}
    titles = ["versioning of a bucket suspended", "tag of a table removed", "policy of a role widened"]
    assert out_of_band.seen(titles, announced) == titles[:2]


def test_what_twinops_announces_is_a_kind_and_its_fields() -> None:
    announced = CONTENDERS[TWINOPS].announced(TWINOPS_OUTPUT)
    assert announced == {"bucket: versioning, tags"}
    titles = ["versioning of a bucket suspended", "tag of a table removed"]
    assert out_of_band.seen(titles, announced) == titles[:1]


# ---- what is run


def measured(tmp_path: Path, argv: list[str], timeout_s: float) -> list[str]:
    """What a process of its own prints about a program that it measured: it adopts and waits for orphans."""
    script = (
        "import os, sys; from pathlib import Path; from tests.bench import measure\n"
        "measure.adopt_orphans()\n"
        "try:\n"
        f"    used = measure.run({argv!r}, environment=dict(os.environ), directory=Path('.'),\n"
        f"        log=Path({str(tmp_path / 'log')!r}), timeout_s={timeout_s})\n"
        "    print(used.exit_code, used.cpu_s)\n"
        "except measure.MeasureError as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-c", script]
    return subprocess.run(
        command, cwd=CLONE, stdout=subprocess.PIPE, text=True, timeout=60, check=True
    ).stdout.splitlines()


def test_cpu_time_of_what_outlives_its_parent_is_counted(tmp_path: Path) -> None:
    """As mitogen's interpreters do: the child's child burns half a CPU-second after the program has ended."""
    burner = "import time; t = time.process_time\nwhile t() < 0.5: pass"
    program = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {burner!r}], start_new_session=True)"
    ((exit_code, cpu_s),) = [line.split() for line in measured(tmp_path, [sys.executable, "-c", program], 30)]
    assert exit_code == "0"
    assert float(cpu_s) >= 0.5


def test_a_program_that_does_not_end_is_named_and_ended_with_all_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    program = ["sh", "-c", f"sleep 61 & echo $$ $! > {pids}; wait"]
    (message,) = measured(tmp_path, program, 1)
    assert message.endswith(f"expected to end within 1 s; its output: {tmp_path / 'log'}")
    assert [processes.find(int(pid)) for pid in pids.read_text().split()] == [None, None]


def test_a_workload_is_a_committed_tree_with_exactly_its_workflows(tmp_path: Path) -> None:
    made = workload.make(tmp_path / "workload", 3)
    names = [spec.parent.name for spec in sorted(made.repository.glob("workflows/*/workflow.yml"))]
    assert names == ["workflow_0001", "workflow_0002", "workflow_0003"]
    status = subprocess.run(
        ["git", "-C", str(made.repository), "status", "--porcelain"], capture_output=True, text=True, check=True
    )
    assert status.stdout == ""
    assert [workflow["name"] for workflow in json.loads(made.peer_variables.read_text())["workflows"]] == names


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (["--workflows", "10,0"], "expected numbers from 1"),
        (["--contenders", "peer,terraform"], "got terraform"),
        (["--phases", "no-op;destroy"], "got destroy"),
    ],
)
def test_a_wrong_argument_is_named(argument: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(argument)
    assert message in capsys.readouterr().err
