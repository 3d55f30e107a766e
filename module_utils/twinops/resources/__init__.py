"""What an environment consists of: one frozen dataclass a kind of AWS resource.

A desired and an observed resource have the same type, so that a plan is a comparison of two values, field by field.
Every field is one that twinops owns: it is set on creation, compared on every run and repaired when it differs.
What nobody declared here (a colleague's tag, a resource policy) is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from .access import ManagedPolicy, OidcProvider, Role
from .base import Json, Resource, Scope
from .host import Instance, InstanceProfile
from .network import (
    ElasticIp,
    InternetGateway,
    NatGateway,
    RouteTable,
    SecurityGroup,
    SecurityRules,
    Subnet,
    Traffic,
    Vpc,
    VpcEndpoint,
)
from .notifications import Key, Topic
from .observability import Alarm, CompositeAlarm, Dashboard, LogGroup
from .storage import Bucket, Table
from .twins import LifecycleConfig, Notebook
from .workflows import Function, Layer, Queue, Rule, Schedule, ScheduleGroup

__all__ = [
    "KINDS",
    "ORDER",
    "Alarm",
    "Bucket",
    "CompositeAlarm",
    "Dashboard",
    "ElasticIp",
    "Function",
    "Instance",
    "InstanceProfile",
    "InternetGateway",
    "Json",
    "Key",
    "Layer",
    "LifecycleConfig",
    "LogGroup",
    "ManagedPolicy",
    "NatGateway",
    "Notebook",
    "OidcProvider",
    "Queue",
    "Resource",
    "Role",
    "RouteTable",
    "Rule",
    "Schedule",
    "ScheduleGroup",
    "Scope",
    "SecurityGroup",
    "SecurityRules",
    "Subnet",
    "Table",
    "Topic",
    "Traffic",
    "Vpc",
    "VpcEndpoint",
    "made_before",
    "removed_before",
]

KINDS: Mapping[str, type[Resource]] = {
    each.kind: each
    for each in (
        OidcProvider,
        ManagedPolicy,
        Role,
        Key,
        Queue,
        Bucket,
        Table,
        Topic,
        LogGroup,
        Vpc,
        InternetGateway,
        Subnet,
        ElasticIp,
        NatGateway,
        RouteTable,
        SecurityGroup,
        SecurityRules,
        VpcEndpoint,
        Layer,
        Function,
        LifecycleConfig,
        Notebook,
        InstanceProfile,
        Instance,
        Rule,
        ScheduleGroup,
        Schedule,
        Alarm,
        CompositeAlarm,
        Dashboard,
    )
}

ORDER = tuple(KINDS)
"""Kinds in the order in which they are made: each after those that it ``needs``. Removal goes the opposite way."""


def made_before(kind: str) -> frozenset[str]:
    """All kinds that ``kind`` needs, directly or not."""
    return frozenset(KINDS[kind].needs).union(*(made_before(each) for each in KINDS[kind].needs))


def removed_before(kind: str) -> frozenset[str]:
    """All kinds that need ``kind``, directly or not."""
    return frozenset(each for each in KINDS if kind in made_before(each))
