"""Uploads the facts of a device: ``twinops-edge report``; ``twinops-edge facts`` prints what would be uploaded.

In a process of its own, so that a service that is dead is reported as well, with the role by which the service uploads
decisions. ``latest.json`` is replaced each time; once an hour a copy stays as history, until the bucket's lifecycle
removes it. A device that finds something wrong with itself puts an event on the bus.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ..diagnosis import Finding
from ..errors import TwinopsError
from . import agent, alarms, durable
from .clients import client
from .facts import facts
from .state import note

RECORD = "run/report.json"
MEMORY = "run/alarms.json"
"""What alarms were raised, and what readings are usual."""
PREFIX = "facts/"

UPLOADED, OFFLINE, FAILED = "uploaded", "offline", "failed"


def latest_key(device: str) -> str:
    return f"{PREFIX}{device}/latest.json"


def history_key(device: str, reported_at: str) -> str:
    """One an hour: the first report in it."""
    return f"{PREFIX}{device}/history/{reported_at[:10]}/{reported_at[11:13]}.json"


def report(root: Path) -> tuple[str, str]:
    """Upload once; returns (outcome, why). Never raises for what may happen to a device in the field."""
    done = ""
    try:
        settings = read_settings(root)
        os.environ.update(settings["aws_environment"])  # where botocore looks; this process does nothing else
        found = facts(root, settings)
        memory = _memory(root)
        wrong, news, remembered = alarms.examine(found, memory)
        found["alarms"] = [asdict(one) for one in wrong]
        upload(root, found, str(settings["bucket"]))
        done = "uploaded, alarm not raised: "
        raised = raise_alarms(root, found, news, memory, remembered) if settings.get("alarms") else 0
    except BotoCoreError as error:
        return OFFLINE, f"{done}{error}"
    except ClientError as error:
        is_refusal = 400 <= error.response["ResponseMetadata"]["HTTPStatusCode"] < 500  # not that AWS is in trouble
        return FAILED if is_refusal else OFFLINE, f"{done}{error}"
    except TwinopsError as error:
        return FAILED, str(error)
    except (OSError, ValueError, TypeError, KeyError) as error:
        return FAILED, f"{done}{type(error).__name__}: {error}; enrol the device again (--tags edge_base)"
    alarm = f", {raised} new alarms" if raised else ""
    return UPLOADED, f"{found['phase']}, service {(found['health'] or {}).get('status', 'does not answer')}{alarm}"


def read_settings(root: Path) -> dict[str, Any]:
    """``report.json``, written when the device is enrolled: ``{bucket, interval_s, service_manager, alarms,
    aws_environment}``.

    :raises TwinopsError: there is none, it may not be read, or it is no JSON object
    """
    path = root / agent.REPORT_SETTINGS
    try:
        return dict(json.loads(path.read_bytes()))
    except FileNotFoundError as error:
        raise TwinopsError(
            f"{path}: expected settings, found none; set edge_report_interval_s and enrol the device (--tags edge_base)"
        ) from error
    except PermissionError as error:
        raise TwinopsError(f"{path}: {error.strerror}; expected root, or who enrolled the device") from error
    except (OSError, ValueError, TypeError) as error:
        raise TwinopsError(f"{path}: {error}; enrol the device again (--tags edge_base)") from error


def upload(root: Path, found: Mapping[str, Any], bucket: str) -> None:
    """Put the facts; into the history as well where this hour has none from here."""
    device, reported_at = str(found["device"]), str(found["reported_at"])
    s3 = client("s3")
    body = json.dumps(found, separators=(",", ":")).encode()

    def put(key: str) -> None:
        s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json")

    put(latest_key(device))
    mark = root / "run/report.hour"
    with contextlib.suppress(FileNotFoundError):
        if mark.read_text(encoding="ascii") == reported_at[:13]:
            return
    put(history_key(device, reported_at))
    _keep(mark, reported_at[:13])


def _memory(root: Path) -> dict[str, Any]:
    """What alarms were raised, and what readings are usual; nothing where that was damaged."""
    try:
        return dict(json.loads((root / MEMORY).read_bytes()))
    except (OSError, ValueError, TypeError):
        return {}


def raise_alarms(
    root: Path,
    found: Mapping[str, Any],
    news: Sequence[Finding],
    memory: Mapping[str, Any],
    remembered: Mapping[str, Any],
) -> int:
    """Put an event about what is newly wrong; returns how much that is.

    :raises BotoCoreError, ClientError: it could not be put; the next report tries again
    """
    if news and not _keep(root / MEMORY, json.dumps(memory)) and not _begins_hour(found):
        return 0  # who cannot remember what he said says it once an hour
    if news:
        entry = {"Source": alarms.SOURCE, "DetailType": alarms.DETAIL_TYPE}
        detail = json.dumps(alarms.event(found, news))
        answer = client("events").put_events(Entries=[{**entry, "Detail": detail}])
        if answer["FailedEntryCount"]:
            raise ClientError({"Error": answer["Entries"][0]}, "PutEvents")
    if remembered != memory:
        _keep(root / MEMORY, json.dumps(remembered))
    return len(news)


def _keep(path: Path, text: str) -> bool:
    """Write a file; false where the disk is full or read-only, which is what the facts say then."""
    try:
        durable.write_file(path, text.encode())
    except OSError:
        return False
    return True


def _begins_hour(found: Mapping[str, Any]) -> bool:
    """Whether this is the first report of an hour."""
    minutes, seconds = int(found["reported_at"][14:16]), float(found["reported_at"][17:19])
    return bool(minutes * 60 + seconds < (found["interval_s"] or 0))


def main(root: Path, command: str) -> int:
    """``facts`` prints. ``report`` uploads and says so: 0 also when nobody answered, 1 when it failed."""
    if command == "facts":
        try:
            settings = read_settings(root)
        except TwinopsError as error:
            sys.stderr.write(f"{FAILED}: {error}\n")
            return 1
        sys.stdout.write(json.dumps(facts(root, settings), indent=2) + "\n")
        return 0
    outcome, why = report(root)
    note(root / RECORD, outcome, why)
    if outcome != UPLOADED:
        sys.stderr.write(f"{outcome}: {why}\n")
    return 1 if outcome == FAILED else 0
