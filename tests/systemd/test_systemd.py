"""The roles of the devices on a real Debian with systemd: enrolled, released, taken back, sandboxed, rebooted.

The tests go on from each other, as the life of a device does.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from tests.sandbox.support import eventually
from tests.systemd.conftest import ROOT, Enrolled

UNIT = "twinops-inference.service"
EXPOSURE_MAX = 2.0
"""Of systemd-analyze, from 0 (safe) to 10; systemd's own services reach 1.5 to 9."""


def changed(output: str) -> int:
    return sum(int(count) for count in re.findall(r" changed=(\d+)", output))


def properties(enrolled: Enrolled, *names: str) -> dict[str, str]:
    shown = enrolled.device.output(f"systemctl show {UNIT} --property={','.join(names)}")
    return dict(line.split("=", 1) for line in shown.splitlines())


def spooled(enrolled: Enrolled) -> list[tuple[int, int]]:
    """First and last number of each chunk of decisions, oldest first: nobody takes them, the network ends at itself."""
    program = f"""
import json, sqlite3
spool = sqlite3.connect("file:{ROOT}/spool/decisions.db?mode=ro", uri=True)
print(json.dumps(spool.execute("select first_seq, last_seq from chunk order by first_seq").fetchall()))
"""  # noqa: S608  (text of our own)
    return [(first, last) for first, last in json.loads(enrolled.device.output(f"python3 -c {shlex.quote(program)}"))]


def test_a_release_reaches_a_device_that_had_nothing(enrolled: Enrolled) -> None:
    enrolled.playbook("edge", "edge_release_version=v1")
    assert enrolled.device.output(f"{ROOT}/bin/twinops-edge version") == "v1"
    assert properties(enrolled, "ActiveState", "UnitFileState", "User") == {
        "ActiveState": "active",
        "UnitFileState": "enabled",
        "User": "twinops-edge",
    }
    assert enrolled.status()["health"]["status"] == "ok"


def test_a_second_run_changes_nothing(enrolled: Enrolled) -> None:
    pid = properties(enrolled, "MainPID")
    assert changed(enrolled.playbook("edge", "edge_release_version=v1")) == 0
    assert properties(enrolled, "MainPID") == pid


def test_a_device_that_shall_no_longer_report_and_pull_stops_doing_so(enrolled: Enrolled) -> None:
    others = "systemctl list-units --all --plain --no-legend 'twinops-pull*' 'twinops-report*'"
    shall_not = ("edge_release_version=v1", "edge_report_interval_s=0", "edge_models_bucket=")
    assert "twinops-report.service" in enrolled.device.output(others)
    enrolled.playbook("edge", *shall_not)
    assert enrolled.device.output(others) == ""
    assert enrolled.device.output(f"ls {ROOT} /etc/systemd/system | grep -E 'report|pull' | cat") == ""
    assert changed(enrolled.playbook("edge", *shall_not)) == 0
    enrolled.playbook("edge", "edge_release_version=v1")
    assert "twinops-report.service" in enrolled.device.output(others)


def test_the_unit_is_sound_and_safe(enrolled: Enrolled) -> None:
    assert enrolled.device.output(f"systemd-analyze verify {UNIT} 2>&1") == ""
    report = enrolled.device.output(f"systemd-analyze security --no-pager {UNIT}")
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", report)
    assert exposure, report
    assert float(exposure.group(1)) <= EXPOSURE_MAX, report


def test_the_service_can_write_its_spool_and_nothing_else(enrolled: Enrolled) -> None:
    pid = properties(enrolled, "MainPID")["MainPID"]
    inside = f"nsenter --target {pid} --mount setpriv --reuid twinops-edge --regid twinops-edge --clear-groups"
    assert enrolled.device.ssh(f"{inside} touch {ROOT}/spool/written").returncode == 0
    for path in (f"{ROOT}/state.json", f"{ROOT}/slots/a/model.onnx", "/etc/passwd", "/var/lib/plant/records.csv"):
        done = enrolled.device.ssh(f"{inside} sh -c 'echo x >> {path}'")
        assert done.returncode != 0, path
    as_root = enrolled.device.ssh(f"nsenter --target {pid} --mount sh -c 'echo x >> {ROOT}/state.json'")
    assert "Read-only file system" in as_root.stderr, "also for root, in what the service sees"
    assert enrolled.device.output(f"grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/{pid}/status").split() == [
        *("CapBnd:", "0" * 16),
        *("NoNewPrivs:", "1"),
        *("Seccomp:", "2"),
    ]


def test_a_service_that_is_killed_comes_back_and_goes_on_with_the_next_record(enrolled: Enrolled) -> None:
    eventually(lambda: spooled(enrolled))
    enrolled.device.output(f"systemctl kill --signal=SIGKILL {UNIT}")
    eventually(lambda: properties(enrolled, "NRestarts", "ActiveState") == {"NRestarts": "1", "ActiveState": "active"})
    before = spooled(enrolled)[-1]
    eventually(lambda: spooled(enrolled)[-1][1] > before[1])
    chunks = spooled(enrolled)
    gaps = [(last, first) for (_, last), (first, _) in zip(chunks, chunks[1:], strict=False) if first != last + 1]
    assert not gaps, "no decision is missing, none is there twice"
    assert chunks[0][0] == 1


def test_a_device_that_reboots_serves_again_by_itself(enrolled: Enrolled) -> None:
    enrolled.device.reboot()
    health = eventually(lambda: enrolled.status()["health"])
    assert health["release"] == "v1"
    eventually(lambda: enrolled.status()["health"]["status"] == "ok")


def test_an_update_and_a_bad_release_that_is_taken_back(enrolled: Enrolled) -> None:
    enrolled.playbook("edge", "edge_release_version=v2")
    assert enrolled.status()["release"] == "v2"
    stopped = enrolled.playbook("edge", "edge_release_version=v3", ok=False)
    assert "v3 stopped at wave canary" in stopped
    status = enrolled.status()
    assert (status["release"], status["health"]["release"], status["health"]["status"]) == ("v2", "v2", "ok")
    assert [(entry["release"], entry["outcome"]) for entry in status["history"]] == [
        ("v1", "committed"),
        ("v2", "committed"),
        ("v3", "committed"),
        ("v3", "rolled_back"),
    ]


def test_what_the_service_says_is_in_the_journal(enrolled: Enrolled) -> None:
    journal = enrolled.device.output(f"journalctl --no-pager --unit {UNIT} --output cat")
    assert "Started" in journal
    assert not Path(f"{ROOT}/log/inference.log").exists()
