"""Changes that somebody makes in the console, on resources that contenders declare: are they seen, are they undone?"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from sandbox.settings import ACCOUNT, REGION
from tests.bench.contenders import Names

OPEN_POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}


class AlterationError(Exception):
    """A change that the endpoint does not show."""


@dataclass(frozen=True)
class Alteration:
    """``read`` returns what ``make`` changes; both take a boto3 session and the contender's names.

    ``seen`` matches what a contender's output announces when it has seen the change: ``kind: fields`` of twinops, the
    task and item of the peer (where one of its tasks keeps several things, the change is on an item of its own).
    """

    title: str
    read: Callable[[Any, Names], object]
    make: Callable[[Any, Names], None]
    seen: str


def make_all(session: Any, names: Names) -> Mapping[str, object]:
    """Make every change of something that the contender declares; returns what was declared before, by title.

    Raises AlterationError for a change that the endpoint does not show.
    """
    declared = {title: value for title, value in read_all(session, names).items() if value}
    for alteration in ALTERATIONS:
        if alteration.title in declared:
            alteration.make(session, names)
    now = read_all(session, names)
    without_effect = [title for title, value in declared.items() if now[title] == value]
    if without_effect:
        raise AlterationError(f"endpoint: expected it to show every change, not shown: {', '.join(without_effect)}")
    return declared


def read_all(session: Any, names: Names) -> dict[str, object]:
    """What is declared, by the title of the change that alters it."""
    return {alteration.title: alteration.read(session, names) for alteration in ALTERATIONS}


def seen(titles: Collection[str], announced: Collection[str]) -> list[str]:
    """Which of the changes that were made are among those that a contender announces."""
    return [
        alteration.title
        for alteration in ALTERATIONS
        if alteration.title in titles and any(re.fullmatch(alteration.seen, entry) for entry in announced)
    ]


def _trusted(session: Any, names: Names) -> object:
    return session.client("iam").get_role(RoleName=names.role)["Role"]["AssumeRolePolicyDocument"]


def _trust_everybody(session: Any, names: Names) -> None:
    document = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
    }
    session.client("iam").update_assume_role_policy(RoleName=names.role, PolicyDocument=json.dumps(document))


def _role_policies(session: Any, names: Names) -> object:
    iam = session.client("iam")
    found = iam.list_role_policies(RoleName=names.role)["PolicyNames"]
    return {name: iam.get_role_policy(RoleName=names.role, PolicyName=name)["PolicyDocument"] for name in found}


def _widen_policy(session: Any, names: Names) -> None:
    iam = session.client("iam")
    name = iam.list_role_policies(RoleName=names.role)["PolicyNames"][0]
    iam.put_role_policy(RoleName=names.role, PolicyName=name, PolicyDocument=json.dumps(OPEN_POLICY))


def _bucket_versioning(session: Any, names: Names) -> object:
    return session.client("s3").get_bucket_versioning(Bucket=names.bucket).get("Status")


def _suspend_versioning(session: Any, names: Names) -> None:
    session.client("s3").put_bucket_versioning(Bucket=names.bucket, VersioningConfiguration={"Status": "Suspended"})


def _public_access(session: Any, names: Names) -> object:
    return _absent_is_none(session.client("s3").get_public_access_block, Bucket=names.bucket)


def _open_bucket(session: Any, names: Names) -> None:
    session.client("s3").delete_public_access_block(Bucket=names.bucket)


def _bucket_lifecycle(session: Any, names: Names) -> object:
    return _absent_is_none(session.client("s3").get_bucket_lifecycle_configuration, Bucket=names.bucket)


def _keep_versions_for_ever(session: Any, names: Names) -> None:
    session.client("s3").delete_bucket_lifecycle(Bucket=names.bucket)


def _retention(session: Any, names: Names) -> object:
    groups = session.client("logs").describe_log_groups(logGroupNamePrefix=names.log_group)["logGroups"]
    return next(group.get("retentionInDays") for group in groups if group["logGroupName"] == names.log_group)


def _shorten_retention(session: Any, names: Names) -> None:
    session.client("logs").put_retention_policy(logGroupName=names.log_group, retentionInDays=1)


def _function_timeout(session: Any, names: Names) -> object:
    return session.client("lambda").get_function_configuration(FunctionName=names.function)["Timeout"]


def _shorten_timeout(session: Any, names: Names) -> None:
    session.client("lambda").update_function_configuration(FunctionName=names.function, Timeout=3)


def _permissions(session: Any, names: Names) -> Any:
    answer = _absent_is_none(session.client("lambda").get_policy, FunctionName=names.function)
    return answer and json.loads(answer["Policy"])["Statement"]


def _remove_permissions(session: Any, names: Names) -> None:
    for statement in _permissions(session, names):
        session.client("lambda").remove_permission(FunctionName=names.function, StatementId=statement["Sid"])


def _schedule(session: Any, names: Names) -> object:
    found = session.client("events").list_rules(NamePrefix=names.other_rule)["Rules"]  # none where W is 1
    return next((rule["ScheduleExpression"] for rule in found if rule["Name"] == names.other_rule), None)


def _reschedule(session: Any, names: Names) -> None:
    session.client("events").put_rule(Name=names.other_rule, ScheduleExpression="rate(7 days)")


def _targets(session: Any, names: Names) -> object:
    return session.client("events").list_targets_by_rule(Rule=names.rule)["Targets"]


def _remove_targets(session: Any, names: Names) -> None:
    ids = [target["Id"] for target in session.client("events").list_targets_by_rule(Rule=names.rule)["Targets"]]
    session.client("events").remove_targets(Rule=names.rule, Ids=ids)


def _alarms(session: Any, names: Names) -> Any:
    """The alarms of one workflow; not their states, which change by themselves."""
    found = session.client("cloudwatch").describe_alarms(AlarmNamePrefix=names.alarms)["MetricAlarms"]
    return {alarm["AlarmName"]: alarm["AlarmActions"] for alarm in found}


def _delete_alarms(session: Any, names: Names) -> None:
    session.client("cloudwatch").delete_alarms(AlarmNames=list(_alarms(session, names)))


def _queue_retention(session: Any, names: Names) -> object:
    return _queue(session, names, "MessageRetentionPeriod")


def _shorten_queue(session: Any, names: Names) -> None:
    sqs = session.client("sqs")
    url = sqs.get_queue_url(QueueName=names.queue)["QueueUrl"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"MessageRetentionPeriod": "60"})


def _queue(session: Any, names: Names, attribute: str) -> object:
    sqs = session.client("sqs")
    url = sqs.get_queue_url(QueueName=names.queue)["QueueUrl"]
    return sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[attribute])["Attributes"][attribute]


def _subscribers(session: Any, names: Names) -> object:
    arn = f"arn:aws:sns:{REGION}:{ACCOUNT}:{names.topic}"
    found = session.client("sns").list_subscriptions_by_topic(TopicArn=arn)["Subscriptions"]
    return sorted(subscription["Endpoint"] for subscription in found)


def _subscribe_stranger(session: Any, names: Names) -> None:
    arn = f"arn:aws:sns:{REGION}:{ACCOUNT}:{names.topic}"
    session.client("sns").subscribe(TopicArn=arn, Protocol="email", Endpoint="stranger@example.com")


def _table_tags(session: Any, names: Names) -> object:
    arn = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{names.table}"
    tags = session.client("dynamodb").list_tags_of_resource(ResourceArn=arn)["Tags"]
    return {tag["Key"]: tag["Value"] for tag in tags}


def _untag_table(session: Any, names: Names) -> None:
    arn = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{names.table}"
    tags = session.client("dynamodb").list_tags_of_resource(ResourceArn=arn)["Tags"]
    session.client("dynamodb").untag_resource(ResourceArn=arn, TagKeys=[tags[0]["Key"]])


def _absent_is_none(read: Callable[..., Any], **arguments: object) -> Any:
    try:
        answer = read(**arguments)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        return None
    return {key: value for key, value in answer.items() if key != "ResponseMetadata"}


ALTERATIONS = (
    Alteration("trust of a role opened", _trusted, _trust_everybody, r"role: .*\btrust\b.*|Ensure the roles: device"),
    Alteration(
        "policy of a role widened",
        _role_policies,
        _widen_policy,
        r"role: .*\bpolicies\b.*|Ensure the policies of the roles: device",
    ),
    Alteration(
        "versioning of a bucket suspended",
        _bucket_versioning,
        _suspend_versioning,
        r"bucket: .*\bversioning\b.*|Ensure the buckets: data",
    ),
    Alteration(
        "public access to a bucket allowed",
        _public_access,
        _open_bucket,
        r"bucket: .*\bpublic_access_blocked\b.*|Ensure the buckets: data",
    ),
    Alteration(
        "lifecycle of a bucket removed",
        _bucket_lifecycle,
        _keep_versions_for_ever,
        r"bucket: .*\blifecycle\b.*|Ensure that old versions in the buckets expire: data",
    ),
    Alteration(
        "retention of a log group changed",
        _retention,
        _shorten_retention,
        r"log_group: .*\bretention_days\b.*|Ensure the log groups of the workflows: workflow_0001",
    ),
    Alteration(
        "time limit of a function changed",
        _function_timeout,
        _shorten_timeout,
        r"function: .*\btimeout_s\b.*|Ensure the functions of the workflows: workflow_0001"
        r"|Ensure the functions: dispatch",
    ),
    Alteration(
        "permission of a function removed",
        _permissions,
        _remove_permissions,
        r"function: .*\bpermissions\b.*|Ensure that the rules may call the functions: workflow_0001"
        r"|Ensure that the rules may call the dispatcher: ",
    ),
    Alteration(
        "schedule of a rule changed",
        _schedule,
        _reschedule,
        r"rule: .*\bschedule\b.*|Ensure the rules of the workflows: workflow_0002",
    ),
    Alteration(
        "target of a rule removed",
        _targets,
        _remove_targets,
        r"rule: .*\btarget\b.*|Ensure the rules of the workflows: workflow_0001",
    ),
    Alteration(
        "alarm of a workflow deleted",
        _alarms,
        _delete_alarms,
        r"\w*alarm: .*|Ensure the alarms of the workflows: workflow_0001",
    ),
    Alteration(
        "retention of a queue changed",
        _queue_retention,
        _shorten_queue,
        r"queue: .*\bretention_s\b.*|Ensure the queue of what nobody could deliver: ",
    ),
    Alteration(
        "stranger subscribed to a topic",
        _subscribers,
        _subscribe_stranger,
        r"topic: .*\bmail_to\b.*|Ensure that people are told about runs: ",
    ),
    Alteration("tag of a table removed", _table_tags, _untag_table, r"table: .*\btags\b.*|Ensure the ledger: "),
)
