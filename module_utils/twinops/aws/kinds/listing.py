"""Where AWS lists many resources in one call, by a prefix of their names."""

from __future__ import annotations

from collections.abc import Collection


def common_prefix(names: Collection[str]) -> str:
    """The longest prefix of all ``names`` (at least one): the narrowest listing that has them all."""
    first, last = min(names), max(names)  # all the others are between these two
    length = next((i for i, pair in enumerate(zip(first, last)) if len(set(pair)) > 1), len(first))
    return first[:length]
