"""The base of all kinds of resources, and the scope from which their names and ARNs follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from ..names import Names

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

    def policy_arn(self, purpose: str) -> str:
        return f"arn:{self.partition}:iam::{self.account}:policy/{self.names.policy(purpose)}"

    def bucket_arn(self, purpose: str) -> str:
        return f"arn:{self.partition}:s3:::{self.names.bucket(purpose)}"

    def function_arn(self, purpose: str) -> str:
        return self.arn("lambda", f"function:{self.names.function(purpose)}")

    def twin_arn(self, twin: str) -> str:
        return self.arn("sagemaker", f"notebook-instance/{self.names.twin(twin)}")

    @property
    def schedule_group_arn(self) -> str:
        return self.arn("scheduler", f"schedule-group/{self.names.schedule_group}")

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
    needs: ClassVar[tuple[str, ...]] = ()
    """Kinds that have to be there first, and that can only be removed afterwards."""
    immutable: ClassVar[frozenset[str]] = frozenset()
    """Fields that AWS cannot change in place."""
    changed_while_stopped: ClassVar[frozenset[str]] = frozenset()
    """Fields that AWS changes only while the machine is stopped. Such kinds have a field ``running``."""
    taggable: ClassVar[bool] = True
    """Whether AWS can tag it. What it cannot is ours by its name alone."""
    data: ClassVar[bool] = False
    """Whether removing it loses what people or machines have stored in it: it stays, also when all else is removed."""
    keeps_work: ClassVar[bool] = False
    """Whether people may have work on it that is nowhere else: it goes with its environment, but is never pruned."""

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

    @classmethod
    def may_be_pruned(cls) -> bool:
        """Whether one that is not declared any more may go while its environment stays."""
        return not (cls.data or cls.keeps_work)

    def obstacle(self, field_name: str, observed: Resource) -> str:
        """Why AWS cannot make ``observed`` what ``self`` says in this field; empty if it can."""
        if field_name in self.immutable:
            return "AWS cannot change it in place; save its content, remove it and rerun"
        return ""
