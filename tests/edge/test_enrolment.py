"""What enrolment writes, takes away and tells the service manager, on this disk.

``systemctl`` is a script that writes down what it was told: the real one is in ``tests/systemd``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from twinops.edge import agent, enrolment
from twinops.errors import SpecError, TwinopsError

from tests.edge.test_devices import SOUND

SYSTEMCTL = """#!/bin/sh
echo "$*" >> "$0.log"
[ "$1" != is-enabled ] || { shift; for unit; do echo enabled; done; }
"""
INSTALLED = "[Service]\n[Install]\n"


class Machine:
    """A device with systemd, below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.root, self.units, self._log = folder / "twinops", folder / "units", folder / "systemctl.log"
        self.units.mkdir()
        (folder / "systemctl").write_text(SYSTEMCTL)
        (folder / "systemctl").chmod(0o755)
        self.root.mkdir()
        (self.root / "venv").symlink_to(sys.prefix)

    def wanted(self, *, pulls: bool = True, reports: bool = True, **changed: Any) -> enrolment.Wanted:
        pull = {"twinops-pull.service": "[Service]\n", "twinops-pull.timer": INSTALLED}
        units = {**(pull if pulls else {}), **({"twinops-report.service": INSTALLED} if reports else {})}
        settings: dict[str, Any] = {
            "root": self.root,
            "settings": SOUND,
            "tuf_root": "{}",
            "program": "#!/bin/sh\n",
            "service_manager": "systemd",
            "service_definition": INSTALLED,
            "service_path": self.units / "twinops-inference.service",
            "pull": {"bucket": "models"} if pulls else None,
            "report": {"bucket": "data"} if reports else None,
            "units": {str(self.units / name): text for name, text in units.items()},
        }
        return enrolment.Wanted(**{**settings, **changed})

    def ensure(self, *, apply: bool = True, **changed: Any) -> dict[str, str]:
        """What was due: header -> what is there afterwards."""
        diff = enrolment.ensure(self.wanted(**changed), apply=apply)["diff"]
        return {Path(entry["after_header"]).name: entry["after"] for entry in diff}

    def told(self) -> list[str]:
        """The commands that systemctl was given since this was asked last."""
        commands = self._log.read_text().splitlines() if self._log.exists() else []
        self._log.unlink(missing_ok=True)
        return commands

    def files(self) -> Mapping[str, bytes]:
        paths = [self.root / "pull.json", self.root / "report.json", *self.units.iterdir()]
        return {path.name: path.read_bytes() for path in paths if path.exists()}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return Machine(tmp_path)


def test_a_device_that_shall_no_longer_pull_and_report_stops_doing_so(machine: Machine) -> None:
    machine.ensure()
    machine.told()
    before = machine.files()
    gone = {"pull.json": "", "report.json": "", "systemd": "twinops-inference: without "}
    gone["systemd"] += "twinops-pull.timer, twinops-pull.service, twinops-report.service\n"

    assert machine.ensure(apply=False, pulls=False, reports=False) == gone
    assert (machine.files(), machine.told()) == (before, []), "check mode changes nothing"

    assert machine.ensure(pulls=False, reports=False) == gone
    assert sorted(machine.files()) == ["twinops-inference.service"]
    assert machine.told() == [
        "disable --now twinops-pull.timer",
        "reset-failed twinops-pull.timer",
        "reset-failed twinops-pull.service",
        "disable --now twinops-report.service",
        "reset-failed twinops-report.service",
        "daemon-reload",
        "enable twinops-inference",
        "restart twinops-inference",
    ]
    assert machine.ensure(pulls=False, reports=False) == {}
    assert machine.told() == ["is-enabled twinops-inference"]


def test_what_interrupted_and_earlier_runs_left_of_the_push_program_goes(machine: Machine) -> None:
    for name in (".push-0123456789abcdef.new", "push-0123456789abcdef"):
        (machine.root / "bin" / name / "twinops").mkdir(parents=True)
    machine.ensure()
    kept = Path(agent.push_program()[0]).name
    assert sorted(path.name for path in (machine.root / "bin").iterdir()) == [kept, "twinops-edge", "twinops-edge.zip"]


def test_an_environment_that_cannot_run_the_push_program_is_said_as_such(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrolment, "PROGRAM_TIMEOUT_S", 0.01)
    with pytest.raises(TwinopsError, match=r"timed out after 0.01 seconds; expected an environment that can run it"):
        machine.ensure()


def test_impossible_intervals_are_refused_before_anything_is_written(machine: Machine) -> None:
    with pytest.raises(SpecError, match="edge_pull_interval_s: expected at least 1"):
        machine.ensure(pull_interval_s=0)
    assert not machine.files()


def test_a_unit_that_an_interrupted_run_left_is_taken_away(machine: Machine) -> None:
    machine.ensure(reports=False)
    (machine.units / "twinops-report.service").write_text(INSTALLED)
    assert machine.ensure(reports=False) == {"systemd": "twinops-inference: without twinops-report.service\n"}
    assert "twinops-report.service" not in machine.files()
    assert "disable --now twinops-report.service" in machine.told()
