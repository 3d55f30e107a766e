"""Groups of devices or features, as a file beside a workflow's script names them: a name, and patterns of members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import yaml
from twinops.errors import TwinopsError

OTHERS = "others"
"""The group of whatever no group names."""


class GroupsError(TwinopsError):
    """A file of groups cannot be used: says where and what was expected."""


def load(file: Path) -> dict[str, list[str]]:
    """The groups of a file, in its order; none for an empty one.

    :raises GroupsError: it cannot be read, or has something else than names of groups, each with a list of patterns
    """
    try:
        found = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise GroupsError(f"{file}: expected groups: {error}") from error
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise GroupsError(f"{file}: expected names of groups, each with a list of patterns, got {found!r}")
    for name, patterns in found.items():
        if not isinstance(name, str):
            raise GroupsError(f"{file}: {name!r}: expected the name of a group, as text")
        if not isinstance(patterns, list) or not all(isinstance(one, str) for one in patterns):
            raise GroupsError(f"{file}: {name}: expected a list of patterns such as [device-0*], got {patterns!r}")
    return dict(found)


def group_of(member: str, groups: Mapping[str, Sequence[str]]) -> str:
    """The first group that names a member (``*`` and ``?`` stand for anything), or :data:`OTHERS`."""
    return next((name for name, some in groups.items() if any(fnmatchcase(member, one) for one in some)), OTHERS)
