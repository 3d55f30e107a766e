"""Lifecycle configurations of SageMaker notebook instances: the script that runs at every start."""

from __future__ import annotations

import base64
from collections.abc import Collection
from typing import Any, cast

from ...names import TWINS
from ...plan import Change, Observed
from ...resources import LifecycleConfig
from ..owned import Owned
from ..session import Aws
from .notebook import absent_as_none

SERVICES = ("sagemaker",)
WORKERS = 2
READ_BACK = False
PARTS = ("twins",)


def observe(aws: Aws, names: Collection[str]) -> dict[str, Observed]:
    return aws.found(lambda name: _observe(aws, name), names)


def _observe(aws: Aws, name: str) -> Observed | None:
    sagemaker = aws.client("sagemaker")
    answer = absent_as_none(
        sagemaker.describe_notebook_instance_lifecycle_config, NotebookInstanceLifecycleConfigName=name
    )
    if answer is None:
        return None
    scripts = [base64.b64decode(step["Content"]).decode() for step in answer.get("OnStart", [])]
    return Observed(LifecycleConfig(name=name, tags={}, on_start="".join(scripts)))


def list_owned(aws: Aws) -> list[Owned]:
    """They have no tags, and there are only as many as there are twins: asking whether each exists is a call for those
    that are not declared, and none for the others."""
    return [Owned((LifecycleConfig.kind, aws.scope.names.twin(twin)), PARTS[0], "") for twin in TWINS]


def create(aws: Aws, change: Change) -> None:
    aws.client("sagemaker").create_notebook_instance_lifecycle_config(**_request(change))


def update(aws: Aws, change: Change) -> None:
    aws.client("sagemaker").update_notebook_instance_lifecycle_config(**_request(change))


def delete(aws: Aws, change: Change) -> None:
    absent_as_none(
        aws.client("sagemaker").delete_notebook_instance_lifecycle_config,
        NotebookInstanceLifecycleConfigName=change.name,
    )


def _request(change: Change) -> dict[str, Any]:
    script = cast(LifecycleConfig, change.desired).on_start
    return {
        "NotebookInstanceLifecycleConfigName": change.name,
        "OnStart": [{"Content": base64.b64encode(script.encode()).decode()}],
    }
