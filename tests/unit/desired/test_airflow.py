"""The host of Airflow and Ansible."""

from __future__ import annotations

from typing import Any

import pytest
from twinops.errors import SpecError
from twinops.resources import Instance, InstanceProfile, Role

from tests.unit.desired.support import part


def host(**options: Any) -> tuple[Role, InstanceProfile, Instance]:
    role, profile, instance = part("airflow", {"enabled": True, **options})
    assert isinstance(role, Role)
    assert isinstance(profile, InstanceProfile)
    assert isinstance(instance, Instance)
    return role, profile, instance


def test_there_is_none_unless_it_is_asked_for() -> None:
    assert part("airflow", {}) == ()


def test_it_is_reached_by_nothing_but_session_manager() -> None:
    _, _, instance = host(subnet="private-2")
    assert not instance.public_address
    assert instance.subnet == "twinops-staging-private-2"
    assert instance.security_groups == ("twinops-staging-host",)
    assert (instance.metadata_tokens, instance.metadata_hop_limit) == ("required", 1)
    assert instance.volume_encrypted


def test_its_role_may_be_reached_and_act_as_mlops_and_nothing_else() -> None:
    role, profile, instance = host()
    assert (profile.role, instance.profile) == (role.name, profile.name)
    (document,) = role.policies.values()
    actions = {action for statement in document["Statement"] for action in statement["Action"]}
    assert actions == {
        "ssm:UpdateInstanceInformation",
        "ssmmessages:CreateControlChannel",
        "ssmmessages:CreateDataChannel",
        "ssmmessages:OpenControlChannel",
        "ssmmessages:OpenDataChannel",
        "sts:AssumeRole",
    }
    assert role.trust["Statement"][0]["Principal"] == {"Service": ["ec2.amazonaws.com"]}


def test_a_script_that_aws_would_refuse() -> None:
    with pytest.raises(SpecError, match="user_data: expected at most 16384 bytes, got 16386"):
        host(user_data="ü" * 8193)
