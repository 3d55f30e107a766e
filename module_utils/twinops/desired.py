"""Specs -> resources: what an environment should consist of. Pure: no I/O, no AWS, no clock.

One function a role of the playbook. Names, ARNs, policies and tags follow from the scope; people only choose what a
spec says (how long to keep, whom to tell, how large).
"""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from . import policies
from .errors import SpecError
from .resources import (
    Bucket,
    Function,
    Json,
    Layer,
    LifecycleConfig,
    LogGroup,
    Notebook,
    Queue,
    Resource,
    Role,
    Rule,
    Scope,
    Table,
    Topic,
)

WORKFLOW_TAG = "twinops:workflow"
"""Marks what belongs to one workflow, so that what a removed folder leaves behind can be found."""

LIFECYCLE_SCRIPT_LIMIT = 16384
"""Characters of a lifecycle script in base64 (AWS)."""

INPUT_TEMPLATE_LIMIT = 8192
"""Characters of the input template of a rule's target (AWS)."""

DEAD_LETTER_RETENTION_S = 14 * 24 * 3600  # the longest AWS offers: a person has to look at them
FUNCTION_TIMEOUT_S = 60
FUNCTION_MEMORY_MB = 512
MAX_EVENT_AGE_S = 3600


class Workflow(Protocol):
    """What a rule needs of a workflow; ``twinops.spec.Workflow`` has it."""

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def schedule(self) -> str | None: ...
    @property
    def event(self) -> Mapping[str, object] | None: ...
    @property
    def timeout_s(self) -> int: ...
    @property
    def idempotent(self) -> bool: ...


@dataclass(frozen=True)
class BucketSpec:
    """``noncurrent_days``: how long replaced and deleted versions stay recoverable."""

    purpose: str
    noncurrent_days: int


@dataclass(frozen=True)
class TwinSpec:
    twin: str
    instance_type: str
    volume_size_gb: int
    running: bool


@dataclass(frozen=True)
class TwinSettings:
    """Where a twin gets its code and its tables from; the lifecycle script writes it to ``twin.json``."""

    repository: str
    git_ref: str
    redshift: policies.Redshift | None = None


@dataclass(frozen=True)
class DispatchCode:
    """Digests of the two archives and the Lambda runtime that executes them."""

    code_sha256: str
    layer_sha256: str
    runtime: str


def roles(
    scope: Scope, tags: Json, trusted_principals: Iterable[str], redshift: policies.Redshift | None
) -> tuple[Role, ...]:
    documents = {
        policies.MLOPS: policies.mlops(scope),
        policies.DISPATCH: policies.dispatch(scope),
        policies.DEVELOPMENT_TWIN: policies.development_twin(scope, redshift),
        policies.DEPLOYMENT_TWIN: policies.deployment_twin(scope, redshift),
        policies.DEVICE: policies.device(scope),
    }
    return tuple(
        Role(
            name=scope.names.role(purpose),
            tags=_tags(scope, tags),
            description=policies.DESCRIPTIONS[purpose],
            trust=policies.trust(scope, purpose, trusted_principals),
            policy=document,
        )
        for purpose, document in documents.items()
    )


def buckets(scope: Scope, tags: Json, specs: Iterable[BucketSpec]) -> tuple[Bucket, ...]:
    return tuple(
        Bucket(
            name=scope.names.bucket(spec.purpose),
            tags=_tags(scope, tags),
            versioning="Enabled",
            encryption="AES256",
            public_access_blocked=True,
            policy=policies.tls_only(scope.partition, scope.names.bucket(spec.purpose)),
            lifecycle=(_expire_old_versions(spec.noncurrent_days),),
        )
        for spec in specs
    )


def tables(scope: Scope, tags: Json, point_in_time_recovery: bool) -> tuple[Table, ...]:
    ledger = Table(
        name=scope.names.ledger,
        tags=_tags(scope, tags),
        key=("pk", "sk"),
        indexes={"kind-at": ("kind", "at")},
        billing="PAY_PER_REQUEST",
        point_in_time_recovery=point_in_time_recovery,
    )
    return (ledger,)


