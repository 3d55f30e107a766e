"""IAM policies of an environment: who may do what, scoped by name. Pure data, computed before anything exists.

No action and no resource is ``*``, except where AWS has no narrower one; then a condition narrows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from . import data_sources
from .data_sources import Source
from .iam import Document, Statement, allow, canonical, document, union
from .names import ENVIRONMENT_TAG
from .resources import Scope

__all__ = ["Document", "Statement", "allow", "canonical", "document"]

MLOPS = "mlops"
DISPATCH = "dispatch"
DEVELOPMENT_TWIN = "development-twin"
DEPLOYMENT_TWIN = "deployment-twin"
DEVICE = "device"
HOST = "host"
SCHEDULER = "scheduler"

DEPLOY = "deploy"
PLAN = "plan"
BOUNDARY = "boundary"
DATA_ACCESS = "data-access"

DESCRIPTIONS = {
    MLOPS: "People and pipelines that operate an environment of twinops.",
    DISPATCH: "The Lambda functions that start workflow runs on the deployment twin.",
    DEVELOPMENT_TWIN: "The notebook instance on which workflows are written and tried.",
    DEPLOYMENT_TWIN: "The notebook instance on which workflows run.",
    DEVICE: "An edge device: it may store its decisions and facts, raise alarms, and read releases.",
    HOST: "The instance on which Airflow and Ansible run.",
    SCHEDULER: "EventBridge Scheduler: it may start workflows whose schedule is in a time zone, and nothing else.",
}

SERVICE_OF = {
    DISPATCH: "lambda.amazonaws.com",
    DEVELOPMENT_TWIN: "sagemaker.amazonaws.com",
    DEPLOYMENT_TWIN: "sagemaker.amazonaws.com",
    DEVICE: "credentials.iot.amazonaws.com",
    HOST: "ec2.amazonaws.com",
    SCHEDULER: "scheduler.amazonaws.com",
}


def trust(purpose: str) -> Document:
    """Who may assume the role of a function, a twin or a device: the one service that runs it."""
    return document([_may_assume({"Service": [SERVICE_OF[purpose]]})])


def trust_of_schedules(scope: Scope) -> Document:
    """Who may assume the scheduler role: Scheduler, for the schedules of this environment. Not for those of others."""
    ours = {
        "ArnEquals": {"aws:SourceArn": scope.schedule_group_arn},
        "StringEquals": {"aws:SourceAccount": scope.account},
    }
    return document([{**_may_assume({"Service": [SERVICE_OF[SCHEDULER]]}), "Condition": ours}])


def trust_of_people(scope: Scope, principals: Iterable[str], role_arn: str = "", external_id: str = "") -> Document:
    """Who may assume the mlops role: ``principals`` (default: whoever the account's own policies allow to).

    ``role_arn``: that of the mlops role of a tools account, which has to give ``external_id``: so nobody who can make
    that account assume roles gets into this one by knowing the role's name.
    """
    account = f"arn:{scope.partition}:iam::{scope.account}:root"
    trusted = [_may_assume({"AWS": list(principals) or [account]})]
    if role_arn:
        knows_id = {"StringEquals": {"sts:ExternalId": external_id}}
        trusted.append({**_may_assume({"AWS": [role_arn]}), "Condition": knows_id})
    return document(trusted)


def _may_assume(principal: Document) -> Statement:
    return {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}


def of_roles(scope: Scope, targets: Sequence[str] = ()) -> dict[str, Document]:
    """Purpose -> policy of the roles of people, functions, twins and devices, which every environment has."""
    return {
        MLOPS: mlops(scope, targets),
        DISPATCH: dispatch(scope),
        DEVELOPMENT_TWIN: development_twin(scope),
        DEPLOYMENT_TWIN: deployment_twin(scope),
        DEVICE: device(scope),
        SCHEDULER: scheduler(scope),
    }


def boundary(scope: Scope, sources: Sequence[Source], targets: Sequence[str] = ()) -> Document:
    """What no role of an environment can exceed, whatever policies it is given: what they need, all together.

    Only the administrator of the account may change it (``playbooks/bootstrap.yml``). So a commit that lets a role do
    more than any did before takes effect only when the administrator agrees.

    Further conditions on what is ours by name are left to the roles' policies: AWS limits the length of this one.
    """
    policies_of_all = [*of_roles(scope, targets).values(), host(scope), data_access(scope, sources)]
    return union(_short(scope, statement) for policy in policies_of_all for statement in policy["Statement"])


def _short(scope: Scope, statement: Statement) -> Statement:
    ours = (scope.names.prefix, f"/twinops/{scope.env}/")
    is_ours = all(any(name in resource for name in ours) for resource in statement["Resource"])
    return {key: value for key, value in statement.items() if not (is_ours and key == "Condition")}


def mlops(scope: Scope, targets: Sequence[str] = ()) -> Document:
    """See everything of the environment, start and cancel runs, work on the development twin.

    ``targets``: ARNs of the mlops roles of other environments, which this one, that of a tools account, may assume.
    """
    return document(
        [
            *([allow("OperateTargets", ["sts:AssumeRole"], targets)] if targets else []),
            _ledger(scope, "ReadLedger", "GetItem", "Query"),
            _cancel_runs(scope),
            *_read_buckets(scope, "models", "reports", "data"),
            use_key(scope, "Decrypt", via=("s3",)),
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
            allow("HandOver", ["lambda:InvokeFunction"], [scope.function_arn(each) for each in ("backup", "watchdog")]),
            allow("Notify", ["sns:Publish"], [scope.topic_arn]),
            use_key(scope, "Decrypt", "GenerateDataKey", via=("sns",)),
            _put_metrics(scope),
            allow("KeepDeadLetters", ["sqs:SendMessage"], [scope.dead_letters_arn]),
            allow(
                "WriteOwnLogs",
                ["logs:CreateLogStream", "logs:PutLogEvents"],
                [scope.arn("logs", f"log-group:/aws/lambda/{scope.names.prefix}*")],
            ),
        ]
    )


def scheduler(scope: Scope) -> Document:
    """Hand a workflow's time to the dispatcher, or leave it in the dead-letter queue; nothing else."""
    return document(
        [
            allow("StartRuns", ["lambda:InvokeFunction"], [scope.function_arn(DISPATCH)]),
            allow("KeepDeadLetters", ["sqs:SendMessage"], [scope.dead_letters_arn]),
        ]
    )


def development_twin(scope: Scope) -> Document:
    """Read what workflows read, start and cancel runs by hand, try out what starts workflows: rules, functions, logs.

    It makes only what carries the environment's tag, and changes only what has it. Reading goes by name alone: what
    does not exist yet has no tags.
    """
    return document(
        [
            _ledger(scope, "ReadLedger", "GetItem", "Query"),
            _cancel_runs(scope),
            *_read_buckets(scope, "reports"),
            allow("PutEvents", ["events:PutEvents"], [scope.arn("events", "event-bus/default")]),
            allow("StartRunsByHand", ["lambda:InvokeFunction"], [scope.function_arn("backup")]),
            use_key(scope, "Decrypt", via=("s3",)),
            allow("ReadRunLogs", ["logs:FilterLogEvents", "logs:GetLogEvents"], [_log_groups(scope)]),
            *_make_what_starts_workflows(scope),
            *_change_what_starts_workflows(scope),
            *_see_what_starts_workflows(scope),
        ]
    )


def _make_what_starts_workflows(scope: Scope) -> list[Statement]:
    with_our_tag = {"StringEquals": {f"aws:RequestTag/{ENVIRONMENT_TAG}": scope.env}}
    for_functions = {"StringEquals": {"iam:PassedToService": SERVICE_OF[DISPATCH]}}
    return [
        allow("MakeRules", ["events:PutRule", "events:TagResource"], [_rules(scope)], with_our_tag),
        allow("MakeFunctions", ["lambda:CreateFunction", "lambda:TagResource"], [_functions(scope)], with_our_tag),
        allow("PassDispatchRole", ["iam:PassRole"], [scope.role_arn(DISPATCH)], for_functions),
        allow("MakeLogGroups", ["logs:CreateLogGroup", "logs:TagResource"], _all_log_groups(scope), with_our_tag),
        # Layers have no tags.
        allow("MakeLayers", ["lambda:PublishLayerVersion"], [_layers(scope)]),
    ]


def _change_what_starts_workflows(scope: Scope) -> list[Statement]:
    has_our_tag = {"StringEquals": {f"aws:ResourceTag/{ENVIRONMENT_TAG}": scope.env}}
    rules = ("DeleteRule", "DisableRule", "EnableRule", "PutRule", "PutTargets", "RemoveTargets")
    functions = (
        *("AddPermission", "DeleteFunction", "PutFunctionEventInvokeConfig", "RemovePermission"),
        *("UpdateFunctionCode", "UpdateFunctionConfiguration"),
    )
    logs = ["logs:DeleteLogGroup", "logs:PutRetentionPolicy"]
    return [
        allow("ChangeRules", [f"events:{action}" for action in rules], [_rules(scope)], has_our_tag),
        allow("ChangeFunctions", [f"lambda:{action}" for action in functions], [_functions(scope)], has_our_tag),
        allow("ChangeLogGroups", logs, _all_log_groups(scope), has_our_tag),
        allow("DeleteLayers", ["lambda:DeleteLayerVersion"], [f"{_layers(scope)}:*"]),
    ]


def _see_what_starts_workflows(scope: Scope) -> list[Statement]:
    functions = ("GetFunction", "GetFunctionConfiguration", "GetFunctionEventInvokeConfig", "GetPolicy")
    return [
        allow("SeeRules", ["events:DescribeRule", "events:ListTargetsByRule"], [_rules(scope)]),
        allow("SeeFunctions", [f"lambda:{action}" for action in functions], [_functions(scope)]),
        allow("SeeLayers", ["lambda:GetLayerVersion"], [f"{_layers(scope)}:*"]),
        allow("SeeDeadLetters", ["sqs:GetQueueAttributes"], [scope.dead_letters_arn]),
        list_all(scope, "events:ListRules", "lambda:ListLayerVersions", "logs:DescribeLogGroups", "tag:GetResources"),
    ]


def deployment_twin(scope: Scope) -> Document:
    """What a run needs: its ledger item, its report, its log, its metrics and its mail. It makes nothing in AWS.

    And what ``toolbox.registry``, ``toolbox.datasets`` and ``toolbox.summaries`` write: they only add objects.
    """
    return document(
        [
            _ledger(scope, "KeepRunInLedger", "GetItem", "Query", "UpdateItem"),
            # Reading them is for the links that mails may have: whoever opens one acts as the twin that has signed it.
            allow("StoreReports", ["s3:PutObject", "s3:GetObject"], [f"{scope.bucket_arn('reports')}/*"]),
            allow("RegisterModels", ["s3:PutObject"], [f"{scope.bucket_arn('models')}/registry/*"]),
            allow("KeepDataVersions", ["s3:PutObject"], [f"{scope.bucket_arn('data')}/datasets/*"]),
            allow("KeepSummaries", ["s3:PutObject"], [f"{scope.bucket_arn('data')}/summaries/*"]),
            allow("Notify", ["sns:Publish"], [scope.topic_arn]),
            use_key(scope, "Decrypt", "GenerateDataKey", via=("s3", "sns")),
            allow("WriteRunLogs", ["logs:CreateLogStream", "logs:PutLogEvents"], [_log_groups(scope)]),
            _put_metrics(scope),
        ]
    )


def data_access(scope: Scope, sources: Sequence[Source]) -> Document:
    """What both twins may read: models, the devices' decisions, and the ``sources`` of the spec."""
    return document([*_read_buckets(scope, "models", "data"), *data_sources.statements(scope, sources)])


def device(scope: Scope) -> Document:
    return document(
        [
            allow("StoreDecisions", ["s3:PutObject"], [f"{scope.bucket_arn('data')}/decisions/*"]),
            allow("StoreFacts", ["s3:PutObject"], [f"{scope.bucket_arn('data')}/facts/*"]),
            allow("RaiseAlarms", ["events:PutEvents"], [scope.arn("events", "event-bus/default")], _ALARMS_OF_DEVICES),
            allow("PullReleases", ["s3:GetObject"], [f"{scope.bucket_arn('models')}/tuf/*"]),
            use_key(scope, "Decrypt", "GenerateDataKey", via=("s3",)),
        ]
    )


_ALARMS_OF_DEVICES = {"StringEquals": {"events:source": "twinops.device", "events:detail-type": "Device alarm"}}
"""Devices share the bus with everybody, so they may say nothing else there (twinops/edge/alarms.py)."""


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


def use_key(scope: Scope, *actions: str, via: Iterable[str]) -> Statement:
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


def _cancel_runs(scope: Scope) -> Statement:
    """Change runs and the turns of workflows, as who cancels a run does; neither make nor change what devices run."""
    of_runs = {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["run#*", "workflow#*"]}}
    return allow("CancelRuns", ["dynamodb:UpdateItem"], [scope.ledger_arn], of_runs)


def _read_buckets(scope: Scope, *purposes: str) -> list[Statement]:
    buckets = [scope.bucket_arn(purpose) for purpose in purposes]
    return [
        allow("ListBuckets", ["s3:ListBucket"], buckets),
        allow("ReadObjects", ["s3:GetObject"], [f"{bucket}/*" for bucket in buckets]),
    ]


def list_all(scope: Scope, *actions: str) -> Statement:
    """Listings, for which AWS has no narrower resource: only those of the environment's region."""
    return allow("ListAll", actions, ["*"], {"StringEquals": {"aws:RequestedRegion": scope.region}})


def _log_groups(scope: Scope) -> str:
    return scope.arn("logs", f"log-group:/twinops/{scope.env}/workflows/*")


def _all_log_groups(scope: Scope) -> list[str]:
    return [_log_groups(scope), scope.arn("logs", f"log-group:/aws/lambda/{scope.names.prefix}*")]


def _rules(scope: Scope) -> str:
    return scope.arn("events", f"rule/{scope.names.prefix}*")


def _functions(scope: Scope) -> str:
    return scope.arn("lambda", f"function:{scope.names.prefix}*")


def _layers(scope: Scope) -> str:
    return scope.arn("lambda", f"layer:{scope.names.prefix}*")
