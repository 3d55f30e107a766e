"""What the twins may read."""

from __future__ import annotations

from collections.abc import Sequence

from .. import data_sources, policies
from ..data_sources import Source
from ..resources import ManagedPolicy, Resource
from .common import Estate, Options, managed_policy

PART = "data_access"

OPTIONS = {"sources": data_sources.LIST}


def resources(estate: Estate, options: Options) -> tuple[Resource, ...]:
    """One policy for both twins: what is written on the development twin finds the same data on the deployment twin."""
    return (policy(estate, data_sources.parse(options["sources"])),)


def policy(estate: Estate, sources: Sequence[Source]) -> ManagedPolicy:
    """The policy that the twins' roles have attached."""
    description = "What the twins of an environment may read: its own buckets and the data sources of its spec."
    document = policies.data_access(estate.scope, sources)
    return managed_policy(estate, PART, policies.DATA_ACCESS, description, document)
