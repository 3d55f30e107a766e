"""Times as the whole of twinops writes them: ISO 8601 UTC with microseconds and ``Z``."""

from __future__ import annotations

import time
from datetime import datetime, timezone


def iso(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, timezone.utc).isoformat(timespec="microseconds")[:-6] + "Z"


def now() -> str:
    return iso(time.time())
