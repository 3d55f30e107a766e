"""The doorbell at a real jupyter-server: the line is run once, by a job that outlives its terminal.

With each version that is installed: 2 always, 1 after ``python -m sandbox.setup --old-jupyter``.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dispatch import terminal
from dispatch.terminal import TerminalError
from dispatch.transport import Transport
from sandbox.ports import free_port
from tests.unit.endpoint import CLONE, wait_for

PYTHONS = {"1": CLONE / ".cache/envs/jupyter1/bin/python", "2": CLONE / ".cache/envs/jupyter/bin/python"}
TOKENS = {"1": "--ServerApp.token=correct", "2": "--IdentityProvider.token=correct"}
INSTALLED = [version for version, python in PYTHONS.items() if version == "2" or python.exists()]


@dataclass(frozen=True)
class Server:
    """A jupyter-server: its address, its token and its home folder."""

    url: str
    token: str
    home: Path

    @property
    def login(self) -> str:
        return f"{self.url}/tree?token={self.token}"


@pytest.fixture(scope="module", params=INSTALLED)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("jupyter")
    url = f"http://127.0.0.1:{free_port()}"
    options = {"ip": "127.0.0.1", "port": url.rpartition(":")[2], "port_retries": 0, "root_dir": home}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [PYTHONS[request.param], "-m", "jupyter_server", "--allow-root", "--no-browser", TOKENS[request.param]]
            + [f"--ServerApp.{name}={value}" for name, value in options.items()]
            + ["--ServerApp.terminado_settings={'shell_command': ['/bin/bash']}"],
            env={"PATH": os.environ["PATH"], "HOME": str(home)}, cwd=home, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        wait_for(f"{url}/api", process, home / "log")
        yield Server(url, "correct", home)
    finally:
        process.terminate()
        process.wait(20)


def wait_until_there(file: Path) -> None:
    deadline = time.monotonic() + 15
    while not file.exists():
        assert time.monotonic() < deadline, f"{file} was not written"
        time.sleep(0.05)


def test_it_is_the_version_that_it_is_said_to_be(server: Server, request: pytest.FixtureRequest) -> None:
    with urllib.request.urlopen(f"{server.url}/api", timeout=10) as answer:  # noqa: S310 (loopback)
        assert json.load(answer)["version"].startswith(f"{request.node.callspec.params['server']}.")


def test_a_job_outlives_its_terminal(server: Server) -> None:
    transport = Transport()
    made = transport.run(terminal.create(server.login))
    job = "sh -c 'echo x >> rung; sleep 1; echo x >> survived'"
    transport.run(terminal.ring(made, f"cd {server.home}; setsid {job} </dev/null >/dev/null 2>&1 &"))
    wait_until_there(server.home / "rung")
    transport.run(terminal.hang_up(made))
    transport.run(terminal.hang_up(made))  # gone already: not an error
    wait_until_there(server.home / "survived")
    assert (server.home / "rung").read_text() == "x\n", "the line was run exactly once"


def test_a_new_terminal_for_every_ring(server: Server) -> None:
    first = Transport().run(terminal.create(server.login))
    second = Transport().run(terminal.create(server.login))
    assert first.name != second.name


def test_a_wrong_token_is_refused(server: Server) -> None:
    transport = Transport()
    with pytest.raises(TerminalError) as caught:
        made = transport.run(terminal.create(f"{server.url}/tree?token=forged"))
        transport.run(terminal.ring(made, "touch forged"))
    assert "forged" not in str(caught.value)
    assert not (server.home / "forged").exists()


def test_without_the_login_no_terminal_can_be_joined(server: Server) -> None:
    made = Transport().run(terminal.create(server.login))
    with pytest.raises(TerminalError, match="terminal connection: expected HTTP 101, got 403"):
        Transport().run(terminal.ring(made, "true"))


def test_a_server_that_is_away_is_an_error_and_not_a_crash() -> None:
    nobody = f"http://127.0.0.1:{free_port()}/tree?token=secret"
    with pytest.raises(TerminalError, match="login: expected HTTP 200, got nothing"):
        Transport().run(terminal.create(nobody))
