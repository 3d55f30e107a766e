"""What the sandbox does not emulate answers 501 NotImplementedException, naming the operation: never a silent success.

A service is offered when twinops uses it and the emulator is truthful about it; adding one is a line here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from ministack import app as ministack_app
from ministack.core import router

from sandbox.emulator import answers, ec2
from sandbox.emulator.answers import Answer
from sandbox.emulator.calls import identify

OFFERED = frozenset(
    {
        "iam",
        "sts",
        "s3",
        "dynamodb",
        "ec2",
        "sns",
        "sqs",
        "lambda",
        "events",
        "scheduler",
        "logs",
        "monitoring",
        "kms",
        "ssm",
        "secretsmanager",
        "tagging",
        "sagemaker",
        "redshift",
        "redshift-data",
    }
)

# Operations that ministack or moto accept without doing what AWS does.
REFUSED = {
    "logs": {
        "PutMetricFilter": "metric filters never feed a metric here",
        "CreateExportTask": "nothing would be exported",
        "PutDestination": "nothing would be delivered",
    },
    "s3": {
        "PutBucketReplication": "nothing would be replicated",
        "PutReplicationConfiguration": "nothing would be replicated",
        "PutInventoryConfiguration": "no inventory would be written",
        "PutBucketInventoryConfiguration": "no inventory would be written",
    },
    "monitoring": {
        "PutAnomalyDetector": "no anomaly would be detected",
    },
}

# moto's Redshift keeps records; these are the ones whose record is all there is to them.
REDSHIFT_ACTIONS = frozenset({"CreateCluster", "DescribeClusters", "DeleteCluster", "CreateTags", "DescribeTags"})

# Alarms on expressions and on bands.
ALARM_MEMBERS = {"Metrics", "ThresholdMetricId", "EvaluationWindow", "EvaluationCriteria", "EvaluationInterval"}

# Logs Insights: what ministack's queries understand. It ignores any other command and returns raw rows.
INSIGHTS_COMMANDS = frozenset({"fields", "filter", "sort", "limit", "display"})


class OfferedHandlers(dict[str, Any]):
    """The table of handlers: what is missing answers 501 instead of ministack's 400 without a code."""

    def get(self, service: str, default: Any = None) -> Any:
        return super().get(service) or _refusing(service)


def install() -> None:
    """Reduce ministack's services to those offered, and guard their operations."""
    offered = {service: handler for service, handler in ministack_app.SERVICE_HANDLERS.items() if service in OFFERED}
    ministack_app.SERVICE_HANDLERS = OfferedHandlers(
        {service: _guarded(service, handler) for service, handler in offered.items()}
    )


def refusal(service: str, action: str, body: bytes) -> str | None:
    """Why an operation of an offered service is refused; None when it is emulated."""
    if service == "ec2" and action not in ec2.ACTIONS:
        return "nothing would happen"
    if service == "redshift" and action not in REDSHIFT_ACTIONS:
        return "only the record of a cluster is kept"
    if service == "logs" and action == "StartQuery":
        return _insights_refusal(json.loads(body or b"{}").get("queryString", ""))
    if service == "monitoring" and action == "PutMetricAlarm" and json.loads(body or b"{}").keys() & ALARM_MEMBERS:
        return "only alarms on one metric are evaluated"
    return REFUSED.get(service, {}).get(action)


def _insights_refusal(query: str) -> str | None:
    commands = [part.split()[0].lower() for part in re.split(r"\|(?![^/]*/\s)", query) if part.strip()]
    unknown = [command for command in commands if command.isalpha() and command not in INSIGHTS_COMMANDS]
    return f"Logs Insights has no {', '.join(unknown)} here" if unknown else None


def _guarded(service: str, handler: Callable[..., Any]) -> Callable[..., Any]:
    async def handle(
        method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, list[str]]
    ) -> Answer:
        _, action = identify(method, path, headers, body, query)
        reason = refusal(service, action, body)
        if reason is not None:
            message = f"the sandbox does not emulate {service}:{action}: {reason}"
            return answers.error(service, headers, "NotImplementedException", message, 501)
        answer: Answer = await handler(method, path, headers, body, query)
        return answer

    return handle


def _refusing(service: str) -> Callable[..., Any]:
    async def handle(
        method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, list[str]]
    ) -> Answer:
        _, action = identify(method, path, headers, body, query)
        message = f"the sandbox does not emulate {service}:{action} (docs/sandbox.md lists what it does)"
        return answers.error(service, headers, "NotImplementedException", message, 501)

    return handle


def teach_router() -> None:
    """Let ministack's router know the services we add, and all AWS names without loading models (500 MB)."""
    import botocore.session  # noqa: PLC0415 (0.1 s that nothing else here needs)

    for service, target in (("sagemaker", "SageMaker."), ("redshift-data", "RedshiftData."), ("redshift", None)):
        router.SERVICE_PATTERNS[service] = {
            "host_patterns": [rf"^(api\.)?{service}\."],
            **({"target_prefixes": [target]} if target else {}),
        }
    router._KNOWN_AWS_SERVICE_NAMES = frozenset(botocore.session.get_session().get_available_services())