def topics(scope: Scope, tags: Json, mail_to: Iterable[str]) -> tuple[Topic, ...]:
    return (Topic(name=scope.names.topic, tags=_tags(scope, tags), mail_to=tuple(sorted(set(mail_to)))),)


def function_log_groups(scope: Scope, tags: Json, retention_days: int) -> tuple[LogGroup, ...]:
    """Log groups of the functions: without them Lambda makes its own, which keep everything for ever."""
    return tuple(
        LogGroup(scope.names.function_log_group(purpose), _tags(scope, tags), retention_days)
        for purpose in ("dispatch", "backup")
    )


def twins(
    scope: Scope, tags: Json, specs: Iterable[TwinSpec], settings: TwinSettings, script: str
) -> tuple[Resource, ...]:
    """Each twin is a notebook instance and the script it starts with.

    Raises SpecError if the script is larger than AWS takes.
    """
    on_start = lifecycle_script(scope, settings, script)
    made: list[Resource] = []
    for spec in specs:
        name = scope.names.twin(spec.twin)
        made.append(LifecycleConfig(name=name, tags={}, on_start=on_start))
        made.append(
            Notebook(
                name=name,
                tags=_tags(scope, tags),
                role=scope.role_arn(f"{spec.twin}-twin"),
                instance_type=spec.instance_type,
                volume_size_gb=spec.volume_size_gb,
                lifecycle_config=name,
                root_access=False,
                imds_version="2",
                direct_internet_access=True,
                running=spec.running,
            )
        )
    return tuple(made)


def lifecycle_script(scope: Scope, settings: TwinSettings, script: str) -> str:
    """``script`` with the values it needs as shell variables in front."""
    redshift = settings.redshift or policies.Redshift("", "", "")
    values = {
        "TWINOPS_ENV": scope.env,
        "TWINOPS_REGION": scope.region,
        "LEDGER_TABLE": scope.names.ledger,
        "TOPIC_ARN": scope.topic_arn,
        "REPORTS_BUCKET": scope.names.bucket("reports"),
        "DATA_BUCKET": scope.names.bucket("data"),
        "MODELS_BUCKET": scope.names.bucket("models"),
        "REPOSITORY": settings.repository,
        "GIT_REF": settings.git_ref,
        "REDSHIFT_CLUSTER": redshift.cluster,
        "REDSHIFT_DATABASE": redshift.database,
        "REDSHIFT_DB_USER": redshift.db_user,
    }
    assignments = "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
    shebang, _, body = script.partition("\n")
    if not shebang.startswith("#!"):
        raise SpecError([f"lifecycle script: first line: expected #! and an interpreter, got {shebang!r}"])
    text = f"{shebang}\n{assignments}{body}"
    size = len(base64.b64encode(text.encode()))
    if size > LIFECYCLE_SCRIPT_LIMIT:
        raise SpecError([f"lifecycle script: expected at most {LIFECYCLE_SCRIPT_LIMIT} base64 characters, got {size}"])
    return text


def workflow_log_group(scope: Scope, tags: Json, workflow: Workflow, retention_days: int) -> LogGroup:
    return LogGroup(
        name=scope.names.workflow_log_group(workflow.name),
        tags={**_tags(scope, tags), WORKFLOW_TAG: workflow.name},
        retention_days=retention_days,
    )


