"""Specs -> resources: what an environment should consist of. Pure: no I/O, no AWS, no clock.

One file a part, named like the role of Ansible that declares it. Names, ARNs, policies and tags follow from the scope;
people only choose what a spec says (how long to keep, whom to tell, how large). Each part offers ``OPTIONS`` (an
argument spec of Ansible, as plain data) and ``resources(estate, options)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..resources import Resource
from . import airflow, env, network, notifications, observability, storage, twins, workflows
from .common import WORKFLOW_TAG, DispatchCode, Estate, Options

__all__ = ["OPTIONS", "PARTS", "WORKFLOW_TAG", "DispatchCode", "Estate", "Options", "resources"]

_PARTS = (env, network, storage, notifications, observability, twins, airflow, workflows)

PARTS: Mapping[str, Callable[[Estate, Options], tuple[Resource, ...]]] = {each.PART: each.resources for each in _PARTS}
OPTIONS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {each.PART: each.OPTIONS for each in _PARTS}


def resources(estate: Estate, declared: Mapping[str, Options]) -> tuple[Resource, ...]:
    """The resources of the ``declared`` parts. Raises SpecError for what AWS would not take."""
    return tuple(resource for part, options in declared.items() for resource in PARTS[part](estate, options))
