"""What twinops owns in an account, by its tags: one listing for all services.

The listing (Resource Groups Tagging API, ``GetResources``) lags some seconds behind. So a resource that it knows is
taken from it, and one that it does not know is asked for its tags itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..desired import WORKFLOW_TAG
from ..names import COMPOSITE, ENVIRONMENT_TAG, NAME_TAG, OWNER, OWNER_TAG, PART_TAG
from ..plan import Key
from .session import Aws

_NAMED = (
    # service, start of the resource, kind; what follows the start is its name
    ("s3", "", "bucket"),
    ("dynamodb", "table/", "table"),
    ("sns", "", "topic"),
    ("sqs", "", "queue"),
    ("lambda", "function:", "function"),
    ("events", "rule/", "rule"),
    ("scheduler", "schedule-group/", "schedule_group"),
    ("logs", "log-group:", "log_group"),
    ("sagemaker", "notebook-instance/", "notebook"),
    ("cloudwatch", "alarm:", "alarm"),
)
_NAMED_BY_TAG = {
    "vpc": "vpc",
    "internet-gateway": "internet_gateway",
    "subnet": "subnet",
    "elastic-ip": "elastic_ip",
    "natgateway": "nat_gateway",
    "route-table": "route_table",
    "security-group": "security_group",
    "vpc-endpoint": "vpc_endpoint",
    "instance": "instance",
    "key": "key",
}
"""Types of resources of EC2 and KMS, whose ARNs end in an identifier -> kind."""
_COMPOSITE = re.compile(rf"twinops-[a-z]+-{COMPOSITE}")
_ARN = re.compile(r"arn:[^:]*:(?P<service>[^:]*):[^:]*:[^:]*:(?P<resource>.*)")


@dataclass(frozen=True)
class Owned:
    """A resource that carries our tags. ``workflow`` is empty where it belongs to no single one."""

    key: Key
    part: str
    workflow: str


def tags(aws: Aws, arn: str, read: Callable[[], Mapping[str, str]]) -> dict[str, str]:
    """The tags of ``arn``: from the listing, or by ``read`` where the listing does not know it."""
    found = aws.tagged().get(arn)
    return dict(read() if found is None else found)


def owned(aws: Aws) -> list[Owned]:
    """Everything that carries the tags of twinops in this environment, as far as AWS can list it by tags."""
    found = {key_of(arn, its): its for arn, its in sorted(aws.tagged().items())}
    # EC2's removed resources stay in the listing for a while, with the names of those that took their places.
    return [each for key, its in found.items() if key and (each := owned_by_tags(aws, key, its))]


def owned_by_tags(aws: Aws, key: Key, its: Mapping[str, str]) -> Owned | None:
    """``key`` as one of ours, if its tags say that it belongs to this environment."""
    if its.get(OWNER_TAG) != OWNER or its.get(ENVIRONMENT_TAG) != aws.scope.env:
        return None
    return Owned(key, its.get(PART_TAG, ""), its.get(WORKFLOW_TAG, ""))


def arns_of(aws: Aws, key: Key) -> list[str]:
    """The ARNs of what has our tags and is known as ``key``: several where AWS makes identifiers, not names."""
    return [arn for arn, its in sorted(aws.tagged().items()) if key_of(arn, its) == key]


def key_of(arn: str, own_tags: Mapping[str, str]) -> Key | None:
    """Kind and name of an ARN; None for what is no kind of ours. EC2's identifiers say nothing: a tag does."""
    match = _ARN.fullmatch(arn)
    if match is None:
        return None
    service, resource = match["service"], match["resource"]
    if service in ("ec2", "kms"):
        kind, name = _NAMED_BY_TAG.get(resource.partition("/")[0]), own_tags.get(NAME_TAG) or own_tags.get("Name")
        return (kind, name) if kind and name else None
    for known_service, start, kind in _NAMED:
        if service == known_service and resource.startswith(start):
            name = resource.removeprefix(start)
            if kind == "alarm" and _COMPOSITE.match(name):
                return ("composite_alarm", name)
            return None if "/" in name and kind != "log_group" else (kind, name)
    return None
