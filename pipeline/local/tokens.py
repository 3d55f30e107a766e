"""The issuer of ``id_tokens``, with GitLab's claims (https://docs.gitlab.com/ci/secrets/id_token_authentication/)."""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from pipeline.local.model import Job, Pipeline

KEY_ID = "gitlab-local"


class Issuer:
    """Signs with a key of its own, made on first use. ``url`` is what tokens name, and what AWS would ask for keys."""

    def __init__(self, folder: Path, url: str) -> None:
        self._url, path = url, folder / "oidc.pem"
        if not path.exists():
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            pem = key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(pem)
        loaded = serialization.load_pem_private_key(path.read_bytes(), password=None)
        assert isinstance(loaded, rsa.RSAPrivateKey)  # noqa: S101  (made above)
        self._key = loaded

    @property
    def key_set(self) -> dict[str, Any]:
        """The JSON Web Key Set that the issuer publishes, with its name (docs/sandbox.md)."""
        numbers = self._key.public_key().public_numbers()
        parts = {
            name: _encoded(value.to_bytes((value.bit_length() + 7) // 8, "big"))
            for name, value in (("n", numbers.n), ("e", numbers.e))
        }
        return {"issuer": self._url, "keys": [{"kty": "RSA", "kid": KEY_ID, "alg": "RS256", "use": "sig", **parts}]}

    def token(self, *, audience: str, project: str, pipeline: Pipeline, job: Job, lifetime_s: int) -> str:
        """A token for one job."""
        now = int(time.time())
        claims = {
            "iss": self._url,
            "aud": audience,
            "iat": now,
            "nbf": now - 5,
            "exp": now + lifetime_s,
            "sub": f"project_path:{project}:ref_type:branch:ref:{pipeline.ref}",
            "project_path": project,
            "ref": pipeline.ref,
            "ref_type": "branch",
            "ref_protected": str(pipeline.ref == "main").lower(),
            "pipeline_id": str(pipeline.number),
            "pipeline_source": pipeline.source,
            "user_login": job.approved_by or pipeline.user,
            "sha": pipeline.commit,
            **({"environment": job.environment} if job.environment else {}),
        }
        return self.sign(claims)

    def sign(self, claims: dict[str, Any]) -> str:
        """Any claims, signed."""
        header = {"alg": "RS256", "typ": "JWT", "kid": KEY_ID}
        text = ".".join(_encoded(json.dumps(part).encode()) for part in (header, claims))
        return f"{text}.{_encoded(self._key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
