"""Puts the parts of the endpoint together and serves them on loopback."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from typing import Any

from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config
from ministack import app as ministack_app

from sandbox.emulator import (
    authorization_details,
    credentials,
    decisions,
    ec2,
    encryption,
    event_rules,
    iam_context,
    iam_policies,
    lambda_roles,
    moto_bridge,
    permissions,
    root_key,
    tagging,
    topic_policies,
    unsupported,
    web_identity,
)
from sandbox.emulator.alarms import Alarms
from sandbox.emulator.answers import Answer
from sandbox.emulator.calls import CallLog, Message, Receive, Send
from sandbox.emulator.events import AsynchronousInvocations
from sandbox.emulator.limits import Limits
from sandbox.emulator.mail import Mailbox
from sandbox.emulator.notebooks import Notebooks
from sandbox.emulator.redshift_data import RedshiftData
from sandbox.emulator.schedules import Schedules
from sandbox.emulator.sns_mail import SnsMail
from sandbox.settings import Settings


async def serve(settings: Settings, generation: str, on_stop: Callable[[asyncio.Event], None]) -> None:
    """Serve until ``on_stop`` sets its event; then end the notebooks and the functions' processes."""
    redshift_folder = settings.home / "redshift"
    shutil.rmtree(redshift_folder, ignore_errors=True)  # the data goes with the cloud it was loaded into
    notebooks = Notebooks(settings, settings.home / "keys/notebook-urls")
    mailbox, sns_mail = Mailbox(settings.home / "mail", settings.confirmed_mail), SnsMail(settings)
    redshift_data = RedshiftData(redshift_folder)

    unsupported.teach_router()
    ministack_app.SERVICE_HANDLERS.update(
        {
            "ec2": ec2.Ec2().handle,
            "sagemaker": notebooks.handle,
            "redshift": moto_bridge.handler("redshift"),
            "redshift-data": redshift_data.handle,
        }
    )
    unsupported.install()
    sns_mail.install()
    ec2.install()
    tagging.install()
    root_key.install()
    lambda_roles.install(settings.iam_delay_s)
    event_rules.install()
    iam_context.install(redshift_data.owner_of)
    authorization_details.install()
    decisions.install(settings.home / "decisions.jsonl")
    AsynchronousInvocations(settings).install()
    Schedules(settings).install()
    topic_policies.install()
    alarms = Alarms()
    alarms.install()
    encryption.install()
    iam_policies.install()
    permissions.install()
    web_identity.install(settings.home / "oidc")

    sns_mail.smtp_port = await mailbox.serve()
    health = {"generation": generation, "smtp_port": sns_mail.smtp_port}
    limited = Limits(OwnPaths(ministack_app.app, health), settings.aws_rates, settings.aws_latency_ms)
    application = CallLog(limited, settings.home / "calls.jsonl")

    stop = asyncio.Event()
    on_stop(stop)
    config = Config()
    config.bind = [f"127.0.0.1:{settings.port}"]
    config.keep_alive_timeout = 75
    config.graceful_timeout = 2
    evaluation = asyncio.create_task(alarms.run())
    try:
        await hypercorn_serve(application, config, shutdown_trigger=stop.wait)  # type: ignore[arg-type]
    finally:
        evaluation.cancel()
        await asyncio.to_thread(notebooks.stop_all)


class OwnPaths:
    """``/_sandbox/...`` is ours; of ministack's administration only what functions' downloads need is let through."""

    def __init__(self, application: Callable[..., Any], health: dict[str, Any]) -> None:
        self._application = application
        self._health = health

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(("/_sandbox/", "/_ministack/reset")):
            await self._application(scope, receive, send)
            return
        status, headers, body = self._answer(scope["path"])
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        raw.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    def _answer(self, path: str) -> Answer:
        if path.startswith(credentials.PREFIX):
            return credentials.answer(path)
        if path == "/_sandbox/health":
            return 200, {"Content-Type": "application/json"}, json.dumps(self._health).encode()
        return 404, {"Content-Type": "application/json"}, b'{"message": "no such path"}'
