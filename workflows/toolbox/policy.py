"""Policies: the limits that verdicts obey, as documented and versioned YAML in ``toolbox/policies``."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import yaml
from twinops.errors import SpecError

FOLDER = Path(__file__).with_name("policies")
Kind = TypeVar("Kind")


def load(kind: type[Kind], path: str | Path) -> Kind:
    """The policy in a file, as ``kind``: a dataclass of numbers, each field of which the file must have.

    :raises SpecError: lists every mistake: no YAML, a key that is unknown, missing, or not a number of at least 0
    """
    try:
        data = yaml.safe_load(Path(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SpecError([f"{path}: expected a policy as YAML: {' '.join(str(error).split())}"]) from error
    if not isinstance(data, dict):
        raise SpecError([f"{path}: expected a mapping, got {data!r:.80}"])
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    mistakes = [f"{path}: {name}: unknown key, expected one of {', '.join(names)}" for name in set(data) - set(names)]
    mistakes += [f"{path}: {name}: expected a number, it is missing" for name in names if name not in data]
    mistakes += [
        f"{path}: {name}: expected a number of at least 0, got {value!r}"
        for name, value in data.items()
        if name in names and not _is_limit(value)
    ]
    if mistakes:
        raise SpecError(sorted(mistakes))
    return kind(**data)


def _is_limit(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0
