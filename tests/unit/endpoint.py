"""A bare AWS endpoint (ministack, without IAM) for tests that need DynamoDB, S3, logs or mail, but no twin."""

from __future__ import annotations

import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from twinops.aws import session

from sandbox.ports import free_port

CLONE = Path(__file__).parents[2]
EMULATOR = CLONE / ".cache/envs/emulator/bin/python"
START_WITHIN_S = 60


@pytest.fixture(scope="session")
def _endpoint_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    url = f"http://127.0.0.1:{free_port()}"
    folder = tmp_path_factory.mktemp("aws")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [EMULATOR, "-m", "hypercorn", "ministack.app:app", "--bind", url.removeprefix("http://")],
            env={"PATH": os.environ["PATH"], "TMPDIR": str(folder), "HOME": str(folder), "SFTP_ENABLED": "0",
                 "IOT_MTLS_ENABLED": "0", "MINISTACK_ACCOUNT_ID": "123456789012", "BIND_HOST": "127.0.0.1"},
            cwd=folder, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        wait_for(f"{url}/_ministack/health", process, folder / "log")
        yield url
    finally:
        process.terminate()
        process.wait(20)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until a server answers; what it logged, if it does not."""
    deadline = time.monotonic() + START_WITHIN_S
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 (loopback)
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{url}: expected an answer\n{log.read_text()[-2000:]}")
            time.sleep(0.1)
        else:
            return


AWS_VARIABLES = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture
def endpoint(_endpoint_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The endpoint's URL; ``twinops.aws.session.client`` reaches it meanwhile."""
    for name, value in {**AWS_VARIABLES, "AWS_ENDPOINT_URL": _endpoint_url}.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)
    forget_clients()
    yield _endpoint_url
    forget_clients()


def forget_clients() -> None:
    session.client.cache_clear()
    session.session.cache_clear()
