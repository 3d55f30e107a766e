"""Answers in the shapes that AWS services use. An answer is (status, headers, body)."""

from __future__ import annotations

import json
from typing import Any
from xml.sax.saxutils import escape

Answer = tuple[int, dict[str, str], bytes]

JSON_TYPE = "application/x-amz-json-1.1"
FORM = "application/x-www-form-urlencoded"


def json_answer(document: Any, status: int = 200) -> Answer:
    return status, {"Content-Type": JSON_TYPE}, json.dumps(document, default=str).encode()


def json_error(code: str, message: str, status: int = 400) -> Answer:
    """An error of a JSON service; REST-JSON clients read the code from the header."""
    body = json.dumps({"__type": code, "message": message, "Message": message}).encode()
    return status, {"Content-Type": JSON_TYPE, "x-amzn-errortype": code}, body


def error(service: str, headers: dict[str, str], code: str, message: str, status: int) -> Answer:
    """An error in the protocol of the request: XML for S3, EC2 and the query protocol, JSON for the rest."""
    item = f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
    if service == "s3":
        return status, {"Content-Type": "application/xml"}, f"<Error>{item}</Error>".encode()
    if service == "ec2":
        body = f"<Response><Errors><Error>{item}</Error></Errors></Response>"
        return status, {"Content-Type": "text/xml"}, body.encode()
    if headers.get("content-type", "").startswith(FORM):
        body = f"<ErrorResponse><Error><Type>Sender</Type>{item}</Error></ErrorResponse>"
        return status, {"Content-Type": "text/xml"}, body.encode()
    return json_error(code, message, status)
