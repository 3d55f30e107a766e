"""What an environment consists of: one frozen dataclass a kind of AWS resource.

A desired and an observed resource have the same type, so that a plan is a comparison of two values, field by field.
Every field is one that twinops owns: it is set on creation, compared on every run and repaired when it differs.
What nobody declared here (a colleague's tag, a resource policy) is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from .names import Names

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Scope:
    """The environment, account and region that resources are for. ARNs follow from names, before anything exists."""

    env: str
    account: str
    region: str
    partition: str = "aws"

    @property
    def names(self) -> Names:
        return Names(self.env, self.account)

    def arn(self, service: str, resource: str) -> str:
        """ARN of a regional resource, such as ``arn("sns", topic_name)``."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"

    def role_arn(self, purpose: str) -> str:
        return f"arn:{self.partition}:iam::{self.account}:role/{self.names.role(purpose)}"

    def bucket_arn(self, purpose: str) -> str:
        return f"arn:{self.partition}:s3:::{self.names.bucket(purpose)}"

    def function_arn(self, purpose: str) -> str:
        return self.arn("lambda", f"function:{self.names.function(purpose)}")

    def twin_arn(self, twin: str) -> str:
        return self.arn("sagemaker", f"notebook-instance/{self.names.twin(twin)}")

    @property
    def ledger_arn(self) -> str:
        return self.arn("dynamodb", f"table/{self.names.ledger}")

    @property
    def topic_arn(self) -> str:
        return self.arn("sns", self.names.topic)

    @property
    def dead_letters_arn(self) -> str:
        return self.arn("sqs", self.names.dead_letters)


@dataclass(frozen=True)
class Resource:
    """Base of all kinds. ``tags`` are those twinops sets; others on the resource are kept."""

    kind: ClassVar[str]
    immutable: ClassVar[frozenset[str]] = frozenset()
    """Fields that AWS cannot change in place."""

    name: str
    tags: Mapping[str, str]

    def values(self) -> dict[str, Any]:
        """The owned fields, without the name."""
        names = (each.name for each in fields(self) if each.metadata.get("owned", True))
        return {name: getattr(self, name) for name in names if name != "name"}

    def differs(self, field_name: str, observed: Resource) -> bool:
        """Whether ``observed`` has to be changed in this field to become what ``self`` says."""
        if field_name == "tags":
            return any(observed.tags.get(key) != value for key, value in self.tags.items())
        return bool(getattr(self, field_name) != getattr(observed, field_name))

    def obstacle(self, field_name: str, observed: Resource) -> str:
        """Why AWS cannot make ``observed`` what ``self`` says in this field; empty if it can."""
        if field_name in self.immutable:
            return "AWS cannot change it in place; save its content, remove it and rerun"
        return ""


@dataclass(frozen=True)
class Role(Resource):
    """An IAM role with exactly one inline policy, named like the role."""

    kind: ClassVar[str] = "role"

    description: str
    trust: Json
    policy: Json


@dataclass(frozen=True)
class Queue(Resource):
    kind: ClassVar[str] = "queue"

    retention_s: int
    encrypted: bool
    policy: Json


@dataclass(frozen=True)
class Bucket(Resource):
    kind: ClassVar[str] = "bucket"

    versioning: str
    encryption: str
    public_access_blocked: bool
    policy: Json
    lifecycle: tuple[Json, ...]


@dataclass(frozen=True)
class Table(Resource):
    """A DynamoDB table, paid per request. ``key`` and the keys of ``indexes`` are attribute names (all strings)."""

    kind: ClassVar[str] = "table"
    immutable: ClassVar[frozenset[str]] = frozenset({"key"})

    key: tuple[str, ...]
    indexes: Mapping[str, tuple[str, ...]]
    billing: str
    point_in_time_recovery: bool


@dataclass(frozen=True)
class Topic(Resource):
    """An SNS topic. ``unconfirmed`` (observed only) are addresses in ``mail_to`` whose owner has not agreed yet."""

    kind: ClassVar[str] = "topic"

    mail_to: tuple[str, ...]
    unconfirmed: tuple[str, ...] = field(default=(), metadata={"owned": False})

    def differs(self, field_name: str, observed: Resource) -> bool:
        """AWS cannot remove an unconfirmed address, it forgets it after some days: such a leftover is no difference."""
        if field_name == "mail_to" and isinstance(observed, Topic):
            return set(self.mail_to) != set(observed.mail_to) - (set(observed.unconfirmed) - set(self.mail_to))
        return super().differs(field_name, observed)


@dataclass(frozen=True)
class LogGroup(Resource):
    kind: ClassVar[str] = "log_group"

    retention_days: int


@dataclass(frozen=True)
class Layer(Resource):
    """A Lambda layer. Versions are immutable: another ``sha256`` is another version. Layers have no tags."""

    kind: ClassVar[str] = "layer"

    sha256: str


@dataclass(frozen=True)
class Function(Resource):
    """``layer`` is ``<name>@<sha256>``; ``permissions`` maps a statement id to (principal, source ARN)."""

    kind: ClassVar[str] = "function"

    description: str
    code_sha256: str
    handler: str
    runtime: str
    role: str
    layer: str
    memory_mb: int
    timeout_s: int
    environment: Mapping[str, str]
    retries: int
    max_event_age_s: int
    on_failure: str
    permissions: Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class LifecycleConfig(Resource):
    """The script that a notebook instance runs when it starts; a change takes effect at the next start. No tags."""

    kind: ClassVar[str] = "lifecycle_config"

    on_start: str


@dataclass(frozen=True)
class Notebook(Resource):
    kind: ClassVar[str] = "notebook"
    immutable: ClassVar[frozenset[str]] = frozenset({"direct_internet_access"})
    changed_while_stopped: ClassVar[frozenset[str]] = frozenset(
        {"role", "instance_type", "volume_size_gb", "lifecycle_config", "root_access", "imds_version"}
    )

    role: str
    instance_type: str
    volume_size_gb: int
    lifecycle_config: str
    root_access: bool
    imds_version: str
    direct_internet_access: bool
    running: bool

    def obstacle(self, field_name: str, observed: Resource) -> str:
        is_shrunk = isinstance(observed, Notebook) and self.volume_size_gb < observed.volume_size_gb
        if field_name == "volume_size_gb" and is_shrunk:
            return "a volume can only grow"
        return super().obstacle(field_name, observed)


@dataclass(frozen=True)
class Rule(Resource):
    """An EventBridge rule with one target, whose input names the workflow."""

    kind: ClassVar[str] = "rule"

    description: str
    enabled: bool
    schedule: str
    pattern: Json
    target: str
    input_paths: Mapping[str, str]
    input_template: str
    dead_letters: str


ORDER = (
    Role.kind,
    Queue.kind,
    Bucket.kind,
    Table.kind,
    Topic.kind,
    LogGroup.kind,
    Layer.kind,
    Function.kind,
    LifecycleConfig.kind,
    Notebook.kind,
    Rule.kind,
)
"""Kinds in the order in which they are made; they are removed in the opposite order."""
