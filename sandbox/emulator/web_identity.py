"""OpenID Connect: identity providers that can be changed, and tokens whose signature, issuer, audience and time count.

ministack takes any token for what it says. AWS fetches the issuer's keys from its web site; here they are read from
``SANDBOX_HOME/oidc/*.json``: a JSON Web Key Set with one member more, ``"issuer"``.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from ministack import app as ministack_app
from ministack.services import iam

from sandbox.emulator import answers
from sandbox.emulator.answers import Answer

OPERATION = "AssumeRoleWithWebIdentity"
ALGORITHMS = ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"]
CLOCK_SKEW_S = 60


class Rejected(Exception):
    """A token that STS does not take: error code and why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def install(folder: Path) -> None:
    """Check tokens by the keys in ``folder``, and offer the operations on providers that ministack lacks."""
    iam._IAM_HANDLERS.update(
        {
            "AddClientIDToOpenIDConnectProvider": _add_client,
            "RemoveClientIDFromOpenIDConnectProvider": _remove_client,
            "UpdateOpenIDConnectProviderThumbprint": _set_thumbprints,
            "TagOpenIDConnectProvider": _tag,
            "UntagOpenIDConnectProvider": _untag,
            "ListOpenIDConnectProviderTags": _list_tags,
        }
    )
    assume = ministack_app.SERVICE_HANDLERS["sts"]

    async def handle(
        method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, list[str]]
    ) -> Answer:
        parameters = {**query, **parse_qs(body.decode("utf-8", "replace"))}
        asks = parameters.get("Action", [""])[0] == OPERATION
        claims: dict[str, Any] = {}
        if asks:
            try:
                claims = verify(parameters.get("WebIdentityToken", [""])[0], folder)
            except Rejected as error:
                status = 403 if error.code == "AccessDenied" else 400
                return answers.error("sts", headers, error.code, str(error), status)
        status, answer_headers, content = await assume(method, path, headers, body, query)
        if asks and status == 200:
            content = content.replace(b"test-subject", str(claims["sub"]).encode())
            content = content.replace(b"<Provider>sts.amazonaws.com<", f"<Provider>{claims['iss']}<".encode())
        return status, answer_headers, content

    ministack_app.SERVICE_HANDLERS["sts"] = handle


def verify(token: str, folder: Path) -> dict[str, Any]:
    """The claims of a token that a known provider signed for one of its clients. Raises ``Rejected``."""
    keys, issuer = _keys_of_issuer(token, folder)
    provider = iam._oidc_providers.get(f"arn:aws:iam::{iam.get_account_id()}:oidc-provider/{_host(issuer)}")
    if provider is None:
        message = f"No OpenIDConnect provider found in your account for {issuer}"
        raise Rejected("InvalidIdentityToken", message)
    try:
        claims: dict[str, Any] = jwt.decode(token, keys, algorithms=ALGORITHMS).claims
    except (JoseError, ValueError) as error:
        raise Rejected("InvalidIdentityToken", f"Couldn't verify the token's signature: {error}") from None
    now = time.time()
    if not isinstance(claims.get("exp"), (int, float)) or claims["exp"] < now - CLOCK_SKEW_S:
        raise Rejected("ExpiredTokenException", f"Token expired: current date/time {now:.0f} must be before exp")
    if max(claims.get("iat", 0), claims.get("nbf", 0)) > now + CLOCK_SKEW_S:
        raise Rejected("InvalidIdentityToken", "The token is not valid yet")
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if not set(audiences) & set(provider["ClientIDList"]):
        raise Rejected("InvalidIdentityToken", "Incorrect token audience")
    if not claims.get("sub"):
        raise Rejected("InvalidIdentityToken", "Missing a required claim: sub")
    return claims


def _keys_of_issuer(token: str, folder: Path) -> tuple[KeySet, str]:
    """The keys of the issuer that a token names."""
    for path in sorted(folder.glob("*.json")):
        document = json.loads(path.read_text())
        keys = KeySet.import_key_set(document)
        issuer = str(document["issuer"])
        if _names_issuer(token, issuer):
            return keys, issuer
    raise Rejected("InvalidIdentityToken", f"No keys of the token's issuer in {folder}")


def _names_issuer(token: str, issuer: str) -> bool:
    from ministack.services.cognito import _decode_id_token_unverified  # noqa: PLC0415 (large, and rarely asked for)

    try:
        return bool(_decode_id_token_unverified(token)["iss"] == issuer)
    except (ValueError, TypeError, KeyError):
        return False


def _host(issuer: str) -> str:
    return issuer.removeprefix("https://").removeprefix("http://").rstrip("/")


# ---- identity providers


def _change(parameters: Any, operation: str, member: str, update: Any) -> Answer:
    provider = iam._oidc_providers.get(iam._p(parameters, "OpenIDConnectProviderArn"))
    if provider is None:
        message = f"OIDC provider {iam._p(parameters, 'OpenIDConnectProviderArn')} not found."
        missing: Answer = iam._error(404, "NoSuchEntity", message, ns="iam")
        return missing
    provider[member] = update(provider[member])
    done: Answer = iam._xml(200, f"{operation}Response", "", ns="iam")
    return done


def _members(parameters: Any, name: str) -> list[str]:
    return [values[0] for key, values in parameters.items() if key.startswith(f"{name}.member.")]


def _add_client(parameters: Any) -> Answer:
    client = iam._p(parameters, "ClientID")
    return _change(
        parameters,
        "AddClientIDToOpenIDConnectProvider",
        "ClientIDList",
        lambda clients: [*(one for one in clients if one != client), client],
    )


def _remove_client(parameters: Any) -> Answer:
    client = iam._p(parameters, "ClientID")
    return _change(
        parameters,
        "RemoveClientIDFromOpenIDConnectProvider",
        "ClientIDList",
        lambda clients: [one for one in clients if one != client],
    )


def _set_thumbprints(parameters: Any) -> Answer:
    thumbprints = _members(parameters, "ThumbprintList")
    return _change(parameters, "UpdateOpenIDConnectProviderThumbprint", "ThumbprintList", lambda _: thumbprints)


def _tag(parameters: Any) -> Answer:
    added = {tag["Key"]: tag for tag in iam._extract_tags(parameters)}
    return _change(
        parameters,
        "TagOpenIDConnectProvider",
        "Tags",
        lambda tags: list({**{tag["Key"]: tag for tag in tags}, **added}.values()),
    )


def _untag(parameters: Any) -> Answer:
    keys = _members(parameters, "TagKeys")
    return _change(
        parameters, "UntagOpenIDConnectProvider", "Tags", lambda tags: [tag for tag in tags if tag["Key"] not in keys]
    )


def _list_tags(parameters: Any) -> Answer:
    provider = iam._oidc_providers.get(iam._p(parameters, "OpenIDConnectProviderArn"))
    if provider is None:
        return _change(parameters, "", "", None)
    tags = "".join(
        f"<member><Key>{answers.escape(tag['Key'])}</Key><Value>{answers.escape(tag['Value'])}</Value></member>"
        for tag in provider["Tags"]
    )
    inner = f"<ListOpenIDConnectProviderTagsResult><Tags>{tags}</Tags></ListOpenIDConnectProviderTagsResult>"
    answer: Answer = iam._xml(200, "ListOpenIDConnectProviderTagsResponse", inner, ns="iam")
    return answer
