"""EventBridge Scheduler in the sandbox: what it takes, what it lists, and when it is time in a time zone.

That a schedule really starts something, in the name of its role, is in test_dispatch.py.
"""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sandbox.settings import ACCOUNT, CLONE, REGION

Aws = Callable[[str], Any]
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:any"

# expression, zone, after (UTC) -> the next times (UTC). Berlin: 2026-03-29 has no 02:30, 2026-10-25 has it twice.
TIMES = {
    "in winter": ("cron(0 5 * * ? *)", "Europe/Berlin", "2026-01-10T00:00", ["2026-01-10T04:00", "2026-01-11T04:00"]),
    "in summer": ("cron(0 5 * * ? *)", "Europe/Berlin", "2026-07-10T00:00", ["2026-07-10T03:00", "2026-07-11T03:00"]),
    "over the switch in spring": (
        "cron(0 5 * * ? *)", "Europe/Berlin", "2026-03-28T00:00", ["2026-03-28T04:00", "2026-03-29T03:00"]
    ),
    "over the switch in autumn": (
        "cron(0 5 * * ? *)", "Europe/Berlin", "2026-10-24T00:00", ["2026-10-24T03:00", "2026-10-25T04:00"]
    ),
    "a time that the day does not have is left out": (
        "cron(30 2 * * ? *)", "Europe/Berlin", "2026-03-27T12:00", ["2026-03-28T01:30", "2026-03-30T00:30"]
    ),
    "a time that the day has twice counts once": (
        "cron(30 2 * * ? *)", "Europe/Berlin", "2026-10-24T12:00", ["2026-10-25T00:30", "2026-10-26T01:30"]
    ),
    "changed within the second of the two": (
        "cron(0/15 * * * ? *)", "Europe/Berlin", "2026-10-25T01:10", ["2026-10-25T02:00", "2026-10-25T02:15"]
    ),
    "south of the equator": (
        "cron(0 9 1 * ? *)", "America/Santiago", "2026-01-15T00:00", ["2026-02-01T12:00", "2026-03-01T12:00"]
    ),
    "three quarters of an hour": (
        "cron(0 0 ? * MON *)", "Asia/Kathmandu", "2026-11-23T00:00", ["2026-11-29T18:15", "2026-12-06T18:15"]
    ),
    "a rate is the same everywhere": ("rate(5 minutes)", "Europe/Berlin", "2026-03-29T00:58", ["2026-03-29T01:03"]),
    "a year that is over": ("cron(0 5 * * ? 2020)", "Europe/Berlin", "2026-01-01T00:00", []),
}  # fmt: skip

PROBE = """
import json, sys
from datetime import datetime, timezone
from sandbox.emulator.schedules import next_time
found = {}
for case, (expression, zone, after, times) in json.load(sys.stdin).items():
    moment, found[case] = datetime.fromisoformat(after).replace(tzinfo=timezone.utc), []
    while len(found[case]) < max(1, len(times)) and (moment := next_time(expression, zone, moment)):
        found[case].append(moment.strftime("%Y-%m-%dT%H:%M"))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def next_times(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What the emulator reckons, on its own Python."""
    python = CLONE / ".cache/envs/emulator/bin/python"
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path_factory.mktemp("home"))}
    done = subprocess.run(
        [python, "-c", PROBE], cwd=CLONE, env=environment, input=json.dumps(TIMES),
        check=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    found: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("case", TIMES)
def test_when_it_is_time(next_times: dict[str, list[str]], case: str) -> None:
    assert next_times[case] == TIMES[case][3]


@pytest.fixture
def role(make_role: Callable[..., str]) -> str:
    return make_role(f"time-{uuid.uuid4().hex[:8]}", "scheduler.amazonaws.com")


def request(role: str, **changes: Any) -> dict[str, Any]:
    schedule = {
        "Name": f"it-{uuid.uuid4().hex[:8]}",
        "ScheduleExpression": "cron(0 5 * * ? *)",
        "ScheduleExpressionTimezone": "Europe/Berlin",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "Target": {"Arn": FUNCTION, "RoleArn": role, "Input": "{}"},
    }
    return {**schedule, **changes}


@pytest.mark.sandbox
def test_a_schedule_is_read_as_it_was_made_and_replaced_as_a_whole(aws: Aws, role: str) -> None:
    scheduler, made = aws("scheduler"), request(role, Description="d")
    scheduler.create_schedule(**made)
    assert {key: scheduler.get_schedule(Name=made["Name"])[key] for key in made} == made
    changed = request(role, Name=made["Name"], ScheduleExpressionTimezone="Asia/Kathmandu", State="DISABLED")
    scheduler.update_schedule(**changed)
    found = scheduler.get_schedule(Name=made["Name"])
    assert {key: found[key] for key in changed} == changed
    assert not found.get("Description")
    scheduler.delete_schedule(Name=made["Name"])


@pytest.mark.sandbox
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ScheduleExpressionTimezone": "Europe/Bonn"}, "Invalid Schedule Expression Timezone Europe/Bonn"),
        ({"ScheduleExpression": "cron(0 5 * * *)"}, "Invalid Schedule Expression"),
        ({"GroupName": "nowhere"}, "Schedule group nowhere does not exist"),
    ],
    ids=["zone", "expression", "group"],
)
def test_what_aws_would_not_take(aws: Aws, role: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ClientError, match=message):
        aws("scheduler").create_schedule(**request(role, **changes))


@pytest.mark.sandbox
def test_a_role_has_to_trust_scheduler(aws: Aws, role: str, make_role: Callable[..., str]) -> None:
    stranger = make_role(f"stranger-{uuid.uuid4().hex[:8]}", "lambda.amazonaws.com")
    made = request(role)
    aws("scheduler").create_schedule(**made)
    for call in (aws("scheduler").create_schedule, aws("scheduler").update_schedule):
        with pytest.raises(ClientError, match="must allow AWS EventBridge Scheduler to assume the role"):
            call(**request(stranger, Name=made["Name"]))
    aws("scheduler").delete_schedule(Name=made["Name"])


@pytest.mark.sandbox
def test_schedules_are_listed_in_pages_by_group(aws: Aws, role: str) -> None:
    scheduler, group = aws("scheduler"), f"group-{uuid.uuid4().hex[:8]}"
    scheduler.create_schedule_group(Name=group)
    names = [f"it-{number}" for number in range(5)]
    for name in names:
        scheduler.create_schedule(**request(role, Name=name, GroupName=group))
    scheduler.create_schedule(**request(role, Name="other", GroupName=group))
    pages = scheduler.get_paginator("list_schedules").paginate(
        GroupName=group, NamePrefix="it-", PaginationConfig={"PageSize": 2}
    )
    assert [[found["Name"] for found in page["Schedules"]] for page in pages] == [names[:2], names[2:4], names[4:]]
    scheduler.delete_schedule_group(Name=group)
    assert scheduler.list_schedules(GroupName=group)["Schedules"] == []
