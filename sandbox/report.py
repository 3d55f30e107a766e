"""What runs in the sandbox, for a person and as JSON."""

from __future__ import annotations

import json
from typing import Any

from botocore.exceptions import ClientError

from sandbox import lifecycle
from sandbox.account import session
from sandbox.devices import Device
from sandbox.settings import Settings

RUNS_SHOWN = 5
LEDGER = "twinops-sandbox-ledger"


def status(settings: Settings) -> dict[str, Any]:
    """The state of every part. Reading it changes nothing."""
    emulator = lifecycle.running(settings)
    document: dict[str, Any] = {
        "running": emulator is not None,
        "home": str(settings.home),
        "endpoint_url": settings.endpoint_url,
        "generation": (emulator or {}).get("generation"),
        "smtp_port": (emulator or {}).get("smtp_port"),
        "devices": [_device(device) for device in lifecycle.all_devices(settings)],
        "mails": sorted(str(path) for path in (settings.home / "mail").glob("*.eml")),
        "notebooks": {},
        "runs": [],
    }
    if emulator is not None:
        aws = session(settings)
        listed = aws.client("sagemaker").list_notebook_instances()["NotebookInstances"]
        document["notebooks"] = {one["NotebookInstanceName"]: one["NotebookInstanceStatus"] for one in listed}
        document["runs"] = _latest_runs(aws)
    return document


def _device(device: Device) -> dict[str, Any]:
    return {"name": device.name, "address": device.address, "on": device.is_on, "release": _release(device)}


def _release(device: Device) -> str | None:
    try:
        release: str | None = json.loads((device.edge_root / "state.json").read_text()).get("release")
        return release
    except (OSError, ValueError):
        return None


def _latest_runs(aws: Any) -> list[dict[str, str]]:
    try:
        answer = aws.client("dynamodb").query(
            TableName=LEDGER,
            IndexName="kind-at",
            KeyConditionExpression="#kind = :run",
            ExpressionAttributeNames={"#kind": "kind"},
            ExpressionAttributeValues={":run": {"S": "run"}},
            ScanIndexForward=False,
            Limit=RUNS_SHOWN,
        )
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            return []  # nothing is deployed yet
        raise
    shown = ("run_id", "workflow", "state", "claimed_at")
    return [{name: next(iter(item.get(name, {"S": ""}).values())) for name in shown} for item in answer["Items"]]


def as_text(document: dict[str, Any]) -> str:
    devices = document["devices"]
    if not document["running"]:
        on = sum(device["on"] for device in devices)
        return "Sandbox: not running; run: make up" + (f" ({on} devices are still on)" if on else "")
    lines = [
        "Sandbox",
        f"  AWS endpoint  {document['endpoint_url']}",
        f"  mail          {len(document['mails'])} in {document['home']}/mail",
        *(f"  notebook      {name}: {state}" for name, state in document["notebooks"].items()),
        *(
            f"  device        {one['name']} {one['address']} {'on' if one['on'] else 'off'}, "
            f"release {one['release'] or 'none'}"
            for one in devices
        ),
        *(
            f"  run           {run['claimed_at']} {run['workflow']} {run['state']} {run['run_id']}"
            for run in document["runs"]
        ),
    ]
    return "\n".join(lines)


def jupyter_links(settings: Settings) -> dict[str, str]:
    """A presigned link to each notebook that is in service, by name."""
    sagemaker = session(settings).client("sagemaker")
    listed = sagemaker.list_notebook_instances(StatusEquals="InService")["NotebookInstances"]
    return {
        one["NotebookInstanceName"]: sagemaker.create_presigned_notebook_instance_url(
            NotebookInstanceName=one["NotebookInstanceName"]
        )["AuthorizedUrl"]
        for one in listed
    }
