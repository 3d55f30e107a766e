"""Times as the whole of twinops writes them: ISO 8601 UTC with microseconds and ``Z``."""

from __future__ import annotations

import time
from datetime import datetime, timezone


def iso(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def now() -> str:
    return iso(time.time())