def rule(scope: Scope, tags: Json, workflow: Workflow, git_sha: str) -> Rule:
    """The rule of a workflow. Its input names the workflow, so that one function serves them all.

    Raises SpecError if the input is larger than AWS takes.
    """
    template = input_template(workflow, git_sha)
    if len(template) > INPUT_TEMPLATE_LIMIT:
        where = f"workflows/{workflow.name}/workflow.yml"
        raise SpecError([f"{where}: expected an input template of at most {INPUT_TEMPLATE_LIMIT}, got {len(template)}"])
    return Rule(
        name=scope.names.rule(workflow.name),
        tags={**_tags(scope, tags), WORKFLOW_TAG: workflow.name},
        description=workflow.description,
        enabled=True,
        schedule=workflow.schedule or "",
        pattern=dict(workflow.event or {}),
        target=scope.function_arn("dispatch"),
        input_paths={"id": "$.id", "time": "$.time", "type": "$.detail-type", "detail": "$.detail"},
        input_template=template,
        dead_letters=scope.dead_letters_arn,
    )


def input_template(workflow: Workflow, git_sha: str) -> str:
    """What EventBridge sends to the dispatcher. ``<…>`` are filled in by EventBridge, which quotes strings itself."""
    constants = {"git_sha": git_sha, "timeout_s": workflow.timeout_s, "idempotent": workflow.idempotent}
    pairs = [
        f'"workflow": {json.dumps(workflow.name)}',
        '"event_id": <id>',
        '"time": <time>',
        '"detail-type": <type>',
        '"detail": <detail>',
        *(f'"{key}": {json.dumps(value)}' for key, value in constants.items()),
    ]
    return "{" + ", ".join(pairs) + "}"


def dispatcher(scope: Scope, tags: Json, code: DispatchCode) -> tuple[Resource, ...]:
    """The one function that serves all workflows, its backup, their layer, and the queue of what neither could deliver.

    The backup comes before the dispatcher, whose on-failure destination it is.
    """
    queue = Queue(
        name=scope.names.dead_letters,
        tags=_tags(scope, tags),
        retention_s=DEAD_LETTER_RETENTION_S,
        encrypted=True,
        policy=policies.dead_letters(scope),
    )
    layer = Layer(name=scope.names.layer, tags={}, sha256=code.layer_sha256)
    backup = _function(scope, tags, code, "backup", on_failure=scope.dead_letters_arn, permissions={})
    from_rules = {"rules": ("events.amazonaws.com", scope.arn("events", f"rule/{scope.names.prefix}*"))}
    dispatch = _function(scope, tags, code, "dispatch", on_failure=scope.function_arn("backup"), permissions=from_rules)
    return (queue, layer, backup, dispatch)


def _function(
    scope: Scope,
    tags: Json,
    code: DispatchCode,
    purpose: str,
    *,
    on_failure: str,
    permissions: Mapping[str, tuple[str, str]],
) -> Function:
    descriptions = {
        "dispatch": "Starts a workflow run on the deployment twin.",
        "backup": "Starts a run that the dispatcher could not start, or one asked for by hand.",
    }
    return Function(
        name=scope.names.function(purpose),
        tags=_tags(scope, tags),
        description=descriptions[purpose],
        code_sha256=code.code_sha256,
        handler=f"dispatch.handler.{purpose}",
        runtime=code.runtime,
        role=scope.role_arn("dispatch"),
        layer=f"{scope.names.layer}@{code.layer_sha256}",
        memory_mb=FUNCTION_MEMORY_MB,
        timeout_s=FUNCTION_TIMEOUT_S,
        environment={
            "TWINOPS_ENV": scope.env,
            "LEDGER_TABLE": scope.names.ledger,
            "TWIN": scope.names.twin("deployment"),
            "TOPIC_ARN": scope.topic_arn,
        },
        retries=1,
        max_event_age_s=MAX_EVENT_AGE_S,
        on_failure=on_failure,
        permissions=permissions,
    )


def _expire_old_versions(days: int) -> Json:
    return {
        "ID": "expire-old-versions",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "NoncurrentVersionExpiration": {"NoncurrentDays": days},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
    }


def _tags(scope: Scope, tags: Json) -> dict[str, str]:
    """Tags of the spec, under those by which twinops recognises its own."""
    return {**{key: str(value) for key, value in tags.items()}, **scope.names.tags}
