"""What a person can get wrong: one error that says where, what and what was expected, and nothing half-done."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandbox.settings import CLONE

if TYPE_CHECKING:
    from tests.conftest import Sandbox

pytestmark = pytest.mark.sandbox


def test_no_limit_is_refused(sandbox: Sandbox) -> None:
    done = sandbox.run("ansible-playbook", "site.yml", check=False)
    assert done.exit_code == 2
    assert "expected hosts of one environment, got 3 (production, sandbox, staging)" in done.output
    assert "ansible-playbook site.yml -l" in done.output
    assert done.changed == 0


def test_a_misspelt_limit_is_refused(sandbox: Sandbox) -> None:
    done = sandbox.run("ansible-playbook", "site.yml", "-l", "stagng", check=False)
    assert done.exit_code == 1
    assert (
        done.output
        == "[ERROR]: --limit: expected a host or group of the inventories, got stagng. Did you mean staging?\n"
    )


@pytest.mark.parametrize("limit", ["sandbox,!device-001", "edge_*", "~sand.*", "sandbox_devices[0:1]"])
def test_limits_that_ansible_understands_are_left_to_it(limit: str, sandbox: Sandbox) -> None:
    assert "--limit: expected a host" not in sandbox.run("ansible", "all", "--list-hosts", "-l", limit).output


def test_an_inventory_without_a_wave_is_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    shutil.copytree(CLONE / "inventories/staging", tmp_path / "staging")
    hosts = tmp_path / "staging/hosts.yml"
    text = hosts.read_text()
    assert "edge_early" in text
    hosts.write_text(text.replace("edge_early", "edge_late"))
    done = sandbox.run("ansible-playbook", "-i", str(tmp_path / "staging"), "site.yml", "-l", "staging", check=False)
    assert done.exit_code != 0
    assert "edge_early" in done.output


def test_a_port_in_use_is_one_error(sandbox: Sandbox) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        home = str(CLONE / ".sandbox-test/o")
        done = sandbox.run(
            "env", f"SANDBOX_HOME={home}", f"SANDBOX_PORT={port}", "SANDBOX_NETWORK=127.39.0.0",
            "python", "-m", "sandbox", "up", check=False,
        )  # fmt: skip
    assert done.exit_code == 1
    assert port in done.output
    assert "SANDBOX_PORT" in done.output
    assert "Traceback" not in done.output


def test_staging_can_be_read_without_an_account(sandbox: Sandbox) -> None:
    tasks = sandbox.run("ansible-playbook", "site.yml", "--list-tasks", "-l", "staging")
    assert "Ensure" in tasks.output
    sandbox.run("ansible-playbook", "site.yml", "--syntax-check", "-l", "staging")
