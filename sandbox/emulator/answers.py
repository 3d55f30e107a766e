"""Answers in the shapes that AWS services use. An answer is (status, headers, body)."""

from __future__ import annotations

import json
from typing import Any
from xml.sax.saxutils import escape

Answer = tuple[int, dict[str, str], bytes]

JSON_TYPE = "application/x-amz-json-1.1"
QUERY_SERVICES = frozenset({"iam", "sts", "sns", "redshift", "monitoring"})


def json_answer(document: Any, status: int = 200) -> Answer:
    return status, {"Content-Type": JSON_TYPE}, json.dumps(document, default=str).encode()


def json_error(code: str, message: str, status: int = 400) -> Answer:
    """An error of a JSON service; REST-JSON clients read the code from the header."""
    body = json.dumps({"__type": code, "message": message, "Message": message}).encode()
    return status, {"Content-Type": JSON_TYPE, "x-amzn-errortype": code}, body


def error(service: str, code: str, message: str, status: int) -> Answer:
    """An error in the protocol of ``service``."""
    if service == "s3":
        body = f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"
        return status, {"Content-Type": "application/xml"}, body.encode()
    if service in QUERY_SERVICES:
        body = (
            f"<ErrorResponse><Error><Type>Sender</Type><Code>{escape(code)}</Code>"
            f"<Message>{escape(message)}</Message></Error></ErrorResponse>"
        )
        return status, {"Content-Type": "text/xml"}, body.encode()
    return json_error(code, message, status)
