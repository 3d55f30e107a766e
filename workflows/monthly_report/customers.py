"""Who owns which devices and what was agreed: ``inventories/<env>/group_vars/<env>/customers.yml`` of the run's commit.

One place for people, Ansible and this report; docs/workflows.md describes its fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml
from twinops.errors import TwinopsError


class CustomerError(TwinopsError):
    """The table of customers cannot be used: says where and what was expected."""


@dataclass(frozen=True)
class Agreed:
    """What a customer was promised of a feature; None: nothing."""

    least_recall: float | None = None
    """Share of the real anomalies that raise an alarm, at least."""
    most_false_alarm_rate: float | None = None
    """Share of the normal records that raise one all the same, at most."""
    silent_after_min: int = 60
    """A device that decided nothing for so long was silent."""

    def __post_init__(self) -> None:
        """:raises ValueError: what a report would be measured by for good, and is no share or time"""
        for name in ("least_recall", "most_false_alarm_rate"):
            value = getattr(self, name)
            if value is not None and not (type(value) in (int, float) and 0 <= value <= 1):
                raise ValueError(f"{name}: expected a share from 0 to 1, got {value!r}")
        if type(self.silent_after_min) is not int or self.silent_after_min < 1:
            raise ValueError(f"silent_after_min: expected whole minutes, 1 or more, got {self.silent_after_min!r}")


@dataclass(frozen=True)
class Owned:
    """A device in the time in which it was the customer's; ``until`` is the first day on which it no longer was."""

    device: str
    since: date
    until: date


@dataclass(frozen=True)
class Customer:
    """A customer, the feature that he has, and how it is called."""

    name: str
    title: str
    feature: str
    feature_title: str
    model: str
    """Releases whose ``model.name`` this is are the feature."""
    agreed: Agreed
    patterns: tuple[tuple[str, date, date], ...]
    """Names of devices (``*`` and ``?`` stand for anything), since when, until when."""

    def owned(self, devices: Sequence[str], start: date, end: date) -> list[Owned]:
        """The customer's devices between two days, each time of ownership clipped to them."""
        found = (
            Owned(device, max(since, start), min(until, end))
            for device in devices
            for pattern, since, until in self.patterns
            if fnmatchcase(device, pattern) and max(since, start) < min(until, end)
        )
        return sorted(found, key=lambda one: (one.device, one.since))


def owners(customers: Sequence[Customer], devices: Sequence[str], start: date, end: date) -> dict[str, list[Owned]]:
    """Which devices each customer has between two days, by the customer's name.

    ``customers``: all who have the feature, since no device may have two owners at a time.

    :raises CustomerError: one has
    """
    found = {who.name: who.owned(devices, start, end) for who in customers}
    every = sorted(
        ((one, name) for name, some in found.items() for one in some), key=lambda it: (it[0].device, it[0].since)
    )
    for (one, name), (other, other_name) in zip(every, every[1:]):
        if one.device == other.device and other.since < one.until:
            raise CustomerError(
                f"customers: {one.device}: expected one match at a time, at {other.since} it is matched twice "
                f"({' and '.join(dict.fromkeys((name, other_name)))})"
            )
    return found


def path(clone: Path, env: str) -> Path:
    """Where the table of an environment is."""
    return clone / "inventories" / env / "group_vars" / env / "customers.yml"


def load(file: Path, feature: str) -> list[Customer]:
    """The customers who have a feature.

    :raises CustomerError: no such file or feature, nobody has it, or a field is wrong
    """
    try:
        data = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise CustomerError(f"{file}: expected the table of customers: {error}") from error
    features, customers = (_mapping(data, key, str(file)) for key in ("customer_features", "customers"))
    if feature not in features:
        raise CustomerError(f"{file}: customer_features: expected one of {_names(features)}, got {feature!r}")
    found = [
        _customer(name, customers[name], feature, features[feature], str(file))
        for name in customers
        if feature in _mapping(customers[name], "features", f"{file}: {name}")
    ]
    if not found:
        raise CustomerError(f"{file}: customers: expected some who have {feature}, got none")
    return found


def chosen(customers: Sequence[Customer], name: str) -> list[Customer]:
    """The one who was asked for, or all for an empty name.

    :raises CustomerError: there is none of that name
    """
    found = [one for one in customers if name in ("", one.name)]
    if not found:
        known = _names(one.name for one in customers)
        raise CustomerError(f"customers: expected one who has {customers[0].feature} ({known}), got {name!r}")
    return found


def _customer(name: str, data: Mapping[str, Any], feature: str, about: Mapping[str, Any], where: str) -> Customer:
    try:
        agreed = Agreed(**data["features"][feature] or {})
        patterns = tuple(
            (str(one["match"]), _day(one.get("since"), date.min), _day(one.get("until"), date.max))
            for one in data["devices"]
        )
        return Customer(name, str(data["title"]), feature, str(about["title"]), str(about["model"]), agreed, patterns)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CustomerError(
            f"{where}: customers.{name}: expected title, features and devices (match, since, until): {error!r}"
        ) from error


def _day(value: Any, default: date) -> date:
    if value is None:
        return default
    if type(value) is not date:
        raise ValueError(f"expected a day such as 2026-10-01, got {value!r}")
    return value


def _mapping(data: Any, key: str, where: str) -> Mapping[str, Any]:
    value = data.get(key) if isinstance(data, Mapping) else None
    if not isinstance(value, Mapping):
        raise CustomerError(f"{where}: {key}: expected a mapping, got {value!r}")
    return value


def _names(known: Any) -> str:
    return ", ".join(sorted(map(str, known))) or "none"


def releases_of(clone: Path, model: str) -> set[str]:
    """Versions in ``edge/releases`` of a commit that have a model of that name."""
    found = set()
    for file in sorted((clone / "edge/releases").glob("*.yml")):
        data = yaml.safe_load(file.read_text("utf-8"))
        if isinstance(data, Mapping) and isinstance(data.get("model"), Mapping) and data["model"].get("name") == model:
            found.add(file.stem)
    return found
