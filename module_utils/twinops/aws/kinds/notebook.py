"""SageMaker notebook instances. AWS changes them only while they are stopped; the plan's steps say when."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, cast

from botocore.exceptions import ClientError

from ...plan import Change, Observed
from ...resources import Notebook
from ...status import RECONCILING, STALLED, Condition
from .. import ec2
from ..owned import tags as tags_of
from ..session import Aws, until, until_accepted
from .tags import as_pairs, from_pairs

SERVICES = ("sagemaker", "ec2")
WORKERS = 2
READ_BACK = True

IN_SERVICE, STOPPED, FAILED, DELETING = "InService", "Stopped", "Failed", "Deleting"
_STARTING = ("Pending", IN_SERVICE, "Updating")
_TRANSITION_TIMEOUT_S = 900
_ROLE_NOT_READY = ("Could not assume role", "is not authorized to assume", "Access denied to the execution role")


def absent_as_none(call: Callable[..., Any], **arguments: object) -> Any | None:
    """The answer of ``call``, or None where what it asks for does not exist: SageMaker says so only in the message."""
    try:
        return call(**arguments)
    except ClientError as error:
        if any(text in str(error) for text in ("RecordNotFound", "does not exist", "ResourceNotFound")):
            return None
        raise


def observe(aws: Aws, names: Collection[str]) -> dict[str, Observed]:
    return aws.found(lambda name: _observe(aws, name), names)


def _observe(aws: Aws, name: str) -> Observed | None:
    sagemaker = aws.client("sagemaker")
    found = absent_as_none(sagemaker.describe_notebook_instance, NotebookInstanceName=name)
    if found is None:
        return None
    arn, status = found["NotebookInstanceArn"], found["NotebookInstanceStatus"]
    metadata_service = found.get("InstanceMetadataServiceConfiguration") or {}
    return Observed(
        Notebook(
            name=name,
            tags=tags_of(aws, arn, lambda: from_pairs(sagemaker.list_tags(ResourceArn=arn).get("Tags", []))),
            role=found["RoleArn"],
            instance_type=found["InstanceType"],
            volume_size_gb=found["VolumeSizeInGB"],
            lifecycle_config=found.get("NotebookInstanceLifecycleConfigName") or "",
            root_access=found.get("RootAccess") == "Enabled",
            imds_version=metadata_service.get("MinimumInstanceMetadataServiceVersion", "1"),
            subnet=ec2.name_of(aws, "subnet", found["SubnetId"]) if found.get("SubnetId") else "",
            security_groups=ec2.names_of(aws, "security_group", found.get("SecurityGroups") or ()),
            direct_internet_access=found.get("DirectInternetAccess") == "Enabled",
            running=status in _STARTING,
        ),
        handles={"arn": arn, "status": status},
        conditions=_conditions(name, status, found),
    )


def _conditions(name: str, status: str, found: Mapping[str, Any]) -> tuple[Condition, ...]:
    if status == FAILED:
        message = f"{found.get('FailureReason', 'no reason given')} (its log: /aws/sagemaker/NotebookInstances)"
        return (Condition(STALLED, Notebook.kind, name, FAILED, message),)
    if status not in (IN_SERVICE, STOPPED):
        return (Condition(RECONCILING, Notebook.kind, name, status, "its state changes", passes=True),)
    return ()


def create(aws: Aws, change: Change) -> None:
    """AWS starts it at once; ``reconcile`` waits until it is in service."""
    sagemaker, notebook = aws.client("sagemaker"), cast(Notebook, change.desired)
    network = _network(aws, notebook)
    until_accepted(
        lambda: sagemaker.create_notebook_instance(
            NotebookInstanceName=notebook.name,
            LifecycleConfigName=notebook.lifecycle_config,
            DirectInternetAccess="Enabled" if notebook.direct_internet_access else "Disabled",
            Tags=as_pairs(notebook.tags),
            **network,
            **_settings(notebook),
        ),
        _ROLE_NOT_READY,
    )
    if not notebook.running:
        _stop(sagemaker, notebook.name)


def update(aws: Aws, change: Change) -> None:
    sagemaker, notebook = aws.client("sagemaker"), cast(Notebook, change.desired)
    observed = cast(Observed, change.observed)
    if "tags" in change.fields:
        sagemaker.add_tags(ResourceArn=observed.handles["arn"], Tags=as_pairs(notebook.tags))
    if "stop" in change.steps:
        _stop(sagemaker, notebook.name)
    if "update" in change.steps:
        _settle(sagemaker, notebook.name)
        until_accepted(lambda: _update_settings(sagemaker, notebook), _ROLE_NOT_READY)
        _settle(sagemaker, notebook.name)
    if "start" in change.steps:
        _settle(sagemaker, notebook.name)
        sagemaker.start_notebook_instance(NotebookInstanceName=notebook.name)


def delete(aws: Aws, change: Change) -> None:
    sagemaker, name = aws.client("sagemaker"), change.name
    if _status(sagemaker, name) not in (STOPPED, FAILED, DELETING, None):
        _stop(sagemaker, name)
    absent_as_none(sagemaker.delete_notebook_instance, NotebookInstanceName=name)
    until(lambda: _status(sagemaker, name) is None, f"notebook {name}: deleted", _TRANSITION_TIMEOUT_S)


def _network(aws: Aws, notebook: Notebook) -> dict[str, Any]:
    if not notebook.subnet:
        return {}
    groups = ec2.ids_of(aws, "security_group", notebook.security_groups)
    return {"SubnetId": ec2.id_of(aws, "subnet", notebook.subnet), "SecurityGroupIds": groups}


def _settings(notebook: Notebook) -> dict[str, Any]:
    return {
        "RoleArn": notebook.role,
        "InstanceType": notebook.instance_type,
        "VolumeSizeInGB": notebook.volume_size_gb,
        "RootAccess": "Enabled" if notebook.root_access else "Disabled",
        "InstanceMetadataServiceConfiguration": {"MinimumInstanceMetadataServiceVersion": notebook.imds_version},
    }


def _update_settings(sagemaker: Any, notebook: Notebook) -> None:
    sagemaker.update_notebook_instance(
        NotebookInstanceName=notebook.name, LifecycleConfigName=notebook.lifecycle_config, **_settings(notebook)
    )


def _stop(sagemaker: Any, name: str) -> None:
    _settle(sagemaker, name)  # only a notebook in service can be stopped
    if _status(sagemaker, name) == IN_SERVICE:
        sagemaker.stop_notebook_instance(NotebookInstanceName=name)
        _settle(sagemaker, name)


def _settle(sagemaker: Any, name: str) -> None:
    settled = (IN_SERVICE, STOPPED, FAILED, None)
    until(lambda: _status(sagemaker, name) in settled, f"notebook {name}: settled", _TRANSITION_TIMEOUT_S)


def _status(sagemaker: Any, name: str) -> str | None:
    found = absent_as_none(sagemaker.describe_notebook_instance, NotebookInstanceName=name)
    return str(found["NotebookInstanceStatus"]) if found else None
