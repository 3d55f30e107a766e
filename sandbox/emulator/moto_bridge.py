"""Services that ministack lacks, served by moto inside this process. IAM stays ministack's."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import urlencode

from ministack.core.responses import get_account_id
from moto.backends import get_backend
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.test import EnvironBuilder, run_wsgi_app

from sandbox.emulator import answers
from sandbox.emulator.answers import Answer
from sandbox.settings import ACCOUNT, REGION

_application = DomainDispatcherApplication(create_backend_app)


def call(  # noqa: PLR0917 (the arguments of every handler)
    service: str, method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, list[str]]
) -> Answer:
    """Pass one request on to moto. What moto has not implemented is 501, never an HTML page."""
    environ = EnvironBuilder(
        method=method,
        path=path,
        query_string=urlencode(query or {}, doseq=True),
        headers={name: value for name, value in headers.items() if name != "content-length"},
        data=body,
    ).get_environ()
    environ["HTTP_X_MOTO_ACCOUNT_ID"] = get_account_id()  # the same account as ministack's STS says
    try:
        chunks, status_line, response_headers = run_wsgi_app(_application, environ)
    except NotImplementedError as error:
        return answers.error(service, headers, "NotImplementedException", str(error), 501)
    status, content = int(status_line.split()[0]), b"".join(chunks)
    if (status >= 500 and content.lstrip()[:1] not in (b"{", b"<")) or b"<!doctype html" in content[:100].lower():
        return answers.error(service, headers, "NotImplementedException", content.decode(errors="replace")[:300], 501)
    return status, {"Content-Type": response_headers.get("Content-Type", answers.JSON_TYPE)}, content


def handler(service: str) -> Any:
    """A ministack handler that passes everything on."""

    async def handle(
        method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, list[str]]
    ) -> Answer:
        return await asyncio.to_thread(call, service, method, path, headers, body, query)

    return handle


def backend(service: str) -> Any:
    """moto's records of a service in the sandbox's account and region."""
    return get_backend(service)[ACCOUNT][REGION]


def decode(answer: Answer) -> Any:
    return json.loads(answer[2] or b"{}")
