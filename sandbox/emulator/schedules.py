"""EventBridge Scheduler: schedules in their time zones, in the name of their role.

ministack takes every schedule for UTC, any role for one that Scheduler may assume, calls the target without asking IAM,
and fills in no context attributes. Here: a cron expression is meant in its zone. An hour that the switch to daylight
saving time leaves out is left out, one that comes twice counts once (Scheduler's User Guide, "Schedule types"). The
role has to trust Scheduler for the group of the schedule, and is the one that calls the function. What it may not
call goes to the dead-letter queue at once; AWS tries again for a while.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
import zoneinfo
from datetime import datetime, timedelta, timezone
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from ministack.services import eventbridge, scheduler

from sandbox.emulator import roles
from sandbox.emulator.answers import Answer, json_answer, json_error
from sandbox.settings import ACCOUNT, REGION, Settings

logger = logging.getLogger("sandbox.schedules")

TRUSTED = "scheduler.amazonaws.com"
TICK_S = 1.0
PAGE_DEFAULT = PAGE_MAX = 100


class Schedules:
    """Takes the place of ministack's own clock of schedules, and checks what it takes without looking."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._due: dict[Any, tuple[float, datetime | None]] = {}
        """Schedule -> when it was changed, and its next time since then."""

    def install(self) -> None:
        """From now on. ministack's application calls ``start_scheduler`` when it starts."""
        create, update = scheduler._create_schedule, scheduler._update_schedule
        scheduler._create_schedule = lambda name, body: refusal(body) or create(name, body)
        scheduler._update_schedule = lambda name, body: refusal(body) or update(name, body)
        scheduler._list_schedules = list_schedules
        scheduler.start_scheduler = lambda: threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(TICK_S)
            try:
                self.tick(datetime.now(timezone.utc))
            except Exception:
                logger.exception("schedules")

    def tick(self, now: datetime) -> None:
        """Call the targets of all schedules whose time has come."""
        records = dict(list(scheduler._schedules._data.items()))
        self._due = {key: due for key, due in self._due.items() if key in records}
        for key, record in records.items():
            changed_at, due = self._due.get(key, (0.0, None))
            if changed_at != record["LastModificationDate"]:
                changed_at = record["LastModificationDate"]
                due = _next_time(record, datetime.fromtimestamp(changed_at, timezone.utc))
            if due is not None and due <= now:
                if record["State"] == "ENABLED":
                    threading.Thread(target=self._fire, args=(record, due), daemon=True).start()
                due = _next_time(record, due)
            self._due[key] = (changed_at, due)

    def _fire(self, record: dict[str, Any], scheduled: datetime) -> None:
        target, execution = record["Target"], uuid.uuid4().hex[:16]
        attributes = {
            "schedule-arn": record["Arn"],
            "scheduled-time": scheduled.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "execution-id": execution,
            "attempt-number": "1",
        }
        payload = target.get("Input") or "{}"
        for name, value in attributes.items():
            payload = payload.replace(f"<aws.scheduler.{name}>", value)
        try:
            functions = self._client(record, "lambda")
            functions.invoke(FunctionName=target["Arn"], InvocationType="Event", Payload=payload.encode())
        except (ClientError, BotoCoreError, roles.RoleError) as error:
            logger.error("schedule %s: %s: %s", record["Name"], target["Arn"], error)
            self._send_to_dead_letters(record, payload, attributes, error)

    def _send_to_dead_letters(
        self, record: dict[str, Any], payload: str, attributes: dict[str, str], error: Exception
    ) -> None:
        """The event with what went wrong as attributes, where the schedule has a queue and its role may use it."""
        arn = record["Target"].get("DeadLetterConfig", {}).get("Arn")
        if not arn:
            return
        code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
        told = {
            "ERROR_CODE": code,
            "ERROR_MESSAGE": str(error)[:1024],
            "EXECUTION_ID": attributes["execution-id"],
            "RETRY_ATTEMPTS": "0",
            "SCHEDULED_TIME": attributes["scheduled-time"],
            "SCHEDULE_ARN": record["Arn"],
            "TARGET_ARN": record["Target"]["Arn"],
        }
        typed = {name: {"DataType": "String", "StringValue": value} for name, value in told.items()}
        url = f"{self._settings.endpoint_url}/{ACCOUNT}/{arn.rpartition(':')[2]}"
        try:
            queues = self._client(record, "sqs")
            queues.send_message(QueueUrl=url, MessageBody=payload, MessageAttributes=typed)
        except (ClientError, BotoCoreError, roles.RoleError) as failure:
            logger.error("schedule %s: %s: %s", record["Name"], arn, failure)

    def _client(self, record: dict[str, Any], service: str) -> Any:
        """A client with short-lived keys of the schedule's role: IAM is asked as for everybody."""
        name = roles.name_from_arn(record["Target"]["RoleArn"])
        keys = roles.issue_keys(name, "scheduler", {TRUSTED: group_arn(record["GroupName"])})
        return botocore.session.Session().create_client(
            service,
            region_name=REGION,
            endpoint_url=self._settings.endpoint_url,
            aws_access_key_id=keys.access_key_id,
            aws_secret_access_key=keys.secret_access_key,
            aws_session_token=keys.token,
            config=Config(retries={"total_max_attempts": 3}, connect_timeout=5, read_timeout=60),
        )


