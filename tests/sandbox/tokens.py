"""Tokens of an identity provider such as GitLab, signed with a key that the sandbox can be told."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

TOKEN_LIFETIME_S = 300


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """A provider of identities with one signing key."""

    def __init__(self, url: str, kid: str = "1") -> None:
        self._url, self._kid = url, kid
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @property
    def key_set(self) -> dict[str, Any]:
        numbers = self._key.public_key().public_numbers()
        parts = {
            name: encoded(value.to_bytes((value.bit_length() + 7) // 8, "big"))
            for name, value in (("n", numbers.n), ("e", numbers.e))
        }
        return {"issuer": self._url, "keys": [{"kty": "RSA", "kid": self._kid, "alg": "RS256", "use": "sig", **parts}]}

    def token(self, **claims: Any) -> str:
        """``claims``: at least ``aud`` and ``sub``."""
        now = int(time.time())
        claims = {"iss": self._url, "iat": now, "exp": now + TOKEN_LIFETIME_S, **claims}
        header = {"alg": "RS256", "typ": "JWT", "kid": self._kid}
        text = ".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
        signature = self._key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{text}.{encoded(signature)}"
