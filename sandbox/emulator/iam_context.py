"""IAM condition keys that ministack does not fill in, without which policies that are right in AWS deny too much here.

- ``aws:SecureTransport``: our endpoint speaks plain HTTP on the loopback interface, where AWS has TLS. It is reported
  as secure, so that a bucket policy that refuses plain HTTP means here what it means there.
- ``cloudwatch:namespace``: of PutMetricData, whose policies are scoped by nothing else.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

from ministack import app as ministack_app
from ministack.core import iam_actions


def install() -> None:
    """Fill the keys in, for every request from now on."""
    pin_origin = ministack_app.pin_request_origin
    request_context = iam_actions.request_tag_context

    def pin_as_secure(source_ip: str, _secure_transport: bool) -> None:
        pin_origin(source_ip, True)

    def with_namespace(service: str, iam_action: str, body: bytes, parameters: dict[str, Any]) -> dict[str, Any]:
        context: dict[str, Any] = request_context(service, iam_action, body, parameters)
        namespace = metric_namespace(body) if iam_action == "cloudwatch:PutMetricData" else None
        return {**context, "cloudwatch:namespace": namespace} if namespace else context

    ministack_app.pin_request_origin = pin_as_secure
    iam_actions.request_tag_context = with_namespace


def metric_namespace(body: bytes) -> str | None:
    """The namespace of a PutMetricData request, in JSON or as a query."""
    try:
        return str(json.loads(body)["Namespace"])
    except (ValueError, KeyError, TypeError):
        return parse_qs(body.decode("utf-8", "replace")).get("Namespace", [None])[0]
