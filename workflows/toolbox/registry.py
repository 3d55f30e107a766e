"""Versions of a model, and which was champion at any time: :mod:`twinops.aws.registry`, for scripts.

Publishing a release and finishing its rollout write the same registry from the control host.
"""

from __future__ import annotations

from twinops.aws.registry import (
    CHALLENGER,
    CHAMPION,
    PREFIX,
    PREVIOUS,
    Event,
    Registry,
    RegistryError,
    State,
    Version,
    after,
)

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "PREFIX",
    "PREVIOUS",
    "Event",
    "Registry",
    "RegistryError",
    "State",
    "Version",
    "after",
]
