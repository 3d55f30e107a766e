"""The AWS endpoint of a sandbox, in one process: ``python -m sandbox.emulator``, started by ``python -m sandbox up``.

Settings come from ``SANDBOX_*``, the account's root keys from ``aws/config``. ministack reads its own settings from the
environment when it is imported, so the environment is made first.
"""

from __future__ import annotations

import asyncio
import configparser
import contextlib
import importlib.util
import os
import signal
import sys

from sandbox.settings import ACCOUNT, MARKER, PROFILE, REGION, Settings, load

GENERATION = "SANDBOX_GENERATION"


def main() -> None:
    settings, generation = load(), os.environ[GENERATION]
    # A Lambda function runs on this Python: with websocket-client here, its layer would prove nothing.
    if importlib.util.find_spec("websocket"):
        sys.exit("the emulator's environment: expected no websocket-client, found one; run: make clean setup")
    set_environment(settings)
    from sandbox.emulator.server import serve  # noqa: PLC0415 (reads the environment when it is imported)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(settings, generation, _stop_signals))


def set_environment(settings: Settings) -> None:
    """Replace the environment by what ministack and the functions it runs may see."""
    profile = configparser.ConfigParser()
    profile.read(settings.home / "aws/config")
    keys = profile[f"profile {PROFILE}"]
    temporary = settings.home / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    os.environ.clear()
    os.environ.update(
        {
            MARKER: str(settings.home),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(temporary),
            "TMPDIR": str(temporary),
            "LANG": "C.UTF-8",
            "AWS_ACCESS_KEY_ID": keys["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": keys["aws_secret_access_key"],
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AUTH": "true",
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(settings.port),
            "MINISTACK_HOST": "127.0.0.1",
            "MINISTACK_ACCOUNT_ID": ACCOUNT,
            "MINISTACK_REGION": REGION,
            "MOTO_ACCOUNT_ID": ACCOUNT,
            "S3_DATA_DIR": str(temporary / "s3"),
            "STATE_DIR": str(temporary / "state"),
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            # No Docker daemon is ours to look into.
            "DOCKER_HOST": f"unix://{temporary / 'no-docker.sock'}",
        }
    )


def _stop_signals(stop: asyncio.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


if __name__ == "__main__":
    main()
