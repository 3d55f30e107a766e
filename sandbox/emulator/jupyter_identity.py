"""Runs a stock jupyter-server that accepts SageMaker-style ``?authToken=`` URLs. Runs in .cache/envs/jupyter.

    jupyter_identity.py --notebook NAME --key-file FILE <jupyter-server arguments>

A token is ``base64url(<notebook>.<expiry, Unix seconds>.<HMAC-SHA256 of both>)``, signed with the key in the file.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import sys
import time
from pathlib import Path
from typing import Any

from jupyter_server.auth.identity import IdentityProvider, User
from jupyter_server.serverapp import ServerApp
from traitlets import Unicode


class SageMakerIdentityProvider(IdentityProvider):
    """Accepts a signed, unexpired token of this notebook; the rest is jupyter-server's own."""

    notebook = Unicode(config=True, help="name of the notebook instance")
    key_file = Unicode(config=True, help="file with the signing key")

    async def get_user_token(self, handler: Any) -> User | None:
        token = handler.get_argument("authToken", "")
        if not token:
            return await super().get_user_token(handler)
        if is_valid(token, self.notebook, Path(self.key_file).read_bytes(), time.time()):
            return self.generate_anonymous_user(handler)
        self.log.warning("authToken refused: forged, expired, or another notebook's")
        return None


def is_valid(token: str, notebook: str, key: bytes, now: float) -> bool:
    try:
        name, expiry, signature = base64.urlsafe_b64decode(token).decode().rsplit(".", 2)
        expected = hmac.new(key, f"{name}.{expiry}".encode(), hashlib.sha256).hexdigest()
        return hmac.compare_digest(signature, expected) and name == notebook and now < int(expiry)
    except ValueError:
        return False


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--notebook", required=True)
    parser.add_argument("--key-file", required=True)
    ours, jupyter_arguments = parser.parse_known_args()
    # This folder must not shadow anything that the server or a kernel imports.
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]
    ServerApp.launch_instance(
        argv=[
            *jupyter_arguments,
            f"--SageMakerIdentityProvider.notebook={ours.notebook}",
            f"--SageMakerIdentityProvider.key_file={ours.key_file}",
        ],
        identity_provider_class=SageMakerIdentityProvider,
    )


if __name__ == "__main__":
    main()
