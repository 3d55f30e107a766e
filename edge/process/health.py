"""What the service says: ``/health`` for the installer and the gates, ``/readings`` about its sensor, ``/metrics`` for
Prometheus.
"""

from __future__ import annotations

import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import clock
from errors import SettingsError
from histogram import Histogram
from readings import Readings
from shadow import Shadow

SLOW_CLIENT_S = 5
LOADING_S = 300
"""For a large model from a slow disk; how long a release may take to start is up to who installs it."""


class Status:
    """The facts behind ``/health``. The loop and the uploader write them, requests read them."""

    def __init__(self, release: str, release_digest: str, model_sha256: str) -> None:
        self.identity = {"release": release, "release_digest": release_digest, "model_sha256": model_sha256}
        self.stall_s = 10.0
        self.latency = Histogram()
        self.readings = Readings()
        self.records = self.alarms = self.errors = self.spool_depth = self.spool_dropped = 0
        self.last_upload_at: str | None = None
        self.upload_error: str | None = None
        self.clock_offset_s: float | None = None
        self.shadow: Shadow | None = None
        self._started_at = clock.now()
        self._state, self._reason = "starting", "loading the model"
        self.beat(is_loading=True)

    def beat(self, *, is_loading: bool = False) -> None:
        """The loop is about to take its next step; health says `failed` if it does not come back in ``stall_s``.

        Loading the model may take :data:`LOADING_S`.
        """
        self._beat_s, self._is_loading = time.monotonic(), is_loading

    def ok(self) -> None:
        self._state, self._reason = "ok", ""

    def fail(self, reason: str) -> None:
        """The step failed with ``reason``; `failed` lasts until a step succeeds."""
        self.errors += 1
        self._state, self._reason = "failed", reason

    def as_dict(self) -> dict[str, Any]:
        state, reason = self._state, self._reason
        silent_s = time.monotonic() - self._beat_s
        if silent_s > (LOADING_S if self._is_loading else self.stall_s):
            state, reason = "failed", f"no progress for {silent_s:.0f} s: the model or the disk hangs"
        return {
            "status": state,
            "reason": reason,
            **self.identity,
            "pid": os.getpid(),
            "started_at": self._started_at,
            "records": self.records,
            "alarms": self.alarms,
            "errors": self.errors,
            "latency_ms": {"p50": self._latency_ms(0.5), "p99": self._latency_ms(0.99)},
            "spool_depth": self.spool_depth,
            "spool_dropped": self.spool_dropped,
            "last_upload_at": self.last_upload_at,
            "upload_error": self.upload_error,
            "clock_offset_s": self.clock_offset_s,
            **({"shadow": self.shadow.as_dict()} if self.shadow else {}),
        }

    def _latency_ms(self, share: float) -> float | None:
        quantile_s = self.latency.quantile_s(share)
        return None if quantile_s is None else round(quantile_s * 1000, 3)


def as_prometheus(health: dict[str, Any]) -> str:
    """``health`` in the text format of Prometheus."""
    series: list[tuple[str, str, str, Any]] = [
        ("up", "gauge", "", int(health["status"] == "ok")),
        ("records_total", "counter", "", health["records"]),
        ("alarms_total", "counter", "", health["alarms"]),
        ("errors_total", "counter", "", health["errors"]),
        ("spool_depth", "gauge", "", health["spool_depth"]),
        ("spool_dropped_total", "counter", "", health["spool_dropped"]),
        ("upload_failing", "gauge", "", int(health["upload_error"] is not None)),
    ]
    if "shadow" in health:
        counted = ("records", "agreed", "alarms", "skipped", "failures")
        series += [(f"shadow_{name}_total", "counter", "", health["shadow"][name]) for name in counted]
    lines = [f'twinops_info{{release="{health["release"]}",model_sha256="{health["model_sha256"]}"}} 1']
    for name, kind, labels, value in series:
        lines += [f"# TYPE twinops_{name} {kind}", f"twinops_{name}{labels} {value}"]
    for quantile, value_ms in (("0.5", health["latency_ms"]["p50"]), ("0.99", health["latency_ms"]["p99"])):
        if value_ms is not None:
            lines.append(f'twinops_latency_seconds{{quantile="{quantile}"}} {value_ms / 1000:.6f}')
    return "\n".join(lines) + "\n"


def serve(status: Status, address: str, port: int) -> ThreadingHTTPServer:
    """Answers from now on, in the background. Raises SettingsError where the address cannot be bound."""

    class Handler(BaseHTTPRequestHandler):
        timeout = SLOW_CLIENT_S

        def do_GET(self) -> None:
            health = status.as_dict()
            if self.path == "/health":
                self._answer(200 if health["status"] == "ok" else 503, "application/json", json.dumps(health))
            elif self.path == "/readings":
                self._answer(200, "application/json", json.dumps(status.readings.as_dict()))
            elif self.path == "/metrics":
                self._answer(200, "text/plain; version=0.0.4", as_prometheus(health))
            else:
                self._answer(404, "text/plain", "expected /health, /readings or /metrics\n")

        def _answer(self, code: int, content_type: str, text: str) -> None:
            body = text.encode()
            self.send_response(code)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Probes come every second; a device's log is for what went wrong."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that went away in the middle of an answer is its own problem."""

    try:
        server = Server((address, port), Handler)
    except OSError as error:
        raise SettingsError(
            f"device.json: address and health_port: cannot listen on {address}:{port}: {error}"
        ) from error
    threading.Thread(target=server.serve_forever, args=(60,), name="health", daemon=True).start()
    return server
