"""SageMaker notebook instances: moto keeps the records, ``instances`` the real machines, IAM the roles.

What SageMaker has beyond notebooks answers 501: moto would only pretend to train.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from sandbox.emulator import ec2_guests, moto_bridge, roles
from sandbox.emulator.answers import Answer, json_answer, json_error
from sandbox.emulator.instances import Instance, scripts_of
from sandbox.settings import ACCOUNT, REGION, Settings

TOKEN_LIFETIME_S = 300  # as AWS: "the URL that you get is valid only for 5 minutes"
TRUSTED = frozenset({"sagemaker.amazonaws.com"})
SCRIPT_CHARACTERS_MAX = 16384

# What moto answers truthfully without our help.
RECORDS_ONLY = frozenset(
    {
        "ListNotebookInstances",
        "DescribeNotebookInstanceLifecycleConfig",
        "DeleteNotebookInstanceLifecycleConfig",
        "CreateModelPackageGroup",
        "DescribeModelPackageGroup",
        "ListModelPackageGroups",
        "CreateModelPackage",
        "DescribeModelPackage",
        "ListModelPackages",
        "UpdateModelPackage",
    }
)

# UpdateNotebookInstance: request field -> moto's attribute.
UPDATABLE = {
    "InstanceType": "instance_type",
    "RoleArn": "role_arn",
    "LifecycleConfigName": "lifecycle_config_name",
    "VolumeSizeInGB": "volume_size_in_gb",
    "DefaultCodeRepository": "default_code_repository",
    "RootAccess": "root_access",
}


class RequestError(Exception):
    """A request that SageMaker refuses with ValidationException."""


class Notebooks:
    """The service."""

    def __init__(self, settings: Settings, key_file: Path) -> None:
        self._settings = settings
        self._key_file = key_file
        self._key = secrets.token_bytes(32)
        key_file.parent.mkdir(parents=True, exist_ok=True)
        key_file.touch(mode=0o600)
        key_file.write_bytes(self._key)
        self._instances: dict[str, Instance] = {}
        self._reasons: dict[str, str] = {}
        self._metadata_services: dict[str, dict[str, str]] = {}  # moto drops it
        self._interfaces: dict[str, str] = {}  # ARN -> network interface, of those in a subnet
        self._config_tags: dict[str, list[dict[str, str]]] = {}
        self._lock = threading.RLock()
        self._actions: dict[str, Callable[[Any, dict[str, Any]], Answer | None]] = {
            "CreateNotebookInstance": self._create,
            "DescribeNotebookInstance": self._describe,
            "StartNotebookInstance": self._start,
            "StopNotebookInstance": self._stop,
            "UpdateNotebookInstance": self._update,
            "DeleteNotebookInstance": self._delete,
            "CreatePresignedNotebookInstanceUrl": self._presign,
            "CreateNotebookInstanceLifecycleConfig": self._create_config,
            "UpdateNotebookInstanceLifecycleConfig": self._update_config,
            "ListNotebookInstanceLifecycleConfigs": self._list_configs,
            "AddTags": self._add_tags,
            "ListTags": self._list_tags,
            "DeleteTags": self._delete_tags,
        }

    async def handle(
        self, method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, list[str]]
    ) -> Answer:
        return await asyncio.to_thread(self._handle, method, path, headers, body, query)

    def _handle(
        self, method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, list[str]]
    ) -> Answer:
        action = headers.get("x-amz-target", "").rpartition(".")[2]

        def pass_on() -> Answer:
            return moto_bridge.call("sagemaker", method, path, headers, body, query)

        if action in RECORDS_ONLY:
            return pass_on()
        if action not in self._actions:
            return json_error("NotImplementedException", f"the sandbox does not emulate sagemaker:{action}", 501)
        with self._lock:
            try:
                return self._actions[action](pass_on, json.loads(body or b"{}")) or (200, {}, b"")
            except RequestError as error:
                return json_error("ValidationException", str(error))

    # ---- notebook instances

    def _create(self, pass_on: Callable[[], Answer], request: dict[str, Any]) -> Answer:
        self._check_config(request.get("LifecycleConfigName"))
        self._check_role(request.get("RoleArn", ""), request["NotebookInstanceName"])
        self._check_place(request)
        answer = pass_on()
        if answer[0] == 200:
            self._join_subnet(request)
            self._remember_metadata_service(request)
            self._boot(self._record(request), first_start=True)
        return answer

    @staticmethod
    def _check_place(request: dict[str, Any]) -> None:
        """A notebook instance is put only into a subnet and groups that there are."""
        if "SubnetId" in request:
            problem = ec2_guests.check(request["SubnetId"], request.get("SecurityGroupIds", []))
            if problem:
                raise RequestError(problem)

    def _join_subnet(self, request: dict[str, Any]) -> None:
        record = self._record(request)
        if "SubnetId" in request:
            groups = request.get("SecurityGroupIds", [])
            self._interfaces[record.arn] = ec2_guests.join(record.arn, request["SubnetId"], groups)

    def _describe(self, pass_on: Callable[[], Answer], request: dict[str, Any]) -> Answer:
        answer = pass_on()
        if answer[0] != 200:
            return answer
        document = moto_bridge.decode(answer)
        name = document["NotebookInstanceName"]
        extra: dict[str, Any] = {"InstanceMetadataServiceConfiguration": self._metadata_services.get(name)}
        if document["NotebookInstanceArn"] in self._interfaces:
            extra["NetworkInterfaceId"] = self._interfaces[document["NotebookInstanceArn"]]
        if name in self._reasons:
            extra["FailureReason"] = self._reasons[name]
        return json_answer({**document, **extra})

    def _start(self, pass_on: Callable[[], Answer], request: dict[str, Any]) -> None:
        record = self._record(request)
        self._expect(record, {"Stopped", "Failed"}, "Pending")
        self._check_role(record.role_arn, request["NotebookInstanceName"])
        self._boot(record, first_start=False)

    def _stop(self, pass_on: Callable[[], Answer], request: dict[str, Any]) -> None:
        record = self._record(request)
        self._expect(record, {"InService"}, "Stopping")
        record.status = "Stopping"
        self._in_background(record, "Stopped")

    def _delete(self, pass_on: Callable[[], Answer], request: dict[str, Any]) -> None:
        record = self._record(request)
        self._expect(record, {"Stopped", "Failed"}, "Deleting")
        record.status = "Deleting"
        self._in_background(record, None)

    def _update(self, pass_on: Callable[[], Answer], request: dict[str, Any]) -> None:
        record = self._record(request)
        self._expect(record, {"Stopped", "Failed"}, "Updating")
        self._check_config(request.get("LifecycleConfigName"))
        if "RoleArn" in request:
            self._check_role(request["RoleArn"], request["NotebookInstanceName"])
        if "InstanceType" in request:
            record.validate_instance_type(request["InstanceType"])
        if int(request.get("VolumeSizeInGB", record.volume_size_in_gb)) < record.volume_size_in_gb:
            raise RequestError("VolumeSizeInGB: a volume can only grow.")
        for field, attribute in UPDATABLE.items():
            if field in request:
                setattr(record, attribute, request[field])
        self._remember_metadata_service(request)
        if request.get("DisassociateLifecycleConfig"):
            record.lifecycle_config_name = None
        record.last_modified_time = _now()

    def _remember_metadata_service(self, request: dict[str, Any]) -> None:
        name, settings = request["NotebookInstanceName"], request.get("InstanceMetadataServiceConfiguration")
        if settings:
            self._metadata_services[name] = settings
        else:
            self._metadata_services.setdefault(name, {"MinimumInstanceMetadataServiceVersion": "1"})

    def _presign(self, pass_on: Callable[[], Answer], request: dict[str, Any]) -> Answer:
        record = self._record(request)
        if record.status != "InService":
            raise RequestError(
                f"Unable to create a presigned URL: notebook instance status is ({record.status}), expected InService"
            )
        name = record.notebook_instance_name
        token = self._sign(name, int(time.time()) + TOKEN_LIFETIME_S)
        url = f"http://127.0.0.1:{self._instances[name].port}/tree?authToken={token}"
        return json_answer({"AuthorizedUrl": url})

    def _sign(self, name: str, expiry: int) -> str:
        """The counterpart of ``jupyter_identity.is_valid``."""
        claim = f"{name}.{expiry}"
        signature = hmac.new(self._key, claim.encode(), hashlib.sha256).hexdigest()
        return base64.urlsafe_b64encode(f"{claim}.{signature}".encode()).decode()

    def _boot(self, record: Any, *, first_start: bool) -> None:
        name = record.notebook_instance_name
        record.status = "Pending"
        self._reasons.pop(name, None)

        def report(status: str, reason: str) -> None:
            with self._lock:
                if record.status == "Pending":
                    record.status, record.last_modified_time = status, _now()
                    self._reasons.update({name: reason} if reason else {})

        role = roles.name_from_arn(record.role_arn)
        instance = Instance(self._settings, name, role, self._key_file, report)
        self._instances[name] = instance
        configs = moto_bridge.backend("sagemaker").notebook_instance_lifecycle_configurations
        instance.start(scripts_of(configs.get(record.lifecycle_config_name), first_start=first_start))

    def _in_background(self, record: Any, status: str | None) -> None:
        """End the instance's processes, then set its status, or (None) forget it and its volume."""
        name = record.notebook_instance_name

        def work() -> None:
            instance = self._instances[name]
            instance.stop()
            with self._lock:
                if status is not None:
                    record.status, record.last_modified_time = status, _now()
                    return
                instance.delete_volume()
                self._interfaces.pop(record.arn, None)
                ec2_guests.leave(record.arn)
                del self._instances[name]
                self._metadata_services.pop(name, None)
                del moto_bridge.backend("sagemaker").notebook_instances[name]

        threading.Thread(target=work, name=f"stop {name}", daemon=True).start()

    def stop_all(self) -> None:
        """End every instance's processes, for the end of the sandbox."""
        for instance in list(self._instances.values()):
            instance.stop()

    def _record(self, request: dict[str, Any]) -> Any:
        name = request.get("NotebookInstanceName", "")
        record = moto_bridge.backend("sagemaker").notebook_instances.get(name)
        if record is None:
            raise RequestError("RecordNotFound")
        return record

    @staticmethod
    def _expect(record: Any, statuses: set[str], target: str) -> None:
        if record.status not in statuses:
            raise RequestError(
                f"Status ({record.status}) not in ([{', '.join(sorted(statuses))}]). "
                f"Unable to transition to ({target}) for Notebook Instance ({record.arn})"
            )

    @staticmethod
    def _check_role(role_arn: str, notebook: str) -> None:
        source = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:notebook-instance/{notebook.lower()}"
        if not roles.trusts(roles.name_from_arn(role_arn), TRUSTED, source):
            raise RequestError(
                f"RoleArn {role_arn}: expected an existing role whose trust policy allows sagemaker.amazonaws.com "
                "to assume it"
            )

    # ---- lifecycle configurations

    @staticmethod
    def _check_config(name: str | None) -> None:
        if name and name not in moto_bridge.backend("sagemaker").notebook_instance_lifecycle_configurations:
            raise RequestError(f"Lifecycle configuration {name} does not exist.")

    @staticmethod
    def _check_scripts(request: dict[str, Any]) -> None:
        for hook in ("OnCreate", "OnStart"):
            for step in request.get(hook) or []:
                if not 1 <= len(step.get("Content", "")) <= SCRIPT_CHARACTERS_MAX:
                    raise RequestError(f"{hook}: expected 1–{SCRIPT_CHARACTERS_MAX} characters of base64.")

    def _create_config(self, pass_on: Callable[[], Answer], request: dict[str, Any]) -> Answer:
        self._check_scripts(request)
        answer = pass_on()
        if answer[0] == 200:
            arn = moto_bridge.decode(answer)["NotebookInstanceLifecycleConfigArn"]
            self._config_tags[arn] = list(request.get("Tags", []))
        return answer

    def _update_config(self, pass_on: Callable[[], Answer], request: dict[str, Any]) -> None:
        self._check_scripts(request)
        name = request["NotebookInstanceLifecycleConfigName"]
        self._check_config(name)
        config = moto_bridge.backend("sagemaker").notebook_instance_lifecycle_configurations[name]
        config.on_create = request.get("OnCreate", config.on_create)
        config.on_start = request.get("OnStart", config.on_start)
        config.last_modified_time = _now()

    def _list_configs(self, pass_on: Callable[[], Answer], request: dict[str, Any]) -> Answer:
        configs = moto_bridge.backend("sagemaker").notebook_instance_lifecycle_configurations
        return json_answer(
            {
                "NotebookInstanceLifecycleConfigs": [
                    {
                        "NotebookInstanceLifecycleConfigName": name,
                        "NotebookInstanceLifecycleConfigArn": config.arn,
                        "CreationTime": config.creation_time.timestamp(),
                        "LastModifiedTime": config.last_modified_time.timestamp(),
                    }
                    for name, config in sorted(configs.items())
                    if request.get("NameContains", "") in name
                ]
            }
        )

    # ---- tags: moto appends a second tag of the same key, and knows none of lifecycle configurations

    def _tags(self, arn: str) -> list[dict[str, str]]:
        if ":notebook-instance-lifecycle-config/" in arn:
            self._check_config(arn.rpartition("/")[2])
            return self._config_tags.setdefault(arn, [])
        tags: list[dict[str, str]] = self._record({"NotebookInstanceName": arn.rpartition("/")[2]}).tags
        return tags

    def _add_tags(self, pass_on: Callable[[], Answer], request: dict[str, Any]) -> Answer:
        tags = self._tags(request["ResourceArn"])
        added = {tag["Key"] for tag in request["Tags"]}
        tags[:] = [tag for tag in tags if tag["Key"] not in added] + request["Tags"]
        return json_answer({"Tags": tags})

    def _list_tags(self, pass_on: Callable[[], Answer], request: dict[str, Any]) -> Answer:
        return json_answer({"Tags": self._tags(request["ResourceArn"])})

    def _delete_tags(self, pass_on: Callable[[], Answer], request: dict[str, Any]) -> Answer:
        tags = self._tags(request["ResourceArn"])
        tags[:] = [tag for tag in tags if tag["Key"] not in request["TagKeys"]]
        return json_answer({})


def _now() -> datetime:
    """The clock of moto's records: naive UTC."""
    return datetime.now(timezone.utc).replace(tzinfo=None)
