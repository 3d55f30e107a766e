"""Tags come as lists of pairs in most of AWS, and as maps in the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def as_pairs(tags: Mapping[str, str], key: str = "Key", value: str = "Value") -> list[dict[str, str]]:
    return [{key: name, value: text} for name, text in sorted(tags.items())]


def from_pairs(pairs: Iterable[Mapping[str, str]], key: str = "Key", value: str = "Value") -> dict[str, str]:
    return {pair[key]: pair[value] for pair in pairs}
