"""IAM policies of an environment: who may do what, scoped by name. Pure data, computed before anything exists.

No action and no resource is ``*``, except where AWS has no narrower one; then a condition narrows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .resources import Scope

Statement = dict[str, Any]
Document = dict[str, Any]

MLOPS = "mlops"
DISPATCH = "dispatch"
DEVELOPMENT_TWIN = "development-twin"
DEPLOYMENT_TWIN = "deployment-twin"
DEVICE = "device"
HOST = "host"

DESCRIPTIONS = {
    MLOPS: "People and pipelines that operate an environment of twinops.",
    DISPATCH: "The Lambda functions that start workflow runs on the deployment twin.",
    DEVELOPMENT_TWIN: "The notebook instance on which workflows are written and tried.",
    DEPLOYMENT_TWIN: "The notebook instance on which workflows run.",
    DEVICE: "An edge device: it may store its decisions and nothing else.",
    HOST: "The instance on which Airflow and Ansible run.",
}

SERVICE_OF = {
    DISPATCH: "lambda.amazonaws.com",
    DEVELOPMENT_TWIN: "sagemaker.amazonaws.com",
    DEPLOYMENT_TWIN: "sagemaker.amazonaws.com",
    DEVICE: "credentials.iot.amazonaws.com",
    HOST: "ec2.amazonaws.com",
}


@dataclass(frozen=True)
class Redshift:
    """The cluster that holds the plant's tables, and the database user that workflows read it as."""

    cluster: str
    database: str
    db_user: str


