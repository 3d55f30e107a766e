"""The machine on which Airflow and Ansible run: reached by Session Manager only."""

from __future__ import annotations

from .. import policies
from ..errors import SpecError
from ..names import NAME_TAG
from ..resources import Instance, InstanceProfile, Resource
from .common import Estate, Options, role

PART = "airflow"

OPTIONS = {
    "enabled": {"type": "bool", "default": False},
    "instance_type": {"type": "str", "default": "t3.medium"},
    "volume_size_gb": {"type": "int", "default": 30},
    "running": {"type": "bool", "default": True},
    "subnet": {"type": "str", "default": "private-1"},
    "image_parameter": {
        "type": "str",
        "default": "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
    },
    "user_data": {"type": "str", "default": ""},
}

USER_DATA_LIMIT = 16384
"""Bytes of an instance's user data (AWS), before it is encoded."""


def resources(estate: Estate, options: Options) -> tuple[Resource, ...]:
    """Raises SpecError if the script is larger than AWS takes."""
    if not options["enabled"]:
        return ()
    size = len(options["user_data"].encode())
    if size > USER_DATA_LIMIT:
        raise SpecError([f"airflow: user_data: expected at most {USER_DATA_LIMIT} bytes, got {size}"])
    scope, names = estate.scope, estate.scope.names
    host = role(estate, PART, policies.HOST, policies.host(scope))
    instance = Instance(
        name=names.host,
        tags={**estate.tags(PART), "Name": names.host, NAME_TAG: names.host},
        instance_type=options["instance_type"],
        subnet=names.subnet(options["subnet"]),
        security_groups=(names.security_group("host"),),
        profile=names.host,
        public_address=False,
        metadata_tokens="required",
        metadata_hop_limit=1,  # containers on it get no keys of the host
        volume_type="gp3",
        volume_size_gb=options["volume_size_gb"],
        volume_encrypted=True,
        running=options["running"],
        image_parameter=options["image_parameter"],
        user_data=options["user_data"],
    )
    return (host, InstanceProfile(names.host, {}, role=host.name), instance)