def group_arn(group: str) -> str:
    return f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule-group/{group}"


def refusal(body: dict[str, Any]) -> Answer | None:
    """The error for a schedule that AWS would not take; None for others. What is missing is ministack's to report."""
    expression, zone = body.get("ScheduleExpression", ""), body.get("ScheduleExpressionTimezone", "UTC")
    if expression and next_time(expression, "UTC", datetime.now(timezone.utc)) is None:
        return json_error("ValidationException", f"Invalid Schedule Expression {expression}.")
    if zone not in zoneinfo.available_timezones():
        return json_error("ValidationException", f"Invalid Schedule Expression Timezone {zone}.")
    role = roles.name_from_arn(body.get("Target", {}).get("RoleArn", ""))
    if role and not roles.trusts(role, frozenset({TRUSTED}), group_arn(body.get("GroupName", "default"))):
        message = "The execution role you provide must allow AWS EventBridge Scheduler to assume the role."
        return json_error("ValidationException", message)
    return None


def list_schedules(query: dict[str, str]) -> Answer:
    """A page of summaries by name; ministack leaves out what does not fit into the first."""
    page = min(int(query.get("MaxResults") or PAGE_DEFAULT), PAGE_MAX)
    wanted = {"GroupName": query.get("ScheduleGroup"), "State": query.get("State")}
    found = sorted(
        (record["GroupName"], record["Name"], record)
        for record in list(scheduler._schedules.values())
        if record["Name"].startswith(query.get("NamePrefix", ""))
        and all(value in (None, record[field]) for field, value in wanted.items())
        and f"{record['GroupName']}/{record['Name']}" > query.get("NextToken", "")
    )
    fields = ("Arn", "Name", "GroupName", "State", "CreationDate", "LastModificationDate")
    summaries = [
        {**{field: record[field] for field in fields}, "Target": {"Arn": record["Target"]["Arn"]}}
        for _, _, record in found[:page]
    ]
    more = {"NextToken": "/".join(found[page - 1][:2])} if len(found) > page else {}
    return json_answer({"Schedules": summaries, **more})


def _next_time(record: dict[str, Any], after: datetime) -> datetime | None:
    return next_time(record["ScheduleExpression"], record["ScheduleExpressionTimezone"], after)


def next_time(expression: str, zone_name: str, after: datetime) -> datetime | None:
    """The first time (UTC) after a moment that an expression names in a zone; None if there is none any more.

    A local time that does not exist is no time; of one that comes twice the first counts.
    """
    rate_s = eventbridge._parse_rate_seconds(expression)
    if rate_s is not None:
        return after + timedelta(seconds=rate_s)
    fields = eventbridge._parse_cron_fields(expression)
    if fields is None:
        return None
    zone = zoneinfo.ZoneInfo(zone_name)
    local = after.astimezone(zone).replace(tzinfo=timezone.utc)  # ministack reckons in UTC: the clock on the wall
    while (local := eventbridge._cron_next_fire(fields, local)) is not None:
        moment = local.replace(tzinfo=zone, fold=0).astimezone(timezone.utc)
        if moment > after and moment.astimezone(zone).replace(tzinfo=timezone.utc) == local:
            return moment
    return None