def allow(sid: str, actions: Iterable[str], resources: Iterable[str], condition: Document | None = None) -> Statement:
    statement: Statement = {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": list(resources)}
    return {**statement, "Condition": condition} if condition else statement


def document(statements: Iterable[Statement]) -> Document:
    return canonical({"Version": "2012-10-17", "Statement": list(statements)})


def canonical(policy: Mapping[str, Any]) -> Document:
    """A policy in one of its many equal spellings: a single value is a list, and lists of names are sorted.

    AWS gives back what it was given, except S3, which rearranges it; and people write either form.
    """
    statements = policy.get("Statement", [])
    listed = [statements] if isinstance(statements, Mapping) else list(statements)
    return {**policy, "Statement": [_canonical_statement(statement) for statement in listed]}


def _canonical_statement(statement: Mapping[str, Any]) -> Statement:
    plain = dict(statement)
    for key in ("Action", "NotAction", "Resource", "NotResource"):
        if key in plain:
            plain[key] = _names(plain[key])
    if isinstance(plain.get("Principal"), Mapping):
        plain["Principal"] = {key: _names(value) for key, value in plain["Principal"].items()}
    if "Condition" in plain:
        plain["Condition"] = {
            operator: {key: _names(value) for key, value in keys.items()}
            for operator, keys in plain["Condition"].items()
        }
    return plain


def _names(value: object) -> list[str]:
    listed = value if isinstance(value, (list, tuple)) else [value]
    return sorted(str(item).lower() if isinstance(item, bool) else str(item) for item in listed)


def trust(scope: Scope, purpose: str, trusted_principals: Iterable[str]) -> Document:
    """Who may assume a role: people's trusts ``trusted_principals`` (default: the account), the others one service."""
    if purpose == MLOPS:
        account = f"arn:{scope.partition}:iam::{scope.account}:root"
        principal = {"AWS": list(trusted_principals) or [account]}
    else:
        principal = {"Service": [SERVICE_OF[purpose]]}
    return document([{"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}])


def mlops(scope: Scope) -> Document:
    """See everything of the environment, start runs, work on the development twin."""
    return document(
        [
            _ledger(scope, "ReadLedger", "GetItem", "Query"),
            *_read_buckets(scope, "models", "reports", "data"),
            _use_key(scope, "Decrypt", via=("s3",)),
            allow("PutEvents", ["events:PutEvents"], [scope.arn("events", "event-bus/default")]),
            allow("StartRunsByHand", ["lambda:InvokeFunction"], [scope.function_arn("backup")]),
            allow("SeeTwins", ["sagemaker:DescribeNotebookInstance"], [scope.twin_arn("*")]),
            allow(
                "UseDevelopmentTwin",
                _sagemaker("CreatePresignedNotebookInstanceUrl", "StartNotebookInstance", "StopNotebookInstance"),
                [scope.twin_arn("development")],
            ),
            allow(
                "ReadLogs",
                ["logs:DescribeLogStreams", "logs:FilterLogEvents", "logs:GetLogEvents"],
                [_log_groups(scope), scope.arn("logs", f"log-group:/aws/lambda/{scope.names.prefix}*")],
            ),
        ]
    )


def dispatch(scope: Scope) -> Document:
    """Claim a run, ring the deployment twin's doorbell, hand over to the backup, look after lost runs; nothing else."""
    return document(
        [
            _ledger(scope, "ClaimRuns", "GetItem", "PutItem", "Query", "UpdateItem"),
            allow(
                "RingDeploymentTwin",
                _sagemaker("CreatePresignedNotebookInstanceUrl", "DescribeNotebookInstance", "StartNotebookInstance"),
                [scope.twin_arn("deployment")],
            ),
            allow("HandOverToBackup", ["lambda:InvokeFunction"], [scope.function_arn("backup")]),
            allow("Notify", ["sns:Publish"], [scope.topic_arn]),
            _use_key(scope, "Decrypt", "GenerateDataKey", via=("sns",)),
            _put_metrics(scope),
            allow("KeepDeadLetters", ["sqs:SendMessage"], [scope.dead_letters_arn]),
            allow(
                "WriteOwnLogs",
                ["logs:CreateLogStream", "logs:PutLogEvents"],
                [scope.arn("logs", f"log-group:/aws/lambda/{scope.names.prefix}*")],
            ),
        ]
    )


def development_twin(scope: Scope, redshift: Redshift | None) -> Document:
    """Read what workflows read, put events and start a run by hand; write nothing that a run writes."""
    return document(
        [
            _ledger(scope, "ReadLedger", "GetItem", "Query"),
            *_read_buckets(scope, "models", "reports", "data"),
            allow("PutEvents", ["events:PutEvents"], [scope.arn("events", "event-bus/default")]),
            allow("StartRunsByHand", ["lambda:InvokeFunction"], [scope.function_arn("backup")]),
            _use_key(scope, "Decrypt", via=("s3",)),
            allow("ReadRunLogs", ["logs:FilterLogEvents", "logs:GetLogEvents"], [_log_groups(scope)]),
            *_query_redshift(scope, redshift),
        ]
    )


def deployment_twin(scope: Scope, redshift: Redshift | None) -> Document:
    """What a run needs: its ledger item, its inputs, its report, its log, its metrics and its mail."""
    return document(
        [
            _ledger(scope, "KeepRunInLedger", "GetItem", "Query", "UpdateItem"),
            *_read_buckets(scope, "models", "data"),
            allow("StoreReports", ["s3:PutObject"], [f"{scope.bucket_arn('reports')}/*"]),
            allow("Notify", ["sns:Publish"], [scope.topic_arn]),
            _use_key(scope, "Decrypt", "GenerateDataKey", via=("s3", "sns")),
            allow("WriteRunLogs", ["logs:CreateLogStream", "logs:PutLogEvents"], [_log_groups(scope)]),
            _put_metrics(scope),
            *_query_redshift(scope, redshift),
        ]
    )


def device(scope: Scope) -> Document:
    return document(
        [
            allow("StoreDecisions", ["s3:PutObject"], [f"{scope.bucket_arn('data')}/decisions/*"]),
            _use_key(scope, "GenerateDataKey", via=("s3",)),
        ]
    )


def host(scope: Scope) -> Document:
    """Be reached by Session Manager, and act for people as the MLOps role; nothing of its own."""
    instances = scope.arn("ec2", "instance/*")  # SSM authorises the instance that asks, whose ID nobody knows before
    # A channel of Session Manager has no ARN: the region is the narrowest scope there is.
    in_region = {"StringEquals": {"aws:RequestedRegion": scope.region}}
    channels = [f"ssmmessages:{verb}{channel}Channel" for verb in ("Create", "Open") for channel in ("Control", "Data")]
    return document(
        [
            allow("RegisterWithSessionManager", ["ssm:UpdateInstanceInformation"], [instances]),
            allow("OpenSessions", channels, ["*"], in_region),
            allow("OperateEnvironment", ["sts:AssumeRole"], [scope.role_arn(MLOPS)]),
        ]
    )


_ACTIONS_OF_ENDPOINT = {"monitoring": "cloudwatch"}
"""Where the name of a service's endpoint is not that of its actions."""


def endpoint(scope: Scope, service: str, *, with_packages: bool = False) -> Document:
    """The policy of a VPC endpoint: our account's people and machines may use our account's resources; no others.

    It grants nothing, it keeps keys and data of other accounts from passing. ``with_packages``: Amazon Linux's, too.
    """
    actions = _ACTIONS_OF_ENDPOINT.get(service, service.partition(".")[0])
    own = {
        "StringEquals": {"aws:PrincipalAccount": scope.account},
        "StringEqualsIfExists": {"aws:ResourceAccount": scope.account},  # not every action of AWS has a resource
    }
    statements = [{**allow("OwnAccount", [f"{actions}:*"], ["*"], own), "Principal": "*"}]
    if with_packages:
        # docs.aws.amazon.com/linux/al2023: dnf reads its repositories from this bucket, without signing
        packages = f"arn:{scope.partition}:s3:::al2023-repos-{scope.region}-de612dc2/*"
        statements.append({**allow("Packages", ["s3:GetObject"], [packages]), "Principal": "*"})
    return document(statements)


def tls_only(partition: str, bucket: str) -> Document:
    """The policy of every bucket: plain HTTP is refused, whoever asks."""
    arn = f"arn:{partition}:s3:::{bucket}"
    return document(
        [
            {
                "Sid": "TlsOnly",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": [arn, f"{arn}/*"],
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            }
        ]
    )


def dead_letters(scope: Scope) -> Document:
    """The policy of the dead-letter queue: EventBridge may leave there what it could not deliver for our rules."""
    return document(
        [
            {
                "Sid": "UndeliveredEvents",
                "Effect": "Allow",
                "Principal": {"Service": "events.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": scope.dead_letters_arn,
                "Condition": {"ArnLike": {"aws:SourceArn": scope.arn("events", f"rule/{scope.names.prefix}*")}},
            }
        ]
    )


# ---- the topic and the key

_KEY_ADMINISTRATION = (
    *("CancelKeyDeletion", "CreateAlias", "DeleteAlias", "DescribeKey", "DisableKey", "DisableKeyRotation"),
    *("EnableKey", "EnableKeyRotation", "GetKeyPolicy", "GetKeyRotationStatus", "ListResourceTags", "PutKeyPolicy"),
    *("ScheduleKeyDeletion", "TagResource", "UntagResource", "UpdateAlias", "UpdateKeyDescription"),
)
_KEY_USE = ("Decrypt", "Encrypt", "GenerateDataKey", "ReEncryptFrom", "ReEncryptTo")


def topic(scope: Scope) -> Document:
    """The policy of the topic: our roles may publish, and the alarms of this environment."""
    ours = {"ArnLike": {"aws:PrincipalArn": f"arn:{scope.partition}:iam::{scope.account}:role/{scope.names.prefix}*"}}
    publish = {"Effect": "Allow", "Action": "sns:Publish", "Resource": scope.topic_arn}
    return document(
        [
            {**publish, "Sid": "OurRoles", "Principal": {"AWS": _account(scope)}, "Condition": ours},
            {**publish, "Sid": "OurAlarms", "Principal": _CLOUDWATCH, "Condition": _our_alarms(scope)},
        ]
    )


def key(scope: Scope) -> Document:
    """The policy of the key: the account's policies decide who may use it and who administers it; alarms may use it.

    Alarms publish as CloudWatch, which has no policy of its own: without their statement, nobody would hear of one.
    """
    anything = {"Effect": "Allow", "Resource": "*"}  # in the policy of a key: the key
    account = {**anything, "Principal": {"AWS": _account(scope)}}
    return document(
        [
            {**account, "Sid": "Administer", "Action": [f"kms:{action}" for action in _KEY_ADMINISTRATION]},
            {**account, "Sid": "Use", "Action": [f"kms:{action}" for action in _KEY_USE]},
            {
                **anything,
                "Sid": "OurAlarms",
                "Principal": _CLOUDWATCH,
                "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
                "Condition": _our_alarms(scope),
            },
        ]
    )


_CLOUDWATCH = {"Service": "cloudwatch.amazonaws.com"}


def _our_alarms(scope: Scope) -> Document:
    return {
        "ArnLike": {"aws:SourceArn": scope.arn("cloudwatch", f"alarm:{scope.names.prefix}*")},
        "StringEquals": {"aws:SourceAccount": scope.account},
    }


def _account(scope: Scope) -> str:
    return f"arn:{scope.partition}:iam::{scope.account}:root"


def _use_key(scope: Scope, *actions: str, via: Iterable[str]) -> Statement:
    """Use of the environment's key through services; AWS makes its identifier, so its tags say which one it is."""
    condition = {
        "StringEquals": {
            **{f"aws:ResourceTag/{name}": value for name, value in scope.names.tags.items()},
            "kms:ViaService": [f"{service}.{scope.region}.amazonaws.com" for service in via],
        }
    }
    return allow("UseKey", [f"kms:{action}" for action in actions], [scope.arn("kms", "key/*")], condition)


def _put_metrics(scope: Scope) -> Statement:
    """CloudWatch has no resource for metrics: the namespace is the narrowest scope there is."""
    namespace = {"StringEquals": {"cloudwatch:namespace": scope.names.metric_namespace}}
    return allow("PutMetrics", ["cloudwatch:PutMetricData"], ["*"], namespace)


def _sagemaker(*actions: str) -> list[str]:
    return [f"sagemaker:{action}" for action in actions]


def _ledger(scope: Scope, sid: str, *actions: str) -> Statement:
    resources = [scope.ledger_arn]
    if "Query" in actions:
        resources.append(f"{scope.ledger_arn}/index/*")
    return allow(sid, [f"dynamodb:{action}" for action in actions], resources)


def _read_buckets(scope: Scope, *purposes: str) -> list[Statement]:
    buckets = [scope.bucket_arn(purpose) for purpose in purposes]
    return [
        allow("ListBuckets", ["s3:ListBucket"], buckets),
        allow("ReadObjects", ["s3:GetObject"], [f"{bucket}/*" for bucket in buckets]),
    ]


def _log_groups(scope: Scope) -> str:
    return scope.arn("logs", f"log-group:/twinops/{scope.env}/workflows/*")


def _query_redshift(scope: Scope, redshift: Redshift | None) -> list[Statement]:
    if redshift is None:
        return []
    cluster = redshift.cluster
    database = scope.arn("redshift", f"dbname:{cluster}/{redshift.database}")
    user = scope.arn("redshift", f"dbuser:{cluster}/{redshift.db_user}")
    # Statements have no ARN: AWS lets a principal see only its own ones by this condition.
    own_statements = {"StringEquals": {"redshift-data:statement-owner-iam-userid": "${aws:userid}"}}
    return [
        allow("QueryPlant", ["redshift-data:ExecuteStatement"], [scope.arn("redshift", f"cluster:{cluster}")]),
        allow("LogInToPlant", ["redshift:GetClusterCredentials"], [database, user]),
        allow(
            "ReadOwnStatements",
            ["redshift-data:DescribeStatement", "redshift-data:GetStatementResult"],
            ["*"],
            own_statements,
        ),
    ]
