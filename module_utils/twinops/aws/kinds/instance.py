"""EC2 instances. Their size changes only while they are stopped; the plan's steps say when."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, cast

from ...plan import Change, Observed
from ...resources import Instance
from ...status import RECONCILING, Condition
from .. import ec2
from ..session import Aws, until, until_accepted

SERVICES = ("ec2", "ssm")
WORKERS = 1
READ_BACK = True

RUNNING, STOPPED, TERMINATED = "running", "stopped", "terminated"
_STARTING = ("pending", RUNNING)
_TRANSITION_TIMEOUT_S = 600
_NOT_READY = ("Invalid IAM Instance Profile", "InvalidSubnetID.NotFound", "InvalidGroup.NotFound")


def observe(aws: Aws, names: Collection[str]) -> dict[str, Observed]:
    found = ec2.found(aws, Instance.kind, names)
    volumes = _volumes(aws, [_root_volume(record) for record in found.values()])
    return {name: _observed(aws, name, record, volumes) for name, record in found.items()}


def _observed(aws: Aws, name: str, record: ec2.Record, volumes: Mapping[str, ec2.Record]) -> Observed:
    state, metadata = record["State"]["Name"], record.get("MetadataOptions", {})
    volume_id = _root_volume(record)
    volume = volumes.get(volume_id, {})
    instance = Instance(
        name=name,
        tags=ec2.tags_of(record),
        instance_type=record["InstanceType"],
        subnet=ec2.name_of(aws, "subnet", record["SubnetId"]),
        security_groups=ec2.names_of(aws, "security_group", (each["GroupId"] for each in record["SecurityGroups"])),
        profile=record.get("IamInstanceProfile", {}).get("Arn", "").rpartition("/")[2],
        public_address=bool(record.get("PublicIpAddress")),
        metadata_tokens=metadata.get("HttpTokens", ""),
        metadata_hop_limit=int(metadata.get("HttpPutResponseHopLimit", 0)),
        volume_type=volume.get("VolumeType", ""),
        volume_size_gb=int(volume.get("Size", 0)),
        volume_encrypted=bool(volume.get("Encrypted")),
        running=state in _STARTING,
    )
    changing = Condition(RECONCILING, Instance.kind, name, state, "its state changes", passes=True)
    conditions = () if state in (RUNNING, STOPPED) else (changing,)
    return Observed(instance, {"id": record["InstanceId"], "volume_id": volume_id}, conditions)


def _root_volume(record: ec2.Record) -> str:
    devices = {each["DeviceName"]: each["Ebs"]["VolumeId"] for each in record.get("BlockDeviceMappings", [])}
    return str(devices.get(record.get("RootDeviceName"), ""))


def _volumes(aws: Aws, volume_ids: Collection[str]) -> dict[str, ec2.Record]:
    wanted = [each for each in volume_ids if each]
    if not wanted:
        return {}
    return {each["VolumeId"]: each for each in aws.client("ec2").describe_volumes(VolumeIds=wanted)["Volumes"]}


def create(aws: Aws, change: Change) -> None:
    """From the image that AWS recommends now. A request that is repeated makes no second one: botocore adds a token."""
    client, instance = aws.client("ec2"), cast(Instance, change.desired)
    image_id = aws.client("ssm").get_parameter(Name=instance.image_parameter)["Parameter"]["Value"]
    (image,) = client.describe_images(ImageIds=[image_id])["Images"]
    subnet_id = ec2.id_of(aws, "subnet", instance.subnet)
    group_ids = ec2.ids_of(aws, "security_group", instance.security_groups)
    volume = {
        "VolumeType": instance.volume_type,
        "VolumeSize": instance.volume_size_gb,
        "Encrypted": instance.volume_encrypted,
        "DeleteOnTermination": True,
    }
    made = until_accepted(
        lambda: client.run_instances(
            MinCount=1,
            MaxCount=1,
            ImageId=image_id,
            InstanceType=instance.instance_type,
            IamInstanceProfile={"Name": instance.profile},
            SubnetId=subnet_id,
            SecurityGroupIds=group_ids,
            MetadataOptions=_metadata_options(instance),
            BlockDeviceMappings=[{"DeviceName": image["RootDeviceName"], "Ebs": volume}],
            UserData=instance.user_data,
            TagSpecifications=ec2.tagged(instance.kind, instance.tags, "volume", "network-interface"),
        ),
        _NOT_READY,
    )
    if not instance.running:
        _stop(aws, instance.name, made["Instances"][0]["InstanceId"])


def update(aws: Aws, change: Change) -> None:
    client, instance = aws.client("ec2"), cast(Instance, change.desired)
    handles = cast(Observed, change.observed).handles
    instance_id = handles["id"]
    if "tags" in change.fields:
        ec2.tag(aws, instance_id, instance.tags)
    if "security_groups" in change.fields:
        groups = ec2.ids_of(aws, "security_group", instance.security_groups)
        client.modify_instance_attribute(InstanceId=instance_id, Groups=groups)
    if {"metadata_tokens", "metadata_hop_limit"} & set(change.fields):
        client.modify_instance_metadata_options(InstanceId=instance_id, **_metadata_options(instance))
    if "profile" in change.fields:
        _set_profile(client, instance_id, instance.profile)
    if "stop" in change.steps:
        _stop(aws, instance.name, instance_id)
    if {"volume_type", "volume_size_gb"} & set(change.fields):
        client.modify_volume(
            VolumeId=handles["volume_id"], VolumeType=instance.volume_type, Size=instance.volume_size_gb
        )
    if "instance_type" in change.fields:
        _wait_until(aws, instance.name, instance_id, STOPPED)
        client.modify_instance_attribute(InstanceId=instance_id, InstanceType={"Value": instance.instance_type})
    if "start" in change.steps:
        _wait_until(aws, instance.name, instance_id, STOPPED)
        client.start_instances(InstanceIds=[instance_id])


def delete(aws: Aws, change: Change) -> None:
    """Until it is gone: before, its interface uses its subnet and security group."""
    instance_id = cast(Observed, change.observed).handles["id"]
    ec2.removed(aws.client("ec2").terminate_instances, InstanceIds=[instance_id])
    _wait_until(aws, change.name, instance_id, TERMINATED)


def _metadata_options(instance: Instance) -> dict[str, Any]:
    return {
        "HttpEndpoint": "enabled",
        "HttpTokens": instance.metadata_tokens,
        "HttpPutResponseHopLimit": instance.metadata_hop_limit,
    }


def _set_profile(client: Any, instance_id: str, profile: str) -> None:
    filters = [{"Name": "instance-id", "Values": [instance_id]}, {"Name": "state", "Values": ["associated"]}]
    found = client.describe_iam_instance_profile_associations(Filters=filters)["IamInstanceProfileAssociations"]
    wanted = {"IamInstanceProfile": {"Name": profile}}
    for association in found:
        client.replace_iam_instance_profile_association(AssociationId=association["AssociationId"], **wanted)
    if not found:
        until_accepted(lambda: client.associate_iam_instance_profile(InstanceId=instance_id, **wanted), _NOT_READY)


def _stop(aws: Aws, name: str, instance_id: str) -> None:
    _wait_until(aws, name, instance_id, RUNNING)  # one that still starts cannot be stopped
    aws.client("ec2").stop_instances(InstanceIds=[instance_id])
    _wait_until(aws, name, instance_id, STOPPED)


def _wait_until(aws: Aws, name: str, instance_id: str, state: str) -> None:
    def is_reached() -> bool:
        found = ec2.accepted(aws.client("ec2").describe_instances, InstanceIds=[instance_id])["Reservations"]
        return bool((found[0]["Instances"][0]["State"]["Name"] if found else TERMINATED) == state)

    until(is_reached, f"instance {name}: {state}", _TRANSITION_TIMEOUT_S)
