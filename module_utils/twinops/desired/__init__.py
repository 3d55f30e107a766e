"""Specs -> resources: what an environment should consist of. Pure: no I/O, no AWS, no clock.

One file a part, named like the role of Ansible that declares it. Names, ARNs, policies and tags follow from the scope;
people only choose what a spec says (how long to keep, whom to tell, how large). Each part offers ``OPTIONS`` (an
argument spec of Ansible, as plain data) and ``resources(estate, options)``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from ..errors import SpecError
from ..names import PART_TAG
from ..resources import Resource
from . import airflow, bootstrap, data_access, env, network, notifications, observability, storage, twins, workflows
from .common import WORKFLOW_TAG, DispatchCode, Estate, Options

__all__ = [
    "BOOTSTRAP",
    "OPTIONS",
    "PARTS",
    "WORKFLOW_TAG",
    "DispatchCode",
    "Estate",
    "Options",
    "belonging_to",
    "resources",
]

BOOTSTRAP = bootstrap.PART
"""What the administrator of an account makes; all other parts are the environment that is deployed."""

_PARTS = (bootstrap, env, network, storage, data_access, notifications, observability, twins, airflow, workflows)

PARTS: Mapping[str, Callable[[Estate, Options], tuple[Resource, ...]]] = {each.PART: each.resources for each in _PARTS}
OPTIONS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {each.PART: each.OPTIONS for each in _PARTS}


def resources(estate: Estate, declared: Mapping[str, Options]) -> tuple[Resource, ...]:
    """The resources of the ``declared`` parts, each once. Raises SpecError for what AWS would not take.

    A part may have a resource that belongs to another part (its tag says to which): both must want the same.
    """
    made: dict[tuple[str, str], tuple[str, Resource]] = {}
    mistakes = []
    for part, options in declared.items():
        for resource in PARTS[part](estate, options):
            other, same = made.setdefault((resource.kind, resource.name), (part, resource))
            if same != resource:
                mistakes.append(
                    f"{resource.kind} {resource.name}: expected {other} and {part} to be given the same options "
                    "that it depends on, they differ: wire them to the same variable"
                )
    if mistakes:
        raise SpecError(mistakes)
    return tuple(resource for _, resource in made.values())


def belonging_to(resources: Iterable[Resource], parts: Collection[str]) -> tuple[Resource, ...]:
    """Those of ``resources`` that are no other part's: what removing these parts may remove."""
    return tuple(each for each in resources if not each.taggable or each.tags.get(PART_TAG) in parts)
