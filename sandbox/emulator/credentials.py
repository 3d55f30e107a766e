"""Credentials of things that are not people: the stand-in for instance metadata and the Greengrass token service.

``GET /_sandbox/credentials/<role>`` answers what botocore's container provider reads
(``AWS_CONTAINER_CREDENTIALS_FULL_URI``). There is no bearer token: the endpoint listens on loopback only.
"""

from __future__ import annotations

import json

from sandbox.emulator import roles
from sandbox.emulator.answers import Answer
from sandbox.settings import ACCOUNT, REGION

PREFIX = "/_sandbox/credentials/"

# Who hands out credentials this way in AWS: a notebook instance, and a device's token exchange.
SERVICES = {
    "sagemaker.amazonaws.com": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:notebook-instance/any",
    "credentials.iot.amazonaws.com": f"arn:aws:iot:{REGION}:{ACCOUNT}:rolealias/any",
}


def answer(path: str) -> Answer:
    """The keys of the role that the path names, or why not."""
    role_name = path.removeprefix(PREFIX)
    try:
        keys = roles.issue_keys(role_name, "sandbox", SERVICES)
    except roles.RoleError as error:
        code = "NoSuchEntity" if error.status == 404 else "AccessDenied"
        return (
            error.status,
            {"Content-Type": "application/json"},
            json.dumps({"code": code, "message": str(error)}).encode(),
        )
    document = {
        "AccessKeyId": keys.access_key_id,
        "SecretAccessKey": keys.secret_access_key,
        "Token": keys.token,
        "Expiration": keys.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return 200, {"Content-Type": "application/json"}, json.dumps(document).encode()
