"""CloudWatch dashboards, compared by what their JSON says."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, cast

from ...errors import TwinopsError
from ...plan import Change, Observed
from ...resources import Dashboard
from ..owned import Owned
from ..session import Aws, absent_as_none

SERVICES = ("cloudwatch",)
WORKERS = 2
READ_BACK = False
PARTS = ("observability",)

_MISSING = ("ResourceNotFound", "DashboardNotFoundError")


def observe(aws: Aws, names: Collection[str]) -> dict[str, Observed]:
    return aws.found(lambda name: _observe(aws, name), names)


def _observe(aws: Aws, name: str) -> Observed | None:
    found = absent_as_none(aws.client("cloudwatch").get_dashboard, *_MISSING, DashboardName=name)
    return Observed(Dashboard(name=name, tags={}, body=_decoded(found["DashboardBody"]))) if found else None


def _decoded(body: str) -> Any:
    """What is no JSON any more is a difference like any other."""
    try:
        return json.loads(body)
    except ValueError:
        return {"not JSON": body}


def list_owned(aws: Aws) -> list[Owned]:
    """There is one, and its name is known: only where it is not declared it has to be asked for."""
    return [Owned((Dashboard.kind, aws.scope.names.dashboard), PARTS[0], "")]


def create(aws: Aws, change: Change) -> None:
    """Raises TwinopsError for a body that CloudWatch took and cannot show."""
    dashboard = cast(Dashboard, change.desired)
    body = json.dumps(dashboard.body, separators=(",", ":"))
    answer = aws.client("cloudwatch").put_dashboard(DashboardName=dashboard.name, DashboardBody=body)
    mistakes = [f"{it.get('DataPath', '')}: {it.get('Message', '')}" for it in answer["DashboardValidationMessages"]]
    if mistakes:
        raise TwinopsError(f"dashboard {dashboard.name}: {'; '.join(mistakes)}")


update = create  # AWS replaces the whole


def delete(aws: Aws, change: Change) -> None:
    absent_as_none(aws.client("cloudwatch").delete_dashboards, *_MISSING, DashboardNames=[change.name])
